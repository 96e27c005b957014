"""An ablation beside the other steps of the method."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from tipping.ablation import ablated, evaluate_ablations
from tipping.data import Split
from tipping.files import digest
from tipping.network import Filters
from tipping.selection import collect


def test_nothing_is_written_to_a_network(model: nn.Module, split: Split) -> None:
    """Not its attributes, hooks, mode, gradients or state, also after an exception."""

    def state() -> list[object]:
        modules = [(name, id(module), module.training, sorted(vars(module))) for name, module in model.named_modules()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
        gradients = [parameter.grad for parameter in model.parameters()]
        return [*modules, *hooks, *gradients, digest(model.state_dict())]

    model.train()
    before = state()
    filters = Filters.of(model, split[:1].images_NCHW, maps="all", dense=True)
    with ablated(filters, np.array([0, 20])):
        evaluate_ablations(filters, split[:9], [np.array([1])])
    collect(filters, split[:9])
    with pytest.raises(RuntimeError, match="on purpose"), ablated(filters, np.array([0])):
        raise RuntimeError("on purpose")
    assert state() == before

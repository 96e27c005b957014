from __future__ import annotations

import numpy as np
import pytest
import torch
from running import options_of, run_here
from torch import nn
from toys import filters_of

from tipping.data import Split
from tipping.errors import InputError
from tipping.experiment.config import deciding
from tipping.mu_lasso.solution import TOLERANCE
from tipping.selection import Measure, collect, require_memory, select_each


def test_more_filters_than_memory_are_refused_with_what_they_would_take(model: nn.Module) -> None:
    filters = filters_of(model)
    responses = len(filters.filter_R)
    takes = 42 * responses**2 / 1e9  # as measured, docs/solver.md
    require_memory(filters, 1.01 * takes)
    with pytest.raises(InputError, match=rf"selection.memory=.*: to select among {responses:,} responses takes .* GB"):
        require_memory(filters, 0.99 * takes)
    require_memory(filters, 0.99 * takes, "float32")


def test_a_job_of_too_many_filters_is_refused_before_it_trains() -> None:
    status, _, errors = run_here("interpret.py", "data=digits", "model.filters=8", "selection.memory=1e-6")
    assert status == 1
    assert "selection.memory=1e-06: to select among 40 responses takes 0.0 GB" in errors
    assert errors.count("\n") == 1


def test_half_the_memory_gives_the_same_filters_at_its_tolerance(model: nn.Module, split: Split) -> None:
    filters = filters_of(model)
    whole, half = (collect(filters, split, Measure(gram=gram)) for gram in ("float64", "float32"))
    assert half.gram_FF.nbytes * 2 == whole.gram_FF.nbytes
    exact, rounded = (select_each(problem, filters, [1, 10])[1] for problem in (whole, half))
    assert rounded.solution.certified_MC.all()
    # the certificate of the rounded problem holds for the other within the tolerance of float32
    gap_MC = whole.relative_gap(
        rounded.solution.weights_MFC.double(), torch.tensor([[10.0]], device=split.labels_N.device)
    )
    assert float(gap_MC.max()) <= TOLERANCE[torch.float32]
    assert (exact.order_K == rounded.order_K).mean() > 0.9
    assert np.allclose(exact.explainable_C, rounded.explainable_C, atol=1e-3)  # as float32 tells the rank


def test_half_the_memory_has_its_tolerance_and_its_place_in_the_store(model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"selection.tolerance=1e-08: selection.gram=float32 allows 1e-3"):
        options_of("selection.gram=float32")
    half = options_of("selection.gram=float32", "selection.tolerance=1e-3", "selection.memory=16")
    assert deciding(half)["selection"] == {
        "solver": "spg",
        "tolerance": 1e-3,
        "max_iterations": 20000,
        "gram": "float32",
    }
    assert "gram" not in deciding(options_of())["selection"]  # as in records from before there was a choice
    recipes = [Measure(gram=gram).recipe(filters_of(model)) for gram in ("float64", "float32")]
    assert recipes[0] == {key: value for key, value in recipes[1].items() if key != "gram"}
    assert recipes[0] != recipes[1]

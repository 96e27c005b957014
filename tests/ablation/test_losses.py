"""Losses under ablations, beside a plain pass of the masked network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from toys import filters_of

from tipping.ablation import ablated, evaluate_ablations, evaluate_losses
from tipping.data import Split


def test_losses_are_those_of_the_masked_network(model: nn.Module, split: Split) -> None:
    filters = filters_of(model)
    ablations = [np.array([], dtype=int), np.array([0]), np.array([17, 3, 3]), np.arange(18)]
    measured = evaluate_losses(filters, split, ablations)
    for gone, losses_N in zip(ablations, measured.losses_AN, strict=True):
        with ablated(filters, gone), torch.no_grad():
            logits_NC = model(split.images_NCHW).double()
        log_sums_N = logits_NC.logsumexp(1)
        expected_N = log_sums_N - logits_NC[torch.arange(len(split)), split.labels_N]
        np.testing.assert_allclose(losses_N, expected_N.cpu(), rtol=1e-5, atol=1e-6)  # float32 sums of other orders
    assert np.array_equal(measured.predictions_AN, evaluate_ablations(filters, split, ablations))


def test_labels_do_not_matter_to_predictions(model: nn.Module, split: Split) -> None:
    unknown = Split(split.images_NCHW, split.labels_N + 100)  # no logit has these
    gone = [np.array([2])]
    filters = filters_of(model)
    assert np.array_equal(evaluate_ablations(filters, unknown, gone), evaluate_ablations(filters, split, gone))

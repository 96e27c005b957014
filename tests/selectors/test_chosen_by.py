"""As many filters as the mu-lasso's, by another score: in jobs and in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from running import options_of, record_of, table_rows
from torch import nn
from toys import filters_of

import tipping
from tipping.data import Split
from tipping.experiment.config import deciding
from tipping.selection import Draws, collect, select_each
from tipping.selectors import Scores, chosen_by


def chosen(
    model: nn.Module, split: Split, values: np.ndarray, match: str = "layer"
) -> tuple[np.ndarray, list[np.ndarray]]:
    filters, draws = filters_of(model), Draws(3, match)
    problem = collect(filters, split)
    (selection,) = select_each(problem, filters, [5], draws=draws)
    other = chosen_by(Scores(values), selection, filters, 5, draws)
    assert other.solution is selection.solution
    assert len(other.order_K) <= len(selection.order_K) < 18
    assert np.array_equal(np.flatnonzero(other.relevant_F), np.sort(other.order_K))
    assert np.array_equal(np.flatnonzero(other.weights_RC.any(1)), np.sort(other.order_K))
    return other.order_K, other.controls


def test_the_largest_scores_are_chosen(model: nn.Module, split: Split, rng: np.random.Generator) -> None:
    values_F = rng.normal(size=18)
    order_K, controls = chosen(model, split, values_F)
    assert order_K.tolist() == np.argsort(-values_F)[: len(order_K)].tolist()
    layer_F = filters_of(model).index.layer_F
    assert all(np.array_equal(layer_F[control], layer_F[order_K]) for control in controls)


def test_scores_by_class_are_added_up_and_kept_as_weights(
    model: nn.Module, split: Split, rng: np.random.Generator
) -> None:
    values_FC = rng.normal(size=(18, 10))
    order_K, _ = chosen(model, split, values_FC)
    assert order_K.tolist() == np.argsort(-values_FC.sum(1))[: len(order_K)].tolist()


def test_ties_do_not_fall_to_the_first_layers(model: nn.Module, split: Split) -> None:
    """Scores such as the share of activations that are not zero are 1 for many filters of a network."""
    order_K, _ = chosen(model, split, np.ones(18))
    assert sorted(order_K.tolist()) != list(range(len(order_K)))
    assert order_K.tolist() == np.lexsort((np.random.default_rng((0, 3)).random(18),))[: len(order_K)].tolist()


def test_filters_that_score_nothing_are_never_chosen(model: nn.Module, split: Split) -> None:
    values_F = np.zeros(18)
    values_F[[3, 11]] = 1, -1
    assert chosen(model, split, values_F)[0].tolist() == [3, 11]


@pytest.mark.parametrize("match", ["live", "norm", "least_relevant"])
def test_dead_filters_may_be_chosen(model: nn.Module, split: Split, match: str) -> None:
    with torch.no_grad():
        model.get_submodule("conv1").weight[2] = 0
        model.get_submodule("conv1").bias[2] = -1
    values_F = np.arange(18, 0, -1.0)
    values_F[2] = 99
    order_K, controls = chosen(model, split, values_F, match)
    assert order_K[0] == 2
    assert all(len(np.unique(control)) == len(order_K) for control in controls)


def test_a_job_ablates_what_its_selector_chooses(
    run_script: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = run_script("interpret", "selector=mu_lasso,l1", "mu=5", multirun=True)
    assert code == 0, err
    first, second = (np.load(tmp_path / "out" / job / "selection.npz") for job in "01")
    record = record_of(tmp_path / "out" / "1")
    assert record["config"]["selector"] == "l1"
    weights = torch.load(next((tmp_path / "store" / "networks").glob("*.pt")), weights_only=True)["tensors"]
    l1_F = torch.cat([weights[name].abs().flatten(1).sum(1) for name in ("conv1.weight", "conv2.weight")])
    count = len(first["order"])
    assert (
        second["order"].tolist() == np.argsort(-l1_F.numpy(), kind="stable")[:count].tolist() != first["order"].tolist()
    )
    assert [row["selector"] for row in table_rows(tmp_path / "out" / "results.csv")] == ["mu_lasso", "l1"]
    assert "filters chosen by l1" in out + err


def test_an_unknown_selector_is_refused_before_a_training(
    run_script: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = run_script("interpret", "selector=l7")
    assert code == 1
    assert err.startswith("selector=l7: give one of")
    assert not list((tmp_path / "store").glob("networks/*.pt"))


def test_jobs_of_the_mu_lasso_are_what_they_were() -> None:
    assert "selector" not in deciding(options_of())
    assert deciding(options_of("selector=l1"))["selector"] == "l1"


def test_a_notebook_takes_a_selector(model: nn.Module, split: Split) -> None:
    batches = [
        (split.images_NCHW[start : start + 70], split.labels_N[start : start + 70]) for start in range(0, 700, 70)
    ]
    plain = tipping.relevant_filters(model, batches, mu=5)
    for source in (iter(batches), split):
        relevant = tipping.relevant_filters(model, source, mu=5, selector="share")
        assert len(relevant.order) == len(plain.order)
        share_F = collect(relevant.filters, split).gram_FF  # rows sum to the responses of one layer's
        layer_F = relevant.filters.index.layer_F
        mass_F = np.array([float(share_F[f][layer_F == layer_F[f]].sum()) for f in range(18)])
        assert set(relevant.order) == set(np.argsort(-mass_F)[: len(relevant.order)])
    with pytest.raises(tipping.InputError, match="selector"):
        tipping.relevant_filters(model, batches, selector="l7")


def test_a_notebook_compares_selectors(model: nn.Module, split: Split) -> None:
    found = tipping.compare_selectors(model, split, split[:200], ["l1", "share"], mu=5, draws=2)
    rows = found.rows()
    assert [row["orders"] for row in rows] == ["own"] * 3 + ["matched"] * 5
    assert sorted(row["area"] for row in rows[:3]) == [row["area"] for row in rows[:3]]
    assert {row["selector"] for row in rows} == {"l1", "share", "random", "random_layer", "random_live", "random_norm"}
    assert "selectors; removing filters costs most by" in repr(found)
    assert "<table>" in found._repr_html_()
    assert "share" in found.plot().to_json()

"""The lab's variants in jobs: weights of at least 0, responses as they are, and what the bound does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from running import record_of, tipping_here

from tipping.experiment import config


def weights_of(folder: Path) -> np.ndarray:
    with np.load(folder / "selection.npz") as held:
        return held["weights"]


def problem_in(store: Path) -> dict[str, np.ndarray]:
    """The products of the responses, as the store has them."""
    (path,) = (store / "responses").glob("*.pt")
    return {name: one.numpy() for name, one in torch.load(path, weights_only=True)["tensors"].items()}


def test_weights_of_at_least_zero_by_either_solver(run_script, tmp_path: Path) -> None:
    options = ["selection=spg,homotopy", "selection.positive=true,false", "mu=1", "model.filters=8"]
    code, _, err = run_script("interpret", *options, multirun=True)
    assert code == 0, err
    spg, signed, homotopy, _ = (weights_of(tmp_path / "out" / str(job)) for job in range(4))
    assert np.allclose(spg, homotopy, rtol=0, atol=1e-8)
    assert np.array_equal(spg != 0, homotopy != 0)
    assert (spg >= 0).all()
    assert (signed < 0).any()
    problem = problem_in(tmp_path / "store")  # of one pass: the responses are the same
    gradient = problem["gram_FF"] @ spg - problem["cross_FC"]
    reached = np.isclose(spg.sum(0), 1, rtol=1e-9)
    multiplier = np.maximum(-gradient.min(0), 0)
    scale = np.abs(problem["cross_FC"]).max()
    assert np.allclose(-gradient[spg > 0], np.broadcast_to(multiplier, spg.shape)[spg > 0], atol=1e-8 * scale)
    assert reached.any()
    assert (multiplier[~reached] < 1e-8 * scale).all()
    record = record_of(tmp_path / "out" / "0")
    assert record["selection"]["certified"]
    assert record["config"]["selection"]["positive"] is True


def test_options_that_older_records_lack_are_those_of_now() -> None:
    """Finished jobs of earlier versions stay finished."""
    chosen = {
        "data": {"name": "digits", "source": None},
        "selection": {"solver": "spg", "tolerance": 1e-8},
        "protocol": {"norm": "squared"},
    }
    later = {group: {**chosen[group], **plain} for group, plain in config.LATER.items()}
    assert config.decisive({**chosen, **later}) == config.decisive(chosen)
    other = {**chosen, "selection": {**chosen["selection"], "positive": True}}
    assert config.decisive(other) != config.decisive(chosen)


def test_the_arena_has_a_selector_for_it(tmp_path: Path) -> None:
    code, _, err = tipping_here("arena", "data=digits", "selection.positive=true", f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert "selection.positive=True: the arena has it as arena.selectors=mu_lasso_positive; leave it out" in err


def test_raw_responses_of_a_job(run_script, tmp_path: Path) -> None:
    """W of raw responses is that of the shares but for a factor, were each layer's sum the same for all images."""
    code, _, err = run_script("interpret", "protocol.scale=raw,layer", "mu=0.01", multirun=True)
    assert code == 0, err
    raw, layer = (record_of(tmp_path / "out" / job) for job in "01")
    assert raw["protocol"]["name"] == "described, scale=raw"
    assert layer["protocol"]["name"] == "described"
    assert raw["store"]["responses"] != layer["store"]["responses"]
    problems = [torch.load(path, weights_only=True) for path in (tmp_path / "store" / "responses").glob("*.pt")]
    sizes = sorted(float(held["tensors"]["gram_FF"].diagonal().max()) for held in problems)
    assert sizes[1] > 10 * sizes[0], "norms of maps of 64 pixels, and shares of a sum"
    assert raw["selection"]["certified"]
    assert raw["filters"]["relevant"] >= layer["filters"]["relevant"] > 0


def test_raw_responses_have_no_mass_that_a_control_could_match(run_script) -> None:
    code, _, err = run_script("interpret", "protocol.scale=raw", "protocol.control=norm")
    assert code == 1
    assert "protocol.control=norm: protocol.scale=raw has no response mass to match; give live" in err

"""The lab's variants in jobs: weights of at least 0, responses as they are, and what the bound does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from running import record_of, rewrite, rows_of, tipping_here

from tipping.experiment import config, mu, subject
from tipping.experiment.record import parse_record
from tipping.mu_lasso import GRID, MuLassoProblem, Reach, homotopy
from tipping.results.tables import write_table


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
    record, other = (record_of(tmp_path / "out" / job) for job in "01")
    assert max(record["selection"]["saturation"]) < 0.9 * max(other["selection"]["saturation"]), "each of its problem"
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


def solved(store: Path, positive: bool = False) -> tuple[MuLassoProblem, Reach]:
    """The problem in a store, and the mu that its mu-lasso changes between, found without it."""
    problem = MuLassoProblem(**{name: torch.as_tensor(one) for name, one in problem_in(store).items()})
    problem = problem.non_negative(positive)
    first = min(float(mu_K[mu_K > 0].min(initial=np.inf)) for mu_K in (one.mu_K for one in homotopy(problem).classes))
    return problem, Reach(first, problem.saturation().numpy())


def test_a_job_says_what_its_bound_does(run_script, tmp_path: Path) -> None:
    options = ["model.filters=8", "selection.positive=true", "selection=spg,homotopy"]
    code, out, err = run_script("interpret", *options, "mu=0.2,3,1000", multirun=True)
    assert code == 0, err
    _, reach = solved(tmp_path / "store", positive=True)
    bound = []
    for job, radius in enumerate([0.2, 3, 1000] * 2):
        certificate = record_of(tmp_path / "out" / str(job))["selection"]
        assert certificate["saturation"] == pytest.approx(reach.saturation_C.tolist(), rel=1e-6)
        assert certificate["binds"] == [radius < saturation for saturation in reach.saturation_C.tolist()]
        bound.append(sum(certificate["binds"]))
    assert bound[0] == 10 > bound[1] > bound[2] == 0
    rows = rows_of(tmp_path / "out")
    assert [int(row["binds"]) for row in rows] == bound
    assert [float(row["saturation"]) for row in rows] == pytest.approx([reach.last] * 6, rel=1e-6)
    said = out + err
    better = (reach.first * reach.last) ** 0.5
    line = "mu=1000 does nothing: the bound binds for no class (saturation mu "
    assert said.count(f"{line}{reach.last:.4g}); mu={better:.2g} would say more") == 2
    assert said.count("would say more") == 2


def test_a_job_that_selects_nearly_all_says_so(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=20", "model.filters=4")
    assert code == 0, err
    _, reach = solved(tmp_path / "store")
    better = (reach.first * 20) ** 0.5
    assert f"mu=20 selects 8 of 8 live filters (saturation mu {reach.last:.4g}); mu={better:.2g} would" in out + err
    assert any(record_of(tmp_path / "out")["selection"]["binds"])


def test_what_takes_long_is_not_computed_and_left_empty(
    run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "followed_quickly", lambda problem: False)
    code, out, err = run_script("interpret", "mu=3,1000", "selection.positive=true", multirun=True)
    assert code == 0, err
    _, reach = solved(tmp_path / "store", positive=True)
    assert not (tmp_path / "store" / "reach").exists()
    some, none = (record_of(tmp_path / "out" / job)["selection"] for job in "01")
    assert none["binds"] == [False] * 10
    assert none["saturation"] == pytest.approx(reach.saturation_C.tolist(), rel=1e-6), "its weights are the only ones"
    assert some["binds"] == [saturation > 3 for saturation in reach.saturation_C.tolist()]
    assert [one is None for one in some["saturation"]] == some["binds"]
    assert "mu=1000 does nothing: the bound binds for no class (saturation mu not known); a smaller one" in out + err
    code, _, err = run_script("interpret", "mu=1000", "replace=true", "hydra.run.dir=" + str(tmp_path / "signed"))
    assert code == 0, err
    signed = record_of(tmp_path / "signed")["selection"]
    assert not any(signed["unique"]), "each layer sums to 1"
    assert not any(signed["binds"])
    assert signed["saturation"] == [None] * 10
    code, _, err = run_script("interpret", "mu=50%", "hydra.run.dir=" + str(tmp_path / "asked"))
    assert code == 0, err
    assert record_of(tmp_path / "asked")["mu"] == pytest.approx(solved(tmp_path / "store")[1].at(0.5), rel=1e-3)


def test_in_float32_nothing_is_said_of_the_bound(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=1000", "selection.gram=float32", "selection.tolerance=1e-3")
    assert code == 0, err
    certificate = record_of(tmp_path / "out")["selection"]
    assert (certificate["binds"], certificate["saturation"]) == (None, None)
    assert "mu=1000 selects 8 of 8 live filters (saturation mu not known); a smaller one" in out + err


def test_a_share_of_the_way_is_a_mu_of_the_network(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=auto", "model.filters=8")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    _, reach = solved(tmp_path / "store")
    assert record["mu"] == pytest.approx((reach.first * reach.last) ** 0.5, rel=1e-3)
    assert record["config"]["mu"] == "50%"
    assert f"mu=50% of the way on the path: {record['mu']:g}" in out
    assert parse_record(record).mu == record["mu"]
    before = weights_of(tmp_path / "out")
    code, out, err = run_script("interpret", "mu=50%", "model.filters=8")
    assert code == 0, err
    assert "done before" in out
    code, out, err = run_script("interpret", f"mu={record['mu']}", "model.filters=8", "replace=true")
    assert code == 0, err
    assert np.array_equal(weights_of(tmp_path / "out"), before)


def test_auto_is_a_grid_in_a_sweep(run_script, tmp_path: Path) -> None:
    code, _, err = run_script("interpret", "mu=auto,7", multirun=True)
    assert code == 0, err
    _, reach = solved(tmp_path / "store")
    mus = [record_of(tmp_path / "out" / str(job))["mu"] for job in range(10)]
    assert mus == pytest.approx([*reach.grid(), 7], rel=1e-3)
    assert [float(row["mu"]) for row in rows_of(tmp_path / "out")] == pytest.approx(mus)
    assert [f"{12.5 * k:g}%" for k in range(GRID)] == mu.SHARES
    assert mu.expanded(["mu=auto", "data=digits"]) == ["mu=auto", "data=digits"], "a single job is of one mu"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["mu=some"], "mu=some: give a number over 0, a share of the way such as 50%, or auto"),
        (["mu=x%"], "mu=x%: give a number over 0, a share of the way such as 50%, or auto"),
        (["mu=101%"], "mu=101%: give a share from 0% to 100%"),
        (["mu=true"], "mu=True: give a number over 0"),
        (["mu=[1,2]"], "mu=[1, 2]: give a number over 0"),
        (["mu=0"], "mu=0.0: give a finite number over 0"),
        (["mu=50%", "randomize=all"], "mu=50%: sanity checks compare two networks at one mu; give a number"),
        (["mu=50%", "protocol.labels=permuted"], "mu=50%: sanity checks compare two networks"),
        (["mu=50%", "selection.gram=float32", "selection.tolerance=1e-3"], "mu=50%: selection.gram=float32 hides"),
    ],
)
def test_mistakes_in_mu_are_one_line(run_script, options: list[str], line: str) -> None:
    code, _, err = run_script("interpret", *options)
    assert code == 1
    (only,) = err.strip().splitlines()
    assert only.startswith(line)


def test_other_jobs_take_numbers(run_script) -> None:
    code, _, err = run_script("train", "mu=50%")
    assert code == 1
    assert "mu=50%: shares of the way are for interpret; give a number" in err


def test_ties_that_hide_the_end_are_said(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("tipping.mu_lasso.homotopy"), "LONGEST_PATH", 0)
    code, _, err = run_script("interpret", "mu=50%")
    assert code == 1
    assert "mu=50%: ties between filters hide where the path of the mu-lasso ends; give a number" in err
    code, _, err = run_script("interpret", "mu=3", "replace=true")
    assert code == 0, err
    assert record_of(tmp_path / "out")["selection"]["binds"] == [True] * 10, "told by the weights"


def test_records_from_before_say_nothing_of_the_bound(run_script, tmp_path: Path) -> None:
    code, _, err = run_script("interpret", "mu=3", multirun=True)
    assert code == 0, err
    record = record_of(tmp_path / "out" / "0")
    older = {key: value for key, value in record["selection"].items() if key not in ("binds", "saturation")}
    rewrite(tmp_path / "out" / "0", selection=older)
    assert parse_record(record_of(tmp_path / "out" / "0")).selection.binds is None
    write_table(tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert (row["binds"], row["saturation"]) == ("", "")
    rewrite(tmp_path / "out" / "0", selection={**older, "binds": ["yes"]})
    with pytest.raises(ValueError, match="not whole"):
        parse_record(record_of(tmp_path / "out" / "0"))

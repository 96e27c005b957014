"""`tipping arena` as a user runs it: tables, the page, going on after a stop, and mistakes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import table_rows, tipping_here
from scipy import stats

from tipping import tracking
from tipping.arena import Arena, Lines, Result
from tipping.experiment.arena import entry_of
from tipping.experiment.record import ArenaRecord, sealed
from tipping.experiment.records import read_job, read_record
from tipping.report.contests import contest_sentences
from tipping.report.summary import log_sweep
from tipping.results.arena import Contested, alike, read_contests
from tipping.results.folder import read_folder

OPTIONS = ["data=digits", "trainer.max_epochs=2", "model.filters=4", "model.depth=2", "mu=5", "protocol.draws=2"]
OPTIONS += ["arena.images=100", "tracking=off", "data.responses=500"]
SOME = "arena.selectors=[mu_lasso,l1,share]"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of three networks, and what it printed."""
    folder = tmp_path_factory.mktemp("arena")
    code, out, err = tipping_here("arena", *OPTIONS, SOME, "seed=0,1,2", *places(folder))
    assert code == 0, err
    return folder / "sweep", out


def places(folder: Path) -> list[str]:
    return [f"hydra.sweep.dir={folder / 'sweep'}", f"store.dir={folder / 'store'}"]


def test_the_table_is_that_of_the_arrays(sweep: tuple[Path, str]) -> None:
    rows = table_rows(sweep[0] / "arena.csv")
    kinds = {("random", "own"), ("random_layer", "matched"), ("random_live", "matched"), ("random_norm", "matched")}
    kinds |= {(name, orders) for name in ("mu_lasso", "l1", "share") for orders in ("own", "matched")}
    assert {(row["selector"], row["orders"]) for row in rows} == kinds
    assert len(rows) == 3 * len(kinds)
    for row in rows:
        lines = np.load(sweep[0] / row["job"] / "predictions.npz")
        record = read_record(sweep[0] / row["job"])
        assert isinstance(record, ArenaRecord)
        number = next(
            i for i, one in enumerate(record.entries) if (one.selector, one.orders) == (row["selector"], row["orders"])
        )
        counts = record.entries[number].counts
        right_DP = (lines[f"removed {number}"] == lines["labels"]).mean(2)
        at = counts.index(record.filters.ablated)
        assert float(row["without"]) == pytest.approx(right_DP[:, at].mean())
        assert float(row["area"]) == pytest.approx(np.trapezoid(right_DP.mean(0), counts) / counts[-1])
        assert float(row["gap"]) == pytest.approx(float(row["kept_area"]) - float(row["area"]))


def test_comparisons_are_those_of_the_table(sweep: tuple[Path, str]) -> None:
    rows = table_rows(sweep[0] / "arena.csv")
    areas = {(row["selector"], row["orders"], row["seed"]): float(row["area"]) for row in rows}
    for line in table_rows(sweep[0] / "arena_compared.csv"):
        each = [areas[line["selector"], line["orders"], seed] for seed in "012"]
        assert float(line["area"]) == pytest.approx(np.mean(each))
        baseline = {"own": "random", "matched": "random_layer"}[line["orders"]]
        if line["selector"] != baseline:
            base = [areas[baseline, line["orders"], seed] for seed in "012"]
            assert float(line[f"area_to_{baseline}"]) == pytest.approx(np.mean(each) - np.mean(base))


def test_pairs_of_selectors_are_those_of_the_scores(sweep: tuple[Path, str]) -> None:
    contests, missing = read_contests(sweep[0])
    assert not missing
    rows = alike(contests)
    assert [(row["first"], row["second"]) for row in rows] == [
        ("l1", "share"),
        ("l1", "mu_lasso"),
        ("share", "mu_lasso"),
    ]
    assert all(-1 <= row["rank_correlation"] <= 1 for row in rows)
    assert all(row["by_chance"] == np.mean([one.record.filters.ablated / 8 for one in contests]) for row in rows)


def test_contests_of_one_network_at_several_mu_count_as_one(tmp_path: Path) -> None:
    """Counted as networks, they would make intervals and p-values too small."""
    code, out, err = tipping_here("arena", *OPTIONS, SOME, "seed=0,1", "mu=2,5", *places(tmp_path))
    assert code == 0, err
    rows = table_rows(tmp_path / "sweep" / "arena.csv")
    lines = [row for row in table_rows(tmp_path / "sweep" / "arena_compared.csv") if row["selector"] == "l1"]
    assert [line["group"] for line in lines] == [name for name in ("mu=2.0", "mu=5.0", "all networks") for _ in "01"]
    assert {line["networks"] for line in lines} == {"2"}
    for line in lines:
        at = ["2.0", "5.0"] if line["group"] == "all networks" else [line["group"].removeprefix("mu=")]
        each = [row for row in rows if row["orders"] == line["orders"] and row["mu"] in at]
        baseline = {"own": "random", "matched": "random_layer"}[line["orders"]]
        differences = []
        for seed in "01":
            some = [row for row in each if row["seed"] == seed]
            area, base = (
                np.mean([float(row["area"]) for row in some if row["selector"] == name]) for name in ("l1", baseline)
            )
            differences.append(area - base)
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        found = [float(line[f"area_to_{baseline}{end}"]) for end in ("", "_low", "_high")]
        np.testing.assert_allclose(found, [np.mean(differences), *expected], atol=1e-9)
    assert out.count("all networks") == 2


def test_filters_that_may_not_be_ablated_do_not_make_selectors_alike(tmp_path: Path) -> None:
    options = ["protocol.dense=true", "protocol.sites=conv", *places(tmp_path)]
    code, _, err = tipping_here("arena", *OPTIONS, SOME, *options)
    assert code == 0, err
    ((record, scores),), _ = read_contests(tmp_path / "sweep")
    assert record.filters.total > 8
    assert {len(score_A) for score_A in scores.values()} == {8}
    assert all(row["by_chance"] == record.filters.ablated / 8 for row in alike([Contested(record, scores)]))


def test_without_the_mu_lasso_and_a_better_selector_the_page_says_whole_sentences(sweep: tuple[Path, str]) -> None:
    contests, _ = read_contests(sweep[0])
    entries = [one for one in contests[0].record.entries if one.family == "random"]
    (sentence,) = contest_sentences([Contested(replace(contests[0].record, entries=entries), {})])
    assert "random order" in sentence
    assert "beside" not in sentence


def test_the_table_of_other_jobs_names_the_command_of_contests(sweep: tuple[Path, str]) -> None:
    code, _, err = tipping_here("table", str(sweep[0]))
    assert code == 1
    assert err.strip() == f"{sweep[0]} holds contests of selectors; tipping arena {sweep[0]} writes their tables"


def test_a_mu_lasso_that_is_not_certified_is_said(tmp_path: Path) -> None:
    code, out, err = tipping_here("arena", *OPTIONS, "mu=1e12", "arena.selectors=[l1]", *places(tmp_path))
    assert code == 0, err
    record = read_record(tmp_path / "sweep" / "0")
    assert isinstance(record, ArenaRecord)
    assert not record.selection.certified
    assert "mu=1e+12: the mu-lasso, with whose filters orders are matched, is NOT certified" in out + err


def test_scores_are_kept_with_the_job(sweep: tuple[Path, str]) -> None:
    record, arrays = read_job(sweep[0] / "0")
    assert isinstance(record, ArenaRecord)
    assert arrays["score l1"].shape == (8,)
    assert arrays["score mu_lasso"].shape == (8, 10)
    strengths_F = arrays["score mu_lasso"].sum(1)
    assert set(arrays["relevant"]) == set(np.flatnonzero(strengths_F))


def test_what_is_printed_and_the_page_name_all_selectors(sweep: tuple[Path, str]) -> None:
    page = (sweep[0] / "report.html").read_text()
    for name in ("random", "random_norm", "mu_lasso", "share"):
        assert name in sweep[1]
        assert f">{name}</td>" in page
    assert "cost most" in page
    assert (sweep[0] / "arena.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_does_nothing_again_and_the_folder_alone_writes_all_again(sweep: tuple[Path, str]) -> None:
    folder = sweep[0]
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    for name in before:
        (folder / name).unlink()
    code, _, err = tipping_here("arena", str(folder))
    assert code == 0, err
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before
    written = (folder / "0" / "result.json").stat().st_mtime_ns
    code, _, err = tipping_here("arena", *OPTIONS, SOME, "seed=0,1,2", *places(folder.parent))
    assert code == 0, err
    assert (folder / "0" / "result.json").stat().st_mtime_ns == written


def test_a_contest_that_was_stopped_goes_on_with_the_selector_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []
    play = Arena.play

    def stopping(self: Arena, name: str) -> Any:
        if name == "share" and played.count("share") == 0:
            played.append(name)
            raise OSError("the machine went away")
        played.append(name)
        return play(self, name)

    monkeypatch.setattr(Arena, "play", stopping)
    options = [*OPTIONS, SOME, *places(tmp_path)]
    code, _, _ = tipping_here("arena", *options)
    assert code != 0
    assert not (tmp_path / "sweep" / "0" / "result.json").exists()
    code, _, err = tipping_here("arena", *options)
    assert code == 0, err
    once = ["random", "random_layer", "random_live", "random_norm", "l1"]
    assert played == [*once, "share", "share", "mu_lasso"]


def test_a_selector_that_does_not_suit_the_network_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tipping.errors import InputError
    from tipping.selectors import registry

    def refuse(_: Any) -> np.ndarray:
        raise InputError("conv1 has nothing of the kind; leave it out")

    name = registry.SELECTORS["l1"]
    monkeypatch.setitem(registry.SELECTORS, "l1", type(name)("l1", name.family, name.cost, refuse))
    code, out, err = tipping_here("arena", *OPTIONS, SOME, *places(tmp_path))
    assert code == 0, err
    assert "left out: l1: conv1 has nothing of the kind" in out
    record = json.loads((tmp_path / "sweep" / "0" / "result.json").read_text())
    assert list(record["refused"]) == ["l1"]
    assert {entry["selector"] for entry in record["entries"]} >= {"share", "mu_lasso", "random"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["arena.selectors=[l7]"], "arena.selectors=l7: give one of"),
        (["arena.selectors=[]"], "arena.selectors=[]: give all, cheap, or names"),
        (["arena.permutations=1"], "arena.permutations=1: give 2 or more"),
        (["arena.images=-1"], "arena.images=-1"),
        (["selector=l1"], "selector=l1: the arena compares many"),
        (["randomize=all"], "randomize=all: the arena takes networks as they are"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    code, out, err = tipping_here("arena", *OPTIONS, *options, *places(tmp_path))
    assert code == 1
    assert said in out + err
    assert "Traceback" not in out + err


def test_a_record_that_was_changed_is_not_read(sweep: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    shutil.copytree(sweep[0] / "0", folder)
    record = json.loads((folder / "result.json").read_text())
    record["entries"][3]["removed"][0][1] = 0.123
    (folder / "result.json").write_text(json.dumps(sealed(record)))
    with pytest.raises(ValueError, match="not that of the job's arrays"):
        read_record(folder)
    del record["entries"][3]["kept"]
    (folder / "result.json").write_text(json.dumps(sealed(record)))
    with pytest.raises(ValueError, match="not whole"):
        read_record(folder)


def test_the_summary_in_wandb_holds_all_results(sweep: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr(tracking, "summarise", lambda *_, **given: logged.update(given))
    folder = read_folder(sweep[0])
    log_sweep(folder)
    assert not logged, "tracking was off"
    tracked = [
        one._replace(
            record=replace(
                one.record, config={**one.record.config, "tracking": {**one.record.config["tracking"], "enabled": True}}
            )
        )
        for one in folder.contests
    ]
    log_sweep(folder._replace(contests=tracked))
    assert len(logged["tables"]["selectors"]) == len(table_rows(sweep[0] / "arena.csv"))
    assert "arena" in logged["charts"]
    assert {path.name for path in logged["files"]} >= {"arena.csv", "arena_compared.csv", "arena_alike.csv"}


@pytest.mark.parametrize(("right_P", "tips"), [([0.4, 0.4, 0.3], 0.0), ([1.0, 0.9, 0.8], None), ([1.0, 0.7, 0.1], 1.0)])
def test_where_accuracy_tips_is_told_from_a_network_that_never_was_above(
    right_P: list[float], tips: float | None
) -> None:
    labels_N = np.arange(100) % 2
    predictions_DPN = np.array([[np.where(np.arange(100) < 100 * right, labels_N, 1 - labels_N) for right in right_P]])
    lines = Lines(np.array([0, 1, 2]), predictions_DPN, predictions_DPN, np.zeros((1, 3)), np.zeros((1, 3)))
    entry = entry_of("l1", "own", Result(None, 0.0, {"own": lines}), labels_N, 0.4)
    assert entry.tips_at == tips
    assert entry.removed == [right_P]

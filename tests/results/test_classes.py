"""What tables say of classes, from what jobs have stored."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import write_images
from running import SMALL, printed, record_of, table_rows, tipping_here
from scipy.stats import ttest_1samp
from sklearn.metrics import recall_score

from tipping.experiment.record import InterpretRecord, parse_record
from tipping.results import tables
from tipping.results.by_class import PAIRED, compared_by_kind, compared_groups
from tipping.results.jobs import read_jobs
from tipping.selection import KINDS


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds with the filters of each class ablated by themselves; of the store nothing is left."""
    folder = tmp_path_factory.mktemp("classes")
    given = [*SMALL, "seed=0,1,2", "mu=10", "ablate=class", "by_class.images=50", "visualize=off", "tracking=off"]
    printed("interpret.py", "-m", *given, f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}")
    shutil.rmtree(folder / "store")
    return folder / "sweep"


def records(sweep: Path) -> list[dict]:
    return [record_of(sweep / job) for job in "012"]


def test_the_classes_of_each_job_by_scikit_learn_without_a_new_pass(sweep: Path, tmp_path: Path) -> None:
    """Also of records that know nothing of classes."""
    shutil.copytree(sweep, tmp_path / "sweep")
    before = (sweep / "classes.csv").read_text()
    (tmp_path / "sweep" / "classes.csv").unlink()
    assert tipping_here("table", str(tmp_path / "sweep"))[0] == 0
    assert (tmp_path / "sweep" / "classes.csv").read_text() == before
    rows = table_rows(sweep / "classes.csv")
    assert len(rows) == 30
    for row in rows:
        with np.load(sweep / row["job"] / "predictions.npz") as held:
            labels_N, intact_N, selected_N, random_DN = (held[n] for n in ("labels", "intact", "selected", "random"))
        label = int(row["label"])

        def recall(predictions_N: np.ndarray, labels_N: np.ndarray = labels_N, label: int = label) -> float:
            return float(recall_score(labels_N, predictions_N, labels=[label], average="macro"))

        assert (row["class"], int(row["images"])) == (str(label), (labels_N == label).sum())
        assert float(row["intact"]) == pytest.approx(recall(intact_N), abs=1e-12)
        assert float(row["selected"]) == pytest.approx(recall(selected_N), abs=1e-12)
        each = [recall(one) for one in random_DN]
        ends = float(row["random_mean"]), float(row["random_min"]), float(row["random_max"])
        assert ends == pytest.approx((np.mean(each), min(each), max(each)), abs=1e-12)
        assert float(row["intact_floor"]) == pytest.approx((intact_N == label).mean(), abs=1e-12)
        assert float(row["random_floor"]) == pytest.approx((random_DN == label).mean(), abs=1e-12)
        wrong = selected_N[(labels_N == label) & (selected_N != label)]
        if len(wrong):
            most = np.bincount(wrong).argmax()
            assert row["selected_falls_to"] == str(most)
            share = (wrong == most).sum() / int(row["images"])
            assert float(row["selected_falls_to_share"]) == pytest.approx(share, abs=1e-12)
        else:
            assert (row["selected_falls_to"], row["selected_falls_to_share"]) == ("", "0.0")


def test_each_class_and_kind_has_a_row(sweep: Path) -> None:
    rows = table_rows(sweep / "class_ablations.csv")
    entries = [(str(number), one) for number, record in enumerate(records(sweep)) for one in record["by_class"]]
    assert len(rows) == len(entries)
    for row, (job, entry) in zip(rows, entries, strict=True):
        assert (row["job"], row["kind"], row["label"]) == (job, entry["kind"], str(entry["label"]))
        assert float(row["own_class_high"]) == entry["own_class"]["high"]
        assert float(row["specificity"]) == entry["specificity"]["mean"]
        assert row["tips_at"] == ("" if entry["tips_at"] is None else str(entry["tips_at"]))


def test_kinds_are_compared_in_pairs_of_networks(sweep: Path) -> None:
    every = records(sweep)
    lines = {row["kind"]: row for row in table_rows(sweep / "class_ablations_compared.csv")}
    assert list(lines) == list(KINDS)

    def mean(record: dict, kind: str) -> float:
        return float(np.mean([one["specificity"]["mean"] for one in record["by_class"] if one["kind"] == kind]))

    for kind, line in lines.items():
        each = [mean(record, kind) for record in every]
        assert float(line["specificity"]) == pytest.approx(np.mean(each), abs=1e-12)
        if kind not in PAIRED:
            assert line["specificity_difference"] == ""
            continue
        difference = [mean(record, PAIRED[kind]) - one for record, one in zip(every, each, strict=True)]
        assert float(line["specificity_difference"]) == pytest.approx(np.mean(difference), abs=1e-12)
        interval = ttest_1samp(difference, 0).confidence_interval(0.95)
        ends = float(line["specificity_difference_low"]), float(line["specificity_difference_high"])
        assert ends == pytest.approx(tuple(interval), abs=1e-9)
        assert 0.25 <= float(line["specificity_difference_p"]) <= 1, "of three networks there are 8 exchanges"


def test_a_network_at_several_mu_counts_once(sweep: Path) -> None:
    every = [parse_record(record) for record in records(sweep)]
    twice = compared_by_kind([*every, every[0]])  # type: ignore[list-item]
    once = compared_by_kind(every)  # type: ignore[arg-type]
    assert [row["networks"] for row in twice] == [3] * len(KINDS)
    assert [row["specificity"] for row in twice] == pytest.approx([row["specificity"] for row in once])


def test_networks_of_other_options_are_a_group_of_their_own(sweep: Path) -> None:
    every = [parse_record(record) for record in records(sweep)]
    config = every[0].config
    other = replace(every[0], config={**config, "model": {**config["model"], "dropout": 0.1}})
    rows = compared_groups([*every, other])  # type: ignore[list-item]
    assert [row["group"] for row in rows] == [
        name for name in ("model.dropout=0.5", "model.dropout=0.1") for _ in KINDS
    ]
    assert {row["networks"] for row in rows[: len(KINDS)]} == {3}
    assert {row["networks"] for row in rows[len(KINDS) :]} == {1}


def test_a_saturation_that_is_known_in_part_is_not_said(sweep: Path) -> None:
    record = parse_record(records(sweep)[0])
    assert isinstance(record, InterpretRecord)
    for saturation, said in (([3.0, 2.0], 3.0), ([3.0, None], ""), (None, "")):
        changed = replace(record, selection=replace(record.selection, saturation=saturation))
        assert tables.job_row(changed, [])["saturation"] == said


def test_sets_without_filters_do_not_count(sweep: Path) -> None:
    """As those against a class where no weight is negative."""
    every = [parse_record(record) for record in records(sweep)]
    emptied = [
        replace(one, by_class=[replace(e, filters=0) if e.kind == "against" else e for e in one.by_class])
        for one in every
        if isinstance(one, InterpretRecord)
    ]
    assert [row["kind"] for row in compared_by_kind(emptied)] == [kind for kind in KINDS if kind != "against"]


def test_beside_the_published_table(tmp_path: Path) -> None:
    """A folder of colour images, of which the second class has fewer; the network has the name of a published one."""
    for name, count in (("cat", 8), ("dog", 12), ("emu", 12)):
        write_images(tmp_path / "images", [name], {"train": count, "test": count // 2})
    given = ["data=folder", f"data.path={tmp_path / 'images'}", "data.size=16", "model.depth=2"]
    given += ["model.filters=4", "model.name=vgg16", "trainer.max_epochs=2", "curve.points=1", "protocol.draws=2"]
    given += ["mu=5", "ablate=class", "by_class.images=null", "visualize=off", "tracking=off"]
    printed("interpret.py", "-m", *given, f"store.dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    code, out, _ = tipping_here("table", str(tmp_path / "sweep"), "--against", "meynen2023")
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.split()[:3] == ["vgg16", "all", "maps"]]
    with np.load(tmp_path / "sweep" / "0" / "predictions.npz") as held:
        labels_N, intact_N, rows, each = (held[n] for n in ("labels", "intact", "class_rows", "class_own"))
    recalls = [
        100 * float(np.mean([recall_score(labels_N, one, average="macro") for one in some]))
        for some in ([intact_N], each[rows == "own"], each[rows == "random"])
    ]
    with np.load(tmp_path / "sweep" / "0" / "selection.npz") as saved:
        filters = float((saved["weights"] != 0).sum(0).mean())
    ours = [recalls[0], recalls[1], filters, recalls[2]]
    assert [float(cell) for cell in lines[0][-4:]] == pytest.approx(ours, abs=0.0051), "two digits are printed"
    assert lines[1][-4:] == ["71.59", "48.71", "5.90", "71.39"]
    differences = [our - theirs for our, theirs in zip(ours, (71.59, 48.71, 5.9, 71.39), strict=True)]
    assert [float(cell) for cell in lines[2][-4:]] == pytest.approx(differences, abs=0.0051)


def test_jobs_without_ablations_by_class_are_not_compared(finished, tmp_path: Path) -> None:
    finished("interpret", multirun=True)
    code, _, err = tipping_here("table", str(tmp_path / "out"), "--against", "meynen2023")
    assert (code, err.strip().splitlines()[-1]) == (
        1,
        "--against meynen2023: no job has ablated the filters of each class; give ablate=class",
    )


def test_the_page_lists_filters_and_draws_classes(sweep: Path) -> None:
    page = (sweep / "report.html").read_text()
    assert page.count("Relevant filters of job") == 3
    assert "What each class&#39;s filters cost each class" in page
    assert "all but its own filters" in page
    (job, *_) = read_jobs(sweep).measured()[0]
    first, matrix = job.classes.ranked[0], job.classes.matrix
    assert f'<td data-value="{first["strength"]}">{first["strength"]:.3g}</td>' in page
    assert matrix
    assert matrix.drop_CC.shape == (len(matrix.removed), 10)

"""The filters of each class ablated by themselves, in jobs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import without
from running import record_of, rewrite, rewrite_arrays

from tipping import data
from tipping.experiment.records import UNREADABLE, read_job, read_record
from tipping.network import build
from tipping.results.by_class import class_matrix
from tipping.selection import KINDS

JOB = ("ablate=class", "by_class.images=100", "mu=20", "trainer.max_epochs=3")


@pytest.fixture
def job(finished, tmp_path: Path) -> Path:
    finished("interpret", *JOB)
    return tmp_path / "out"


def arrays(job: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(job / f"{name}.npz", allow_pickle=False) as held:
        return dict(held)


def network_of(job: Path) -> torch.nn.Module:
    options = {"_target_": "tipping.models.KerasCNN", "filters": 4, "depth": 2, "dropout": 0.5}
    model = build(options, (1, 8, 8), 10, seed=0).eval()
    (path,) = (job.parent / "store").rglob(f"{record_of(job)['store']['network']}.pt")
    model.load_state_dict(torch.load(path, weights_only=True)["tensors"])
    return model


def test_own_and_collateral_drops_by_plain_loops(job: Path) -> None:
    """A network whose weights of the class's filters are zero, class by class."""
    record, selection, predictions = record_of(job), arrays(job, "selection"), arrays(job, "predictions")
    model, test = network_of(job), data.load("digits").test
    few = test.spread(100)
    right = {}
    for name, split in (("all", test), ("few", few)):
        with torch.no_grad():
            right[name] = model(split.images_NCHW).argmax(1) == split.labels_N
    assert predictions["class_others_labels"].tolist() == few.labels_N.tolist()
    entries = {(one["kind"], one["label"]): one for one in record["by_class"]}
    assert {kind for kind, _ in entries} == set(KINDS)
    for label in predictions["class_labels"].tolist():
        strength_F = np.abs(selection["weights"][:, label])
        own = np.flatnonzero(strength_F).tolist()
        with torch.no_grad():
            lame = without(model, own)
            drops = {
                name: right[name].double() - (lame(split.images_NCHW).argmax(1) == split.labels_N).double()
                for name, split in (("all", test), ("few", few))
            }
        collateral = [drops["few"][few.labels_N == other].mean() for other in range(10) if other != label]
        entry = entries["own", label]
        assert entry["filters"] == len(own)
        assert np.isclose(entry["own_class"]["mean"], drops["all"][test.labels_N == label].mean(), atol=1e-9)
        assert np.isclose(entry["collateral"]["mean"], np.mean(collateral), atol=1e-9)
        assert np.isclose(
            entry["specificity"]["mean"], entry["own_class"]["mean"] - entry["collateral"]["mean"], atol=1e-9
        )
    removed, measured, drop_CC = class_matrix(read_job(job)[1])
    assert (removed, measured) == (tuple(predictions["class_labels"].tolist()), tuple(range(10)))
    for row, label in zip(drop_CC, removed, strict=True):
        others = np.delete(row, label)
        assert np.isclose(entries["own", label]["collateral"]["mean"], others.mean(), atol=1e-9)


def test_what_each_filter_costs_alone(job: Path) -> None:
    model, few = network_of(job), data.load("digits").test.spread(100)
    order_K = arrays(job, "selection")["order"].tolist()
    with torch.no_grad():
        share = [
            float((lame(few.images_NCHW).argmax(1) == few.labels_N).double().mean())
            for lame in (model, *(without(model, [f]) for f in order_K))
        ]
    rows = list(csv.DictReader((job / "relevant_filters.csv").read_text().splitlines()))
    assert [float(row["alone"]) for row in rows] == pytest.approx([share[0] - one for one in share[1:]], abs=1e-9)


def test_a_class_survives_as_many_of_its_filters_as_its_curve_says(job: Path) -> None:
    record, predictions = record_of(job), arrays(job, "predictions")
    counts, curve = predictions["class_counts"], predictions["class_curve"]
    labels, start, position = predictions["class_others_labels"], 0, 0
    for number, label in enumerate(predictions["class_labels"].tolist()):
        end = start + 1 + int(np.argmax(np.append(counts[start + 1 :], 0) == 0))
        counts_P, images = counts[start:end], int((labels == label).sum())
        size = 3 * len(counts_P) * images  # own filters, and two draws
        own_P = (curve[position : position + size].reshape(3, len(counts_P), images)[0] == label).mean(1)
        entry = next(one for one in record["by_class"] if (one["kind"], one["label"]) == ("own", label))
        assert (counts_P[0], counts_P[-1]) == (0, entry["filters"])
        assert np.isclose(own_P[0], (predictions["class_others_intact"] == labels)[labels == label].mean())
        level = (own_P[0] + 0.1) / 2
        if entry["tips_at"] is None:
            assert (own_P > level).all()
        elif entry["tips_at"] > 0:
            assert own_P.min() <= level <= own_P[0]
            assert counts_P[0] <= entry["tips_at"] <= counts_P[-1]
        start, position = end, position + size
        assert number < len(predictions["class_labels"])
    assert (start, position) == (len(counts), len(curve))


@pytest.mark.parametrize(("measure", "row"), [("own_class", 0), ("collateral", 1), ("specificity", 2)])
def test_no_other_drop_is_believed(job: Path, measure: str, row: int) -> None:
    record = record_of(job)
    entries = [dict(one) for one in record["by_class"]]
    entries[row][measure] = {**entries[row][measure], "mean": entries[row][measure]["mean"] + 0.01}
    rewrite(job, by_class=entries)
    with pytest.raises(UNREADABLE, match="by_class"):
        read_record(job)


def test_records_from_before_are_of_the_same_job(run_script, tmp_path: Path) -> None:
    assert run_script("interpret")[0] == 0
    record = record_of(tmp_path / "out")
    assert (record["by_class"], record["config"]["ablate"]) == ([], "union")
    config = {key: value for key, value in record["config"].items() if key not in ("ablate", "by_class")}
    older = {key: value for key, value in record.items() if key not in ("by_class", "digest")}
    from tipping.experiment.record import sealed

    (tmp_path / "out" / "result.json").write_text(json.dumps(sealed({**older, "config": config})))
    code, out, _ = run_script("interpret")
    assert (code, "done before" in out) == (0, True)
    code, _, err = run_script("interpret", "ablate=class")
    assert code == 1
    assert "ablate" in err


def test_classes_without_filters_and_without_test_images(run_script, tmp_path: Path) -> None:
    """Two classes are taught, one of them has no test images; at a tiny mu not every class needs a filter."""
    images = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32)
    labels = np.arange(60) % 3
    images[labels == 1] += 1
    np.savez(
        tmp_path / "arrays.npz",
        train_images=images / 2,
        train_labels=labels,
        test_images=images[labels != 2] / 2,
        test_labels=labels[labels != 2],
    )
    given = ("data=arrays", f"data.path={tmp_path / 'arrays.npz'}", *JOB)
    code, _, err = run_script("interpret", *given)
    assert code == 0, err
    entries = record_of(tmp_path / "out")["by_class"]
    nobody = [one for one in entries if one["label"] == 2]
    assert all(one["own_class"] is None and one["specificity"] is None and one["tips_at"] is None for one in nobody)
    assert all(one["collateral"] is not None for one in entries)


def test_without_images_of_all_classes_each_class_is_measured_alone(run_script, tmp_path: Path) -> None:
    entries = {}
    for count in ("100", "null"):
        out = tmp_path / count
        code, _, err = run_script("interpret", *JOB, f"by_class.images={count}", f"hydra.run.dir={out}")
        assert code == 0, err
        entries[count] = record_of(out)["by_class"]
    for one, alone in zip(*entries.values(), strict=True):
        assert one["own_class"] == alone["own_class"]
        assert (alone["collateral"], alone["specificity"], alone["tips_at"]) == (None, None, None)
    assert "alone" not in (tmp_path / "null" / "relevant_filters.csv").read_text()
    assert read_job(tmp_path / "null")[1]["class_others"].shape[2] == 0
    assert class_matrix(read_job(tmp_path / "null")[1]) is None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("ablate=classes", "give union or class"),
        ("by_class.images=-1", "by_class.images"),
        ("ablate=class selector=l1", "give selector=mu_lasso"),
    ],
)
def test_bad_options_are_named(run_script, option: str, said: str) -> None:
    code, _, err = run_script("interpret", *option.split())
    assert (code, said in err, err.count("\n")) == (1, True, 1)


def test_nothing_relevant_is_nothing_to_ablate_by_class(run_script, tmp_path: Path) -> None:
    code, _, err = run_script("interpret", "ablate=class", "mu=1e-300")
    assert code == 0, err
    assert record_of(tmp_path / "out")["filters"]["relevant"] >= 0
    read_record(tmp_path / "out")


def test_damaged_arrays_of_classes_are_not_believed(job: Path) -> None:
    rewrite_arrays(job, "predictions.npz", class_others=arrays(job, "predictions")["class_others"][:, :, ::-1])
    with pytest.raises(UNREADABLE):
        read_record(job)

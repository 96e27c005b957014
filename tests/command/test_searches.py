"""Searches for tipping points and for the fewest filters, as a user gets them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from running import said

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=3", "tracking=off"]
SMALL += ["protocol.draws=2", "curve.points=2", "curve.images=100", "visualize=off"]


def test_a_search_ends_between_neighbouring_supports_and_goes_on_where_it_was(tmp_path: Path) -> None:
    options = [*SMALL, f"store.dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path / 'found'}"]
    options += ["search.low=0.1", "search.high=100", "seed=0,1"]
    printed = said("sweeps/tipping_point.py", *options)
    assert "tips at mu" in printed
    folders = sorted((tmp_path / "found").glob("keras_cnn,seed=*"))
    assert len(folders) == 2
    for folder in folders:
        found = json.loads((folder / "search.json").read_text())
        assert found["finished"]
        assert found["evaluations"] <= 20
        assert found["crossings"]
        for bracket in found["crossings"]:
            ends = [
                json.loads((folder / "evaluations" / f"{mu!r}" / "result.json").read_text())
                for mu in (bracket["low"], bracket["high"])
            ]
            above, below = (end["accuracy"]["selected"] > found["level"] for end in ends)
            assert above != below
            supports = [
                np.load(folder / "evaluations" / f"{mu!r}" / "selection.npz")["order"]
                for mu in (bracket["low"], bracket["high"])
            ]
            assert len(np.setxor1d(*supports)) == 1, "they differ in one filter"
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    again = said("sweeps/tipping_point.py", *options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == stamps
    assert again.splitlines()[-6:] == printed.splitlines()[-6:]

    spoiled = next(folders[0].rglob("predictions.npz"))
    spoiled.write_bytes(spoiled.read_bytes()[:100])
    mended = said("sweeps/tipping_point.py", *options)
    assert mended.splitlines()[-6:] == printed.splitlines()[-6:]
    rows = list(csv.DictReader((tmp_path / "found" / "tipping_points.csv").read_text().splitlines()))
    for row in rows:
        if row["crossings"] == "1":
            assert float(row["tipping_mu"]) == pytest.approx(float(row["crosses_at"]))

    coarser = said("sweeps/tipping_point.py", *options, "search.grid=3", "search.precision=0.5", "seed=0")
    again = list(csv.DictReader((tmp_path / "found" / "tipping_points.csv").read_text().splitlines()))
    assert "left out" not in coarser
    assert [row["crosses_at"] for row in again] == [row["crosses_at"] for row in rows], "another search adds to it"
    nothing = said("sweeps/tipping_point.py", *options, "seed=range(0,0)", code=1)
    assert "tips at mu" not in nothing


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("search.high=0.05", "search.high=0.05: give a mu over search.low=0.1"),
        ("search.grid=1", "search.grid=1: give a whole number of at least 2"),
        ("search.storage=nosuch://x", "search.storage=nosuch://x: cannot be opened"),
        ("search.storage=sqlite:////nosuch/folder/file.db", "cannot be opened"),
        ("search.nosuch=1", "search.nosuch: no such option"),
        ("mu=5", "the search chooses it; give search.low and search.high"),
        ("randomize=all", "networks are searched as they are; leave it out"),
    ],
)
def test_bad_options_of_a_search_are_one_line(tmp_path: Path, option: str, sentence: str) -> None:
    places = [f"store.dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path / 'found'}"]
    printed = said("sweeps/tipping_point.py", *SMALL, *places, option, code=1)
    assert sentence in printed
    assert "Traceback" not in printed


def test_the_fewest_filters_that_tip_are_searched_over_seeds(tmp_path: Path) -> None:
    small = [option for option in SMALL if not option.startswith("model.filters")]
    options = [*small, f"store.dir={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'found'}", "search.seeds=[0,1]"]
    options += ["search.over={mu:[1,100],model.filters:[3,5],model.dropout:null}", "search.sampler=random"]
    printed = said("sweeps/fewest_filters.py", *options, "search.trials=3")
    assert "Warning" not in printed
    assert "fewest filters that tip the network: " in printed
    assert "(3 trials)" in printed
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert len(records) == 6
    removed: dict[tuple[float, int], list[float]] = {}
    for record in records:
        filters, accuracy = record["filters"], record["accuracy"]
        tipped = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        removed.setdefault((record["mu"], record["model"]["filters"]), []).append(filters["ablated"] + 1j * tipped)
    means = [sum(values) / 2 for values in removed.values()]
    fewest = min(mean.real for mean in means if mean.imag <= 0)
    assert f"fewest filters that tip the network: {fewest:g}, with mu=" in printed
    (table,) = tmp_path.rglob("trials.csv")
    trials = list(csv.DictReader(table.read_text().splitlines()))
    ranked = sorted(means, key=lambda mean: (mean.imag > 0, mean.real if mean.imag <= 0 else mean.imag))
    assert [float(trial["filters"]) for trial in trials] == [mean.real for mean in ranked]
    page = (table.parent / "report.html").read_text()
    assert f"The fewest filters that tip a network: {fewest:g}, with mu={float(trials[0]['mu']):.4g}" in page
    assert page.count("At mu = ") == 1, "only the best is shown, of all seeds"
    assert re.search(
        rf"next: python sweeps/tipping_point.py .*model.filters={trials[0]['model.filters']} seed=0,1,2$", printed, re.M
    )
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    said("sweeps/fewest_filters.py", *options, "search.trials=4")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "goes on where it was"
    assert len(list(tmp_path.rglob("result.json"))) == 8


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("search.sampler=cmaes", "search.sampler=cmaes: give tpe, gp or random"),
        ("search.over={mu:[5,1]}", "search.over.mu=[5, 1]: give its ends, such as [1,1000]"),
        ("search.over={mu:[0,1]}", "search.over.mu=[0, 1]: give its ends, such as [1,1000]"),
        ("search.seeds=[]", "search.seeds=[]: give one at least, each once"),
        ("search.seeds=[1,1]", "search.seeds=[1, 1]: give one at least, each once"),
        ("mu=5", "mu: it is searched; leave it out, or say 'search.over={mu:null}'"),
        ("seed=1", "seed=1: give search.seeds, over which trials take the mean"),
        ("search.over.model.filters=[a,b]", "no such option|give its ends"),
    ],
)
def test_bad_options_of_the_fewest_filters_are_one_line(tmp_path: Path, option: str, sentence: str) -> None:
    small = [one for one in SMALL if not one.startswith("model.filters")]  # which is searched
    printed = said("sweeps/fewest_filters.py", *small, f"hydra.run.dir={tmp_path}", option, code=1).strip()
    assert re.search(re.escape(sentence).replace(r"\|", "|"), printed)
    assert len(printed.splitlines()) == 1

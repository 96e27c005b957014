"""Records with other values or bytes: left out by name, or taken as they are."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hostility import Executed, cases, changed, edits, paths, run, script
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from running import ROOT

from tipping.command import map as map_command
from tipping.command import report as report_command
from tipping.command import table as table_command
from tipping.experiment import config, standing
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.results import charts, rendering, tables, tipping_map


@pytest.fixture(scope="module")
def sweeps(place: Path) -> Iterator[dict[str, Path]]:
    """Sweeps of interpret.py and train.py; their charts are as they would be drawn."""
    network = ["model.filters=4", "model.depth=2", "trainer.max_epochs=2", "protocol.draws=2", "curve.points=2"]
    folders = {name: place / f"sweep of {name}" for name in TOOLS}

    def drawn(chart: Any) -> str:
        return json.dumps(chart.to_dict(), allow_nan=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "svg", drawn)
        patch.setattr(rendering, "save_png", lambda chart, path: path.write_text(drawn(chart)) and "")
        for name, options in (("interpret", ["mu=0.1,1"]), ("train", ["curve.every_n_epochs=1"])):
            code, _, err = script(name, place, "-m", "seed=0,1", *network, *options)
            assert code == 0, err
            (place / "out").rename(folders[name])
            for tool in TOOLS[name]:
                tool([str(folders[name])])
        yield folders


def trainings(arguments: list[str]) -> int:
    """What concludes a sweep of train.py."""
    return int(bool(tables.write_training_table(Path(*arguments))))


TOOLS = {
    "interpret": [table_command.main, report_command.main, map_command.main],
    "train": [trainings, report_command.main],
}
tools = st.sampled_from([(name, tool) for name, of in TOOLS.items() for tool in of])
LEFT_OUT = ("left out: ", ": no whole result.json of job ")
TABLES = ("results.csv", "trainings.csv", "tipping_points.csv")


def rows_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {name: folder / name for name in TABLES if (folder / name).is_file()}
    return {name: list(csv.DictReader(path.read_text().splitlines())) for name, path in found.items()}


def check_gathered(tool: Callable[[list[str]], int], sweep: Path, place: Path, spoil: Callable[[Path], None]) -> str:
    """A sweep of which one job is spoiled: that is named, or the job is taken as it is; the others are as they were."""
    folder = place / "spoiled"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sweep, folder)
    spoil(folder / "1")
    code, out, err = run(tool, [str(folder)])
    assert code in (0, 1)
    assert code == 1 or not err, err
    lines = err.strip().splitlines()
    assert len(lines) == 1 or all(any(words in line for words in LEFT_OUT) for line in lines), err
    assert "nan" not in out.replace(tipping_map.TABLE, "")
    assert not list(folder.rglob("*.part"))
    before, after = rows_of(sweep), rows_of(folder)
    for name, found in after.items():
        if name != tipping_map.TABLE:  # where nan says that networks are censored to both sides
            assert not [value for row in found for value in row.values() if value in ("nan", "inf", "-inf")]
        pairs = zip(
            *([row for row in rows if row.get("job", "1") != "1"] for rows in (before[name], found)), strict=True
        )
        assert all(old.items() <= new.items() for old, new in pairs), "there may be columns of what varies now"
    own: Any = OmegaConf.load(sweep / "1" / ".hydra" / "config.yaml")
    kind = TrainRecord if "train" in sweep.name else InterpretRecord
    standing.compare_standing(standing.read_standing(folder / "1"), config.parse(own), ROOT / "conf", kind, {})
    return err


json_values = st.one_of(
    st.just(...),
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [math.nan, math.inf, 1e308, -1e308, 1e-320, 0.5, 10**30, -(10**400), "", "x", "../..", "1", [], {}, [[]]]
    ),
    st.sampled_from([[0], [0.5, 0.5], [None], {"x": 1}, {"": {}}, [0, 1, 1], "\0", "\udcff", "a\nb"]),
)


@cases(22)
@given(tool=tools, pick=st.integers(0, 10**6), value=json_values)
def test_records_with_another_value(
    place: Path, sweeps: dict[str, Path], tool: tuple[str, Callable[[list[str]], int]], pick: int, value: Any
) -> None:
    name, main = tool
    record = json.loads((sweeps[name] / "1" / "result.json").read_text())
    where = paths(record)
    path = where[pick % len(where)]
    hypothesis.note(f"{path}: {value!r}")
    check_gathered(
        main,
        sweeps[name],
        place,
        lambda job: (job / "result.json").write_text(json.dumps(changed(record, path, value))) and None,
    )


FILES = ["result.json", "predictions.npz", "selection.npz", ".hydra/hydra.yaml", "../multirun.yaml"]


@cases(16)
@given(tool=tools, file=st.sampled_from(FILES), edit=edits())
def test_records_with_other_bytes(
    place: Path,
    sweeps: dict[str, Path],
    tool: tuple[str, Callable[[list[str]], int]],
    file: str,
    edit: Callable[[bytes], bytes],
) -> None:
    """Arrays that are not named as unreadable are those that were written."""
    name, main = tool

    def spoil(job: Path) -> None:
        if (job / file).is_file():
            (job / file).write_bytes(edit((job / file).read_bytes()))

    err = check_gathered(main, sweeps[name], place, spoil)
    if not err and file != "result.json":
        assert rows_of(place / "spoiled") == rows_of(sweeps[name])


def another(arrays: dict[str, np.ndarray], kind: str, told: Path) -> dict[str, np.ndarray]:
    """Arrays that are no predictions."""
    labels = arrays["labels"]
    return {
        "code": {**arrays, "selected": np.array([Executed(told)] * len(labels))},
        "texts": {**arrays, "selected": labels.astype(str)},
        "not numbers": {**arrays, "intact": labels * np.nan},
        "too few": {**arrays, "intact": labels[:-1]},
        "none": {key: array[..., :0] for key, array in arrays.items()},
        "no draws": {**arrays, "random": arrays["random"][:0]},
        "flat": {**arrays, "random": labels},
        "scalars": {key: np.array(1) for key in arrays},
        "missing": {"labels": labels},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["code", "texts", "not numbers", "too few", "none", "no draws", "flat", "scalars", "missing"]
)
def test_predictions_that_are_none(place: Path, sweeps: dict[str, Path], tmp_path: Path, kind: str) -> None:
    def spoil(job: Path) -> None:
        with np.load(job / "predictions.npz") as held:
            np.savez(job / "predictions.npz", **another(dict(held), kind, tmp_path / "executed"))

    left_out = check_gathered(map_command.main, sweeps["interpret"], place, spoil)
    assert f"left out: {place / 'spoiled' / '1'}: its record or predictions cannot be read" in left_out
    assert not (tmp_path / "executed").exists()

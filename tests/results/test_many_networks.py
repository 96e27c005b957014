"""Sweeps of many networks, and of networks of several classes: made of the records of one small job."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import printed, rows_of

from tipping.command import map as map_command
from tipping.command import report as report_command
from tipping.command import table as table_command
from tipping.experiment.record import InterpretRecord, sealed
from tipping.results import charts, tipping_map
from tipping.results.folder import read_folder
from tipping.results.jobs import read_jobs
from tipping.results.tables import read_records

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=1", "tracking=off", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "visualize=off"]
Change = Callable[[dict[str, Any], int], Any]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one job."""
    folder = tmp_path_factory.mktemp("many")
    printed("interpret.py", *SMALL, f"store.dir={folder / 'store'}", f"hydra.run.dir={folder / 'job'}", "mu=1")
    return folder / "job"


@pytest.fixture
def made(job: Path, tmp_path: Path) -> Callable[[int, Change], Path]:
    """Make a sweep of so many networks at two mu; the changes are made to the record of each network."""

    def make(networks: int, change: Change) -> Path:
        record = json.loads((job / "result.json").read_text())
        for number in range(2 * networks):
            record["store"]["weights"] = str(number // 2)
            record["mu"] = record["config"]["mu"] = 1 + number % 2
            change(record, number // 2)
            folder = tmp_path / "sweep" / str(number)
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(sealed(record)))
            for name in ("predictions.npz", "selection.npz"):
                shutil.copy(job / name, folder)
        return tmp_path / "sweep"

    return make


def of_class(name: str) -> Change:
    """Give each network a class of its own, and all of them one name."""

    def change(record: dict[str, Any], number: int) -> None:
        record["config"]["model"] |= {"name": name, "_target_": f"mine.Net{number}"}
        record["model"] |= {"name": name, "_target_": f"mine.Net{number}"}

    return change


def of_dropout(of: Callable[[int], float]) -> Change:
    """Give each network a dropout, wherever its record says it."""

    def change(record: dict[str, Any], number: int) -> None:
        record["config"]["model"]["dropout"] = record["model"]["dropout"] = of(number)

    return change


@pytest.mark.parametrize("name", ["own", "mine"])
def test_classes_of_one_name_are_told_apart(made: Callable[..., Path], name: str, capsys: Any) -> None:
    sweep = made(2, of_class(name))
    assert table_command.main([str(sweep)]) == 0
    assert [row["model._target_"] for row in rows_of(sweep)] == [f"mine.Net{n}" for n in (0, 0, 1, 1)]
    assert "mine.Net1" in capsys.readouterr().out
    titles = titles_of(sweep)
    assert [title.split(" on ")[0] for title in titles] == [f"{name} (mine.Net{n})" for n in (0, 1)]
    assert map_command.main([str(sweep)]) == 0
    assert [group.name for group in read_folder(sweep).groups] == [f"{name} (mine.Net{n})" for n in (0, 1)]
    assert report_command.main([str(sweep)]) == 0
    page = (sweep / "report.html").read_text()
    assert f"<b>{name} (mine.Net1).</b>" in page


def test_one_class_of_own_is_named(made: Callable[..., Path]) -> None:
    sweep = made(1, of_class("own"))
    assert titles_of(sweep) == ["own (mine.Net0) on digits, seed 0"]
    assert [group.name for group in read_folder(sweep).groups] == ["own (mine.Net0)"]


def test_the_class_is_not_named_where_the_name_tells_it(made: Callable[..., Path]) -> None:
    def change(record: dict[str, Any], number: int) -> None:
        of_class(f"net{number}")(record, number)

    sweep = made(2, change)
    assert titles_of(sweep) == [f"net{number} on digits, seed 0" for number in (0, 1)]
    assert [group.name for group in read_folder(sweep).groups] == ["net0", "net1"]


def titles_of(sweep: Path) -> list[str]:
    """The titles of the networks in the chart of a sweep."""
    return list(texts(drawn_of(sweep)))


def drawn_of(sweep: Path) -> Any:
    """The chart of a sweep."""
    return charts.accuracy_drop(read_records(sweep, InterpretRecord)[0]).to_dict()


def texts(tree: Any) -> Iterator[str]:
    """Yield the titles of rows in a chart."""
    for row in tree.get("vconcat", tree.get("hconcat", ())):
        title = row.get("title")
        yield from [title["text"]] if isinstance(title, dict) else []
        yield from texts(row)


def test_a_chart_shows_24_networks_and_says_where_the_others_are(made: Callable[..., Path], capsys: Any) -> None:
    sweep = made(40, of_dropout(lambda number: number / 100))
    drawn = drawn_of(sweep)
    assert len(list(texts(drawn))) == 24
    assert drawn["title"] == "24 of 40 networks; all of them are in results.csv"
    assert table_command.main([str(sweep)]) == 0
    assert len(rows_of(sweep)) == 80
    width, height = struct.unpack(">II", (sweep / "accuracy_drop.png").read_bytes()[16:24])
    assert height < 3000
    assert width < 3000


def test_each_file_is_read_once(made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from tipping import files

    opened: list[Path] = []
    before = files.os.open
    monkeypatch.setattr(
        files.os, "open", lambda path, *more, **named: opened.append(path) or before(path, *more, **named)
    )
    sweep = made(10, of_dropout(lambda number: number / 100))
    opened.clear()
    jobs, left_out = read_jobs(sweep).measured()
    assert (len(jobs), left_out) == (20, [])
    assert len(opened) == len(set(opened)) == 60


def test_seeds_that_clash_leave_their_group_out_alone(made: Callable[..., Path]) -> None:
    sweep = made(3, of_dropout(lambda number: min(number, 1) / 2))
    folder = read_folder(sweep)
    assert [group.options["model.dropout"] for group in folder.groups] == ["0.0"]
    (line,) = folder.left_out
    assert "of two networks of one seed" in line


def test_a_chart_of_tipping_points_says_that_it_has_not_all(
    made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made(5, of_dropout(lambda number: number / 10))
    named = [(group.name, group) for group in read_folder(sweep).groups]
    monkeypatch.setattr(tipping_map, "MARKED", 3)
    drawn = tipping_map.tipping_chart(named).to_dict()
    assert drawn["title"] == "3 of 5; all: tipping_points.csv"
    marked = {row["name"] for values in drawn["datasets"].values() for row in values}
    assert marked <= {name for name, _ in named[:3]}

"""The published tables are those of the rows behind them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from running import ROOT


@pytest.fixture
def publish() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "sweeps"))
    import publish

    yield publish
    sys.path.remove(str(ROOT / "sweeps"))


def test_tables_are_recomputed_from_the_rows_kept(publish: ModuleType) -> None:
    shown = set()
    for page in publish.PAGES:
        text = page.read_text()
        assert publish.filled(text) == text, f"python sweeps/publish.py writes {page.name} anew"
        shown |= {name for name in publish.TABLES if f"<!-- {name} -->" in text}
    assert shown == set(publish.TABLES)


def test_a_changed_number_shows(publish: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = publish.PAGES[1].read_text()
    kept = publish.kept
    monkeypatch.setattr(publish, "kept", lambda name: [{**row, "selected": row["selected"] / 2} for row in kept(name)])
    assert publish.filled(text) != text


def test_what_is_published_is_certified_and_names_what_made_it(publish: ModuleType) -> None:
    for path in publish.KEPT.glob("*.csv"):
        for row in csv.DictReader(path.read_text().splitlines()):
            assert row["certified"] == "True" if path.stem != "training" else row["epoch"]
            assert row.get("mu") or row.get("tipping_mu")
            assert all(row[name] for name in ("protocol", "seed", "device", "commit", "trainer.max_epochs"))
            assert not row["commit"].endswith("dirty")


def test_the_chart_draws_every_accuracy_of_figure_4(publish: ModuleType) -> None:
    drawn = publish.figure_4_chart().to_dict()
    points = [point for values in drawn["datasets"].values() for point in values]
    for row in publish.kept("figure4"):
        wanted = {"filters": row["ablated"], "ablated": "selected filters", "accuracy": row["selected"]}
        wanted |= {"dropout": f"{row['model.dropout']:g}"}
        assert any(wanted.items() <= point.items() for point in points)

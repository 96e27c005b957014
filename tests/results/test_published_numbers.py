"""Differences between selected and random filters, and the report's numbers beside ours."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tipping.command import table as table_command
from tipping.errors import InputError
from tipping.results import published, tables
from tipping.results.published import against_report, count_at, difference, read_rows


def test_interval_is_student_s(rng: np.random.Generator) -> None:
    selected_S, random_SD = rng.random(4), rng.random((4, 5))
    found = difference(selected_S, random_SD)
    interval = ttest_1samp(selected_S - random_SD.mean(1), 0).confidence_interval(0.95)
    assert found.mean == pytest.approx((selected_S - random_SD.mean(1)).mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert difference(selected_S[:1], random_SD[:1])[1:3] == (None, None)


def test_p_counts_all_exchanges(rng: np.random.Generator) -> None:
    """Every way to call one of the D + 1 sets of each network the selected one, in plain loops."""
    for _ in range(20):
        sets_SE = rng.integers(4, size=(3, 4)) / 3  # with ties
        gaps = []
        for chosen in itertools.product(range(4), repeat=3):
            ones = [sets_E[e] for sets_E, e in zip(sets_SE, chosen, strict=True)]
            rest = [np.delete(sets_E, e).mean() for sets_E, e in zip(sets_SE, chosen, strict=True)]
            gaps.append(sum(ones) - sum(rest))
        expected = np.mean([abs(gap) >= abs(gaps[0]) - 1e-9 for gap in gaps])
        assert difference(sets_SE[:, 0], sets_SE[:, 1:]).p == pytest.approx(expected)


def test_p_of_many_networks_is_estimated(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    sets_SE = rng.random((6, 6))
    exact = difference(sets_SE[:, 0], sets_SE[:, 1:]).p
    monkeypatch.setattr(published, "EXACT", 40_000)
    estimate = difference(sets_SE[:, 0], sets_SE[:, 1:]).p
    assert estimate != exact
    assert estimate == pytest.approx(exact, abs=0.01)  # four standard errors of 40,000 draws


def test_p_is_uniform_where_selected_filters_are_random_ones() -> None:
    rng = np.random.default_rng(0)
    p = np.array([difference(sets[:, 0], sets[:, 1:]).p for sets in rng.random((2000, 3, 6))])
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 2000)
    assert difference(np.zeros(3), np.ones((3, 5))).p == pytest.approx(6**-3)
    assert difference(np.ones(3), np.zeros((3, 5))).p == pytest.approx(6**-3), "to either side"


def rows_of(points: list[tuple[float, int, float]], seed: int = 0, **others: object) -> list[dict]:
    network = {"data": "mnist", "model": "keras_cnn", "model.filters": 128.0, "model.dropout": 0.5}
    protocol = {"protocol": "keras_report", "control": "layer", "sites": "conv", "seed": str(seed), "intact": 0.99}
    protocol |= {"filters": "640", "trainer.max_epochs": "5", "trainer.precision": "float32"}
    return [
        {
            **network,
            **protocol,
            "mu": mu,
            "ablated": float(ablated),
            "selected": selected,
            "random": [0.98, 0.96],
            **others,
        }
        for mu, ablated, selected in points
    ]


def test_the_count_at_an_accuracy_is_interpolated() -> None:
    rows = rows_of([(500, 300, 0.5), (10, 100, 0.9), (700, 400, 0.7)])
    assert count_at(rows, 0.7) == pytest.approx(200)
    assert count_at(rows, 0.95) == pytest.approx(100 * 0.04 / 0.09)
    assert count_at(rows, 0.4) is None


def test_figure_4_cell_by_cell() -> None:
    rows = rows_of([(10, 20, 0.98), (500, 300, 0.7)], seed=0) + rows_of([(10, 24, 0.96), (500, 310, 0.6)], seed=1)
    ((title, (headings, *lines)),) = against_report([*rows, *rows_of([(10, 20, 0.9)], data="kmnist")])
    assert title == "keras_cnn, filters 128, dropout 0.5, 5 epochs in float32; keras_report; seeds 0, 1"
    assert headings == ["where", "cell", "report", "ours", "difference"]
    assert lines[0] == ["Figure 4, mu = 10", "selected filters ablated, %", "99.01", "97 (96 to 98)", "-2.01"]
    assert lines[1] == ["Figure 4, mu = 10", "random filters ablated, %", "99.14", "97", "-2.14"]
    assert lines[2] == ["Figure 4, mu = 10", "filters dropped", "23", "22 (20 to 24)", "-1.00"]
    assert [line[0] for line in lines[3:6]] == ["Figure 4, mu = 500"] * 3
    where, cell, theirs, ours, _ = lines[6]
    assert (where, cell, theirs) == ("its text", "filters dropped at 80.03 %, interpolated", "301")
    expected = [20 + 280 * (0.98 - 0.8003) / 0.28, 24 + 286 * (0.96 - 0.8003) / 0.36]
    assert ours.startswith(f"{np.mean(expected):.4g} (")
    ((_, (_, *lines)),) = against_report(rows_of([(10, 20, 0.98)], **{"model.dropout": 0.0}))
    assert lines == [["its text", "filters dropped at 80.11 %, interpolated", "394", "not reached at these mu", ""]]


def test_other_networks_are_not_mixed_and_none_counts_twice() -> None:
    rows = rows_of([(10, 20, 0.98)])
    others = [{"trainer.max_epochs": "1"}, {"trainer.precision": "bf16"}, {"randomize": "all"}, {"model.depth": "3"}]
    assert len(against_report([*rows, *(row for other in others for row in rows_of([(10, 20, 0.5)], **other))])) == 5
    with pytest.raises(InputError, match="seed=0 mu=10 is there twice for keras_report"):
        against_report([*rows, *rows_of([(10, 20, 0.98)])])


def test_differences_of_each_setting() -> None:
    rows = rows_of([(10, 20, 0.90)], seed=0) + rows_of([(10, 24, 0.92)], seed=1)
    rows += rows_of([(10, 20, 0.5)], protocol="described")
    heads, first, second = published.differences(rows, "protocol")
    assert heads == ["protocol", "mu", "ablated", "intact %", "selected %", "random %", "difference (95 %)", "p"]
    reach = 12.7062 * np.std([-0.07, -0.05], ddof=1) / np.sqrt(2) * 100
    interval = f"-6.0 ({-6 - reach:.1f} to {-6 + reach:.1f})"
    cells = ["10", "22 of 640", "99.00", "91.00 (90.00 to 92.00)", "97.00", interval]
    assert first == ["keras_report", *cells, "0.111"]
    assert second[-2:] == ["-47.0 (one seed)", "0.333"]
    with pytest.raises(InputError, match=r"rows of keras_report differ in trainer\.max_epochs"):
        published.differences([*rows, *rows_of([(10, 20, 0.5)], seed=2, **{"trainer.max_epochs": "1"})], "protocol")
    with pytest.raises(InputError, match=r"rows of keras_report differ in protocol\.draws"):
        published.differences([*rows, *rows_of([(10, 20, 0.5)], seed=2, random=[0.1])], "protocol")


def test_rows_are_left_as_they_are() -> None:
    rows = rows_of([(10, 20, 0.98)], protocol="described, sites=conv")
    ((title, _),) = against_report(rows)
    assert "described, sites=conv" in title
    assert rows[0]["protocol"] == "described, sites=conv"


def test_figure_3_cell_by_cell() -> None:
    others = {"model": "matconvnet", "model.filters": "", "model.dropout": "", "control": "global"}
    rows = rows_of([(10, 17, 0.86), (200, 380, 0.2)], **{**others, "sites": "conv+dense"})
    rows += rows_of([(10, 9, 0.9)], **{**others, "sites": "conv", "protocol": "keras_report, sites=conv"})
    ((title, (_, *lines)),) = against_report(rows)
    assert title == "matconvnet, 5 epochs in float32; keras_report; seed 0"
    assert [line[:3] for line in lines] == [
        ["Figure 3, mu = 10", "original model, %", "100"],
        ["Figure 3, mu = 10", "conv+dense, %", "86"],
        ["Figure 3, mu = 10", "conv+dense (random), %", "99"],
        ["Figure 3, mu = 10", "filters dropped", "17"],
        ["Figure 3, mu = 10", "conv, %", "87.5"],
        ["Figure 3, mu = 10", "conv (random), %", "90.34"],
        ["Figure 3, mu = 200", "original model, %", "100"],
        ["Figure 3, mu = 200", "conv+dense, %", "21"],
        ["Figure 3, mu = 200", "conv+dense (random), %", "32"],
        ["Figure 3, mu = 200", "filters dropped", "387"],
    ]
    assert lines[0][3:] == ["99", "-1.00"]
    assert lines[1][3:] == ["86", "+0.00"]


def test_a_sweep_s_table_reads_back(run_script, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_script("interpret", "mu=10", "protocol=keras_report", multirun=True)
    assert code == 0, err
    (row,) = read_rows(tmp_path / "out" / tables.TABLE)
    assert (row["mu"], row["protocol"], row["scope"], row["model.filters"]) == (
        10,
        "keras_report",
        "first_input_channel",
        4,
    )
    assert len(row["random"]) == 2
    assert float(row["random_mean"]) == pytest.approx(np.mean(row["random"]))
    assert table_command.main([str(tmp_path / "out"), "--against", "report"]) == 1
    assert "no job of keras_cnn or matconvnet on mnist" in capfd.readouterr().err
    table = tmp_path / "out" / tables.TABLE
    table.write_text(table.read_text().replace("digits", "mnist"))
    tables.print_against_report([tmp_path / "out"])
    out = capfd.readouterr().out
    assert "keras_cnn, filters 4, dropout 0.5 (not the report's size), 1 epochs in float32; keras_report; seed 0" in out
    assert "99.01" in out
    table.write_text("mu,selected\n1,2\n")
    with pytest.raises(InputError, match="cannot be read as a sweep's table"):
        read_rows(table)


def test_a_sweep_s_lines_are_told_apart(run_script, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the protocol's name where that tells a changed axis; by the axis where the name leaves it open."""
    options = ["mu=10", "protocol.control=layer,live", "protocol.draws=1,2"]
    code, out, err = run_script("interpret", *options, multirun=True)
    assert code == 0, err
    heads, *lines = [line.split() for line in out.split("random ones")[-1].splitlines() if line.strip()][:5]
    assert table_command.main([str(tmp_path / "out"), "--differences"]) == 1
    assert "seed=0 mu=10 is there twice for described" in capfd.readouterr().err
    assert heads[:3] == ["model", "protocol", "protocol.draws"]
    assert len({tuple(line[:5]) for line in lines}) == 4


def test_differences_of_a_sweep_are_printed(run_script, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_script("interpret", "mu=10", "seed=0,1", "model.filters=3,4", multirun=True)
    assert code == 0, err
    assert table_command.main([str(tmp_path / "out"), "--differences"]) == 0
    table = capfd.readouterr().out.split("over seeds")[-1].splitlines()
    heads, *lines = [line for line in table[1:] if line.strip()]
    assert heads.split()[:2] == ["protocol", "filters"]
    assert [line.split()[:3] for line in lines] == [["described", "3", "10"], ["described", "4", "10"]]

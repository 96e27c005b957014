"""The report of a sweep: its words and numbers against the records."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from running import printed, record_of, rewrite, rewrite_arrays

from tipping.command import report as report_command
from tipping.experiment.record import sealed
from tipping.report import facets
from tipping.report import page as report
from tipping.report.galleries import by_nearness
from tipping.results.charts import RANDOM, RELEVANT
from tipping.results.folder import read_folder
from tipping.results.sweep import networks, read_sweeps
from tipping.results.tipping_map import groups, point_text

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=3", "tracking=off", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "visualize.images=2", "visualize.filters_per_class=1"]


class Words(HTMLParser):
    """The text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words(path: Path) -> str:
    parser = Words()
    parser.feed(path.read_text())
    return " ".join(" ".join(parser.words).split())


def test_it_says_how_it_was_made(sweep: Path) -> None:
    text, record = words(sweep / "report.html"), json.loads((sweep / "0" / "result.json").read_text())
    assert "python interpret.py -m data=digits" in text
    assert "8, of 4 networks" in text
    assert f"torch {record['versions']['torch']}" in text
    assert record["device"] in text
    assert "8 of 8 selections are certified minima" in text


def test_sweeps_lie_side_by_side(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(sweep, tmp_path / "beside"))
    assert report_command.main([str(sweep), str(other), f"{other}/."]) == 0, "one that is given twice counts once"
    path = Path(capsys.readouterr().out.strip())
    assert path == sweep / "report.html"
    text = words(path)
    assert text.count("(sweep)") == text.count("(beside)") == 3 * 2, "in the answer, the curves and the layers"
    assert text.index("(sweep)") < text.index("(beside)") < text.index("(sweep)", text.index("(beside)"))
    report.write_page([read_folder(sweep)])


def test_what_is_no_sweep_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, said in ((tmp_path, " holds no jobs"), (tmp_path / "nosuch", ": no such folder")):
        assert report_command.main([str(folder)]) == 1
        assert capsys.readouterr().err.strip() == f"{folder}{said}; give the folder of a sweep or a search"


def test_sentences_say_what_the_map_says(sweep: Path) -> None:
    text = words(sweep / "report.html")
    for group in groups(networks(read_sweeps([sweep])[0])[0]):
        mu = np.exp(np.clip(group.by_mu.bound, np.log(0.1), np.log(1)))
        assert f"{mu:.3g}" in text.split(f"dropout={group.settings['model.dropout']}.")[1].split(", without")[0]
        assert f"without {point_text(group.by_filters)} of its 8 filters; random ones tip it without" in text
        assert f"random ones tip it without {point_text(group.random)}," in text


def test_curves_are_those_of_the_records(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list] = {"drop": [], "by_layer": []}
    for name, calls in drawn.items():
        draw = getattr(facets.charts, name)
        monkeypatch.setattr(
            facets.charts, name, lambda lines, *axis, calls=calls, draw=draw: calls.append(lines) or draw(lines, *axis)
        )
    report.write_page([read_folder(sweep)])
    records = [json.loads(path.read_text()) for path in sweep.rglob("result.json")]
    for number, dropout in enumerate((0, 0.5)):
        own = [one for one in records if one["config"]["model"]["dropout"] == dropout]
        by_seed = [sorted((one for one in own if one["seed"] == seed), key=lambda one: one["mu"]) for seed in (0, 1)]
        by_mu, by_filters = drawn["drop"][2 * number : 2 * number + 2]
        selected = [[one["accuracy"]["selected"] for one in jobs] for jobs in by_seed]
        assert [y_P.tolist() for _, y_P in by_mu[RELEVANT]] == [pytest.approx(line) for line in selected]
        random = [[one["accuracy"]["random"][draw] for one in jobs] for jobs in by_seed for draw in range(2)]
        assert [y_P.tolist() for _, y_P in by_mu[RANDOM]] == [pytest.approx(line) for line in random]
        assert all(x_P == pytest.approx([0.1, 1]) for lines in by_mu.values() for x_P, _ in lines)
        for (x_P, y_P), jobs in zip(by_filters[RELEVANT], by_seed, strict=True):
            assert (x_P[0], y_P[0]) == (0, jobs[0]["accuracy"]["intact"])
            assert x_P[1:].tolist() == [one["filters"]["ablated"] for one in jobs]
        for layer, lines in drawn["by_layer"][number].items():
            counts = [[one["filters"]["per_layer"][layer] for one in jobs] for jobs in by_seed]
            assert [y_P.tolist() for _, y_P in lines] == counts


def test_pictures_nearest_the_tipping_point_come_first(sweep: Path) -> None:
    jobs, _ = read_sweeps([sweep])
    over_seeds = groups(networks(jobs)[0])
    tips = {
        network.jobs[0].network: bound
        for group in over_seeds
        for network, bound in zip(group.networks, group.by_mu.bounds, strict=True)
    }
    distance = [abs(np.log(job.record.mu) - tips[job.network]) for job in by_nearness(jobs, over_seeds)]
    assert all(near <= far for near, far in zip(distance[:4], distance[4:], strict=True)), "four networks, twice"
    assert distance[:4] != distance[4:]


def test_pictures_are_captioned_by_the_names_of_classes(sweep: Path, tmp_path: Path) -> None:
    assert "What the relevant filters of class 1 respond to" in words(sweep / "report.html")
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for folder in copy.glob("[0-9]"):
        rewrite(folder, classes=[f"<b>{label}</b> \x1b" for label in range(10)])
    text = words(report.write_page([read_folder(copy)]))
    assert r"What the relevant filters of class <b>1</b> \x1b respond to" in text, "escaped"
    assert "relevant filters of class 1 respond" not in text
    assert "portraits of" not in text
    for folder in copy.glob("[0-9]"):
        for label in range(20):
            shutil.copy(folder / "pictures" / "image_0.png", folder / "pictures" / f"class_{label}.png")
        names = [f"class_{label}" for label in range(20)]
        arrays = {name: digest for name, digest in record_of(folder)["files"].items() if name.endswith(".npz")}
        rewrite(folder, classes=[*map(str, range(1000))], pictures=names, files=arrays)
    assert "mu = 1, portraits of 20 of 1000 classes" in words(report.write_page([read_folder(copy)]))


def test_a_failed_job_is_named_on_the_page(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    (copy / "5" / "result.json").unlink()
    report.write_page([read_folder(copy)])
    assert "Left out: job 5 failed or was stopped" in words(copy / "report.html")


def test_jobs_that_were_never_begun_are_counted(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job in ("6", "7"):
        shutil.rmtree(copy / job)
    text = words(report.write_page([read_folder(copy)]))
    assert "Left out: 2 of its jobs were never begun: it was stopped" in text
    assert "never begun" not in words(sweep / "report.html")


def test_a_job_alone_is_no_sweep_that_was_stopped(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep / "5", tmp_path / "5"))
    text = words(report.write_page([read_folder(copy)]))
    assert "Left out" not in text
    assert "python interpret.py data=digits" in text


def test_networks_that_are_not_above_chance_have_nothing_to_tip(sweep: Path, tmp_path: Path) -> None:
    """Of images that are all of one class but one, which the network takes for the other."""
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for folder in copy.glob("[0-9]"):
        record = record_of(folder)
        if record["config"]["model"]["dropout"] == 0.5:
            with np.load(folder / "predictions.npz") as held:
                zeros = {name: np.zeros_like(held[name]) for name in ("intact", "selected", "random")}
            images = len(zeros["intact"])
            labels_N = np.minimum(np.arange(images), 1).astype(np.uint8)
            rewrite_arrays(folder, "predictions.npz", labels=labels_N, **zeros)
            right = {"intact": 1 / images, "selected": 1 / images, "random": [1 / images] * 2}
            rewrite(folder, accuracy={**right, "chance": 1 - 1 / images})
    text = words(report.write_page([read_folder(copy)]))
    chance = f"{100 * (1 - 1 / images):.2f}"
    assert re.search(rf"dropout=0.5\. Intact accuracy is .*? %, not above chance \({chance} %\): nothing tips", text)
    assert text.count("Tips at mu") == 1


def test_each_solver_has_its_own_place(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job in list(copy.glob("[0-9]")):
        other = Path(shutil.copytree(job, copy / f"1{job.name}"))
        record = json.loads((other / "result.json").read_text())
        record["selection"]["solver"] = record["config"]["selection"]["solver"] = "homotopy"
        (other / "result.json").write_text(json.dumps(sealed(record)))
    text = words(report.write_page([read_folder(copy)]))
    for solver in ("spg", "homotopy"):
        assert re.search(rf"selection\.solver={solver}\. Tips", text), "selection comes after the model"


def test_sweeps_of_one_name_are_told_apart(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (Path(shutil.copytree(sweep, tmp_path / name / "sweep")) for name in ("a", "b"))
    assert report_command.main([str(one), str(other)]) == 0
    text = words(Path(capsys.readouterr().out.strip()))
    assert f"Jobs of {one}" in text
    assert f"Jobs of {other}" in text


def test_charts_that_are_too_many_are_counted(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    monkeypatch.setattr(report, "FACETS", 1)
    text = words(report.write_page([read_folder(copy)]))
    assert "Left out: the charts of 1 of 2" in text
    assert text.count("Seeds 0, 1;") == 2, "all are said"


def test_checks_count_what_fails(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job, key, value in ((2, "certified", False), (3, "explainable", [0.0]), (3, "certified", False)):
        record = json.loads((copy / str(job) / "result.json").read_text())
        record["selection"][key] = value
        (copy / str(job) / "result.json").write_text(json.dumps(sealed(record)))
    text = words(report.write_page([read_folder(copy)]))
    assert "6 of 8 selections are certified minima" in text
    before = int(re.search(r"In (\d) of 8 some class is explained better", words(sweep / "report.html"))[1])
    assert f"In {before - 1} of 8 some class is explained better" in text


def test_a_corrupt_record_is_named_on_the_page(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    (copy / "3" / "result.json").write_text("{")
    report.write_page([read_folder(copy)])
    assert f"Left out: {copy / '3'}: its record or predictions cannot be read" in words(copy / "report.html")


def test_one_mu_has_a_curve_along_its_filters(sweep: Path, tmp_path: Path) -> None:
    copy = tmp_path / "single"
    for path in sweep.glob("[0-9]*"):
        if json.loads((path / "result.json").read_text())["mu"] == 1:
            shutil.copytree(path, copy / path.name)
    report.write_page([read_folder(copy)])
    text = words(copy / "report.html")
    assert text.count("At mu = 1,") == 2
    assert "Left out" not in text
    records = [json.loads(path.read_text()) for path in copy.rglob("result.json")]
    own = [one for one in records if one["config"]["model"]["dropout"] == 0]
    mean = 100 * np.mean([one["accuracy"]["selected"] for one in own])
    assert re.search(rf"dropout=0\. At mu = 1, .*?{mean:.2f}[^%]*% without them", text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of train.py, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    options = [*SMALL, f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}", "seed=0,1"]
    return folder / "sweep", printed("train.py", "-m", *options, "curve.every_n_epochs=1")


def test_trainings_have_a_table_and_a_page(trained: tuple[Path, str]) -> None:
    sweep, said = trained
    records = [json.loads((sweep / job / "result.json").read_text()) for job in ("0", "1")]
    rows = list(csv.DictReader((sweep / "trainings.csv").read_text().splitlines()))
    text = words(sweep / "report.html")
    for row, record in zip(rows, records, strict=True):
        accuracy = record["accuracy"]["intact"]
        assert float(row["accuracy"]) == accuracy
        tips = [curve["tips_at"] for curve in record["curves"].values()]
        assert len(tips) == 3
        assert row["tips_at"] == ", ".join("nowhere" if at is None else f"{at:.1f}" for at in tips)
        assert f"{100 * accuracy:.2f}" in text
        assert f"{100 * accuracy:.2f}" in said
        assert row["tips_at"] in text
        assert row["tips_at"] in said
    mean = 100 * np.mean([record["accuracy"]["intact"] for record in records])
    assert f"keras_cnn: {mean:.2f} (" in text
    assert "next: python interpret.py -m mu=10,100,500,700 data=digits" in said
    assert "curve.every_n_epochs" not in said.split("next:")[1]
    for absent in ("Checks", "Pictures", "Left out", "Jobs"):
        assert absent not in text.replace("Curves Jobs How", "")


def test_jobs_of_searches_are_numbered(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "search" / "keras_cnn,seed=0,12345678" / "evaluations")).parents[1]
    page = report.write_page([read_folder(copy)]).read_text()
    for number in range(8):
        title = f"keras_cnn,seed=0,12345678/evaluations/{number}"
        assert f'<td data-value="{number}" title="{title}">{number}</td>' in page

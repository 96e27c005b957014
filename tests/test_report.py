"""The report of a sweep as it is seen: in a browser, on a phone, without scripts; its numbers against the table."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import printed
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tipping.command import report as report_command
from tipping.report import facets, origin
from tipping.report import page as report
from tipping.report.galleries import by_nearness
from tipping.results.charts import RANDOM, RELEVANT, band, by_epoch, drop, svg
from tipping.results.folder import read_folder
from tipping.results.jobs import Job
from tipping.results.sweep import Network, networks, read
from tipping.results.tipping_map import groups, shown

HOSTILE = "<script>document.title=1</script>&amp;"
SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=3", "tracking=off", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "visualize.images=2", "visualize.filters_per_class=1"]
BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of network, one with a name that is no good, of two seeds at two mu; and what that printed."""
    folder = tmp_path_factory.mktemp("report")
    options = [*SMALL, f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}"]
    options += ["mu=0.1,1", "seed=0,1", "model.dropout=0,0.5", f"model.name='{HOSTILE}'"]
    lines = printed("interpret.py", "-m", *options).splitlines()
    assert lines[-2].endswith("sweep/report.html")
    assert lines[-1].startswith("next: python sweeps/tipping_point.py data=digits")
    return folder / "sweep"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, sweep: Path) -> webdriver.Chrome:
    browser.get((sweep / "report.html").as_uri())
    return browser


def cells(page: webdriver.Chrome) -> list[dict[str, str]]:
    """The rows of the table of jobs, as they are shown."""
    heads = [head.text for head in page.find_elements(By.CSS_SELECTOR, "table.sortable th")]
    rows = page.find_elements(By.CSS_SELECTOR, "table.sortable tbody tr")
    texts = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    return [dict(zip(heads, row, strict=True)) for row in texts]


def test_it_opens_without_errors_or_requests(browser: webdriver.Chrome, sweep: Path) -> None:
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of what went before
    browser.get((sweep / "report.html").as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in asked} == {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [(sweep / "report.html").as_uri()]


def test_names_are_text(page: webdriver.Chrome) -> None:
    assert page.title == "Tipping points: sweep"
    assert HOSTILE in page.find_element(By.ID, "answer").text


def test_a_click_changes_the_axis(page: webdriver.Chrome) -> None:
    def shown() -> list[str]:
        images = page.find_elements(By.CSS_SELECTOR, ".toggle img")
        return [image.get_attribute("alt") for image in images if image.is_displayed()]

    assert len(shown()) == 2
    assert all(words.endswith("against mu") for words in shown())
    page.find_element(By.CSS_SELECTOR, "label[for=axis-filters]").click()
    assert len(shown()) == 2
    assert all(words.endswith("against filters ablated") for words in shown())


@pytest.mark.parametrize("head", ["mu", "without them %", "relevant", "job"])
def test_a_click_sorts(page: webdriver.Chrome, head: str) -> None:
    def values() -> list[float]:
        return [float(re.match(r"[\d.]+", row[head]).group()) for row in cells(page)]

    (button,) = (b for b in page.find_elements(By.CSS_SELECTOR, "th button") if b.text == head)
    button.click()
    assert values() == sorted(values())
    button.click()
    assert values() == sorted(values(), reverse=True)
    assert len(set(values())) > 1


def test_each_picture_loads_and_says_what_it_shows(page: webdriver.Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.execute_script("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
    images = page.find_elements(By.TAG_NAME, "img")
    sizes = page.execute_async_script(
        "const done = arguments[0]; Promise.all([...document.images].map((one) => one.decode().then("
        "() => one.naturalWidth))).then(done, (error) => done(String(error)))"
    )
    assert isinstance(sizes, list), sizes
    assert min(sizes) > 100
    words = [image.get_attribute("alt") for image in images]
    assert all(words)
    assert len(set(words)) == len(words)
    assert any(one.startswith("What the relevant filters of class 3 respond to") for one in words)
    assert any(one.startswith("Why image") for one in words)


def test_a_phone_shows_all_of_it(page: webdriver.Chrome) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.refresh()
        page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        assert page.execute_script("return window.innerWidth") == 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_tables_and_images_are_there(browser: webdriver.Chrome, sweep: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((sweep / "report.html").as_uri())
        assert len(cells(browser)) == 8
        visible = [image for image in browser.find_elements(By.CSS_SELECTOR, ".charts img") if image.is_displayed()]
        assert len(visible) == 2 + 2 + 2
        browser.find_element(By.CSS_SELECTOR, "label[for=axis-filters]").click()
        assert browser.find_element(By.CSS_SELECTOR, ".by-filters img").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_numbers_are_those_of_the_table(page: webdriver.Chrome, sweep: Path) -> None:
    rows = {row["job"]: row for row in csv.DictReader((sweep / "results.csv").read_text().splitlines())}
    shown = cells(page)
    assert [row["job"] for row in shown] == [str(job) for job in range(8)]
    for row in shown:
        own = rows[row["job"]]
        assert row["model"] == own["model"] == HOSTILE
        assert row["model.dropout"] == own["model.dropout"]
        assert (row["seed"], float(row["mu"])) == (own["seed"], float(own["mu"]))
        assert row["relevant"] == f"{own['relevant']} of {own['filters']}"
        for head, key in (("intact", "intact"), ("without them", "selected"), ("without random", "random_mean")):
            assert row[f"{head} %"] == f"{100 * float(own[key]):.2f}"
        assert row["certified"] == {"True": "yes", "False": "no"}[own["certified"]]
        assert row["seconds"] == own["seconds"]


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
    report.write([read_folder(sweep)])


def test_what_is_no_sweep_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, said in ((tmp_path, " holds no jobs"), (tmp_path / "nosuch", ": no such folder")):
        assert report_command.main([str(folder)]) == 1
        assert capsys.readouterr().err.strip() == f"{folder}{said}; give the folder of a sweep or a search"


def test_sentences_say_what_the_map_says(sweep: Path) -> None:
    text = words(sweep / "report.html")
    for group in groups(networks(read([sweep])[0])[0]):
        mu = np.exp(np.clip(group.by_mu.bound, np.log(0.1), np.log(1)))
        assert f"{mu:.3g}" in text.split(f"dropout={group.settings['model.dropout']}.")[1].split(", without")[0]
        assert f"without {shown(group.by_filters)} of its 8 filters; random ones tip it without" in text
        assert f"random ones tip it without {shown(group.random)}," in text


def test_curves_are_those_of_the_records(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list] = {"drop": [], "by_layer": []}
    for name, calls in drawn.items():
        draw = getattr(facets.charts, name)
        monkeypatch.setattr(
            facets.charts, name, lambda lines, *axis, calls=calls, draw=draw: calls.append(lines) or draw(lines, *axis)
        )
    report.write([read_folder(sweep)])
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


def test_a_band_is_drawn_from_the_smallest_to_the_largest() -> None:
    lines = {RELEVANT: [(np.array([1.0, 2.0]), np.array([1.0, 0.0])), (np.array([1.0, 2.0]), np.array([0.5, 0.0]))]}
    spread, mean = drop(lines, "mu").to_dict()["layer"]
    assert (spread["encoding"]["y"]["field"], spread["encoding"]["y2"]["field"]) == ("low", "high")
    assert mean["encoding"]["y"]["field"] == "mean"


def test_pictures_nearest_the_tipping_point_come_first(sweep: Path) -> None:
    jobs, _ = read([sweep])
    over_seeds = groups(networks(jobs)[0])
    tips = {
        network.jobs[0].network: bound
        for group in over_seeds
        for network, bound in zip(group.networks, group.by_mu.bounds, strict=True)
    }
    distance = [abs(np.log(job.record.mu) - tips[job.network]) for job in by_nearness(jobs, over_seeds)]
    assert all(near <= far for near, far in zip(distance[:4], distance[4:], strict=True)), "four networks, twice"
    assert distance[:4] != distance[4:]


def test_a_failed_job_is_named_on_the_page(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    (copy / "5" / "result.json").unlink()
    report.write([read_folder(copy)])
    assert "Left out: job 5 failed or was stopped" in words(copy / "report.html")


def test_jobs_that_were_never_begun_are_counted(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job in ("6", "7"):
        shutil.rmtree(copy / job)
    text = words(report.write([read_folder(copy)]))
    assert "Left out: 2 of its jobs were never begun: it was stopped" in text
    assert "never begun" not in words(sweep / "report.html")


def test_a_job_alone_is_no_sweep_that_was_stopped(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep / "5", tmp_path / "5"))
    text = words(report.write([read_folder(copy)]))
    assert "Left out" not in text
    assert "python interpret.py data=digits" in text


def test_networks_that_are_not_above_chance_have_nothing_to_tip(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for path in copy.glob("*/result.json"):
        record = json.loads(path.read_text())
        if record["config"]["model"]["dropout"] == 0.5:
            record["accuracy"]["chance"] = 0.999
            path.write_text(json.dumps(record))
    text = words(report.write([read_folder(copy)]))
    assert re.search(r"dropout=0.5\. Intact accuracy is .*? %, not above chance \(99.90 %\): nothing tips", text)
    assert text.count("Tips at mu") == 1


def test_each_solver_has_its_own_place(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job in list(copy.glob("[0-9]")):
        other = Path(shutil.copytree(job, copy / f"1{job.name}"))
        record = json.loads((other / "result.json").read_text())
        record["selection"]["solver"] = record["config"]["selection"]["solver"] = "homotopy"
        (other / "result.json").write_text(json.dumps(record))
    text = words(report.write([read_folder(copy)]))
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
    text = words(report.write([read_folder(copy)]))
    assert "Left out: the charts of 1 of 2" in text
    assert text.count("Seeds 0, 1;") == 2, "all are said"


def test_checks_count_what_fails(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job, key, value in ((2, "certified", False), (3, "explainable", [0.0]), (3, "certified", False)):
        record = json.loads((copy / str(job) / "result.json").read_text())
        record["selection"][key] = value
        (copy / str(job) / "result.json").write_text(json.dumps(record))
    text = words(report.write([read_folder(copy)]))
    assert "6 of 8 selections are certified minima" in text
    before = int(re.search(r"In (\d) of 8 some class is explained better", words(sweep / "report.html"))[1])
    assert f"In {before - 1} of 8 some class is explained better" in text


def test_a_corrupt_record_is_named_on_the_page(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    (copy / "3" / "result.json").write_text("{")
    report.write([read_folder(copy)])
    assert f"Left out: {copy / '3'}: its record or predictions cannot be read" in words(copy / "report.html")


def test_one_mu_has_a_curve_along_its_filters(sweep: Path, tmp_path: Path) -> None:
    copy = tmp_path / "single"
    for path in sweep.glob("[0-9]*"):
        if json.loads((path / "result.json").read_text())["mu"] == 1:
            shutil.copytree(path, copy / path.name)
    report.write([read_folder(copy)])
    text = words(copy / "report.html")
    assert text.count("At mu = 1,") == 2
    assert "Left out" not in text
    records = [json.loads(path.read_text()) for path in copy.rglob("result.json")]
    own = [one for one in records if one["config"]["model"]["dropout"] == 0]
    mean = 100 * np.mean([one["accuracy"]["selected"] for one in own])
    assert re.search(rf"dropout=0\. At mu = 1, .*?{mean:.2f}[^%]*% without them", text)


@pytest.mark.long
def test_a_page_of_500_jobs_is_small_and_opens_quickly(sweep: Path, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Of 125 kinds of network, each with pictures."""
    jobs = sorted(sweep.glob("[0-9]*"))
    for number in range(500):
        copy = Path(shutil.copytree(jobs[number % 8], tmp_path / "big" / str(number)))
        record = json.loads((copy / "result.json").read_text())
        record["config"]["model"]["name"] = record["model"]["name"] = f"network {number // 8}"
        record["store"]["weights"] += str(number // 8)
        (copy / "result.json").write_text(json.dumps(record))
    page = report.write([read_folder(tmp_path / "big")])
    assert page.stat().st_size < 10_000_000
    assert page.read_text().count("<tr>") == 501
    browser.get(page.as_uri())
    milliseconds = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{page.stat().st_size / 1e6:.1f} MB, opened in {milliseconds / 1000:.2f} s")
    assert 0 < milliseconds < 3000


def test_a_band_holds_all_lines() -> None:
    lines = [(np.array([1.0, 4.0]), np.array([1.0, 0.0])), (np.array([2.0, 4.0, 8.0]), np.array([0.9, 0.5, 0.1]))]
    assert band(lines, log=True) == [
        {"x": 2.0, "mean": pytest.approx(0.7), "low": pytest.approx(0.5), "high": pytest.approx(0.9)},
        {"x": 4.0, "mean": pytest.approx(0.25), "low": 0.0, "high": 0.5},
    ]
    assert band(lines, log=False)[0]["low"] == pytest.approx(2 / 3)


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


def test_means_by_epoch_are_of_networks_that_all_tip() -> None:
    rows = [{"name": "a", "epoch": 1, "at": 3.0, "tips": True}, {"name": "a", "epoch": 1, "at": 8.0, "tips": False}]
    rows += [{"name": "a", "epoch": epoch, "at": at, "tips": True} for epoch in (2, 3) for at in (3.0, 5.0)]
    drawn = svg(by_epoch(rows))
    labels = re.findall(
        r'aria-label="epochs trained: ([^"]*)" role="graphics-symbol" aria-roledescription="(\w+)', drawn
    )
    assert [kind for _, kind in labels].count("point") == len(rows)
    (line,) = re.findall(r'aria-roledescription="line mark"[^>]*? d="([^"]*)"', drawn)
    assert len(re.findall("[ML]", line)) == 2, "epochs 2 and 3"


def test_jobs_of_searches_are_numbered(sweep: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "search" / "keras_cnn,seed=0,12345678" / "evaluations")).parents[1]
    page = report.write([read_folder(copy)]).read_text()
    for number in range(8):
        title = f"keras_cnn,seed=0,12345678/evaluations/{number}"
        assert f'<td data-value="{number}" title="{title}">{number}</td>' in page


TRAINED = "interpret.py -m mu=10,100,500,700 model.filters=4 seed=0,1 curve.points=4"


@pytest.mark.parametrize(
    ("script", "options", "next_one"),
    [
        ("train", "model.filters=4 seed=0,1 mu=3 curve.every_n_epochs=1 curve.points=4", TRAINED),
        ("interpret", "mu=1,2 seed=0,1 randomize=none,all", "sweeps/tipping_point.py seed=0,1"),
        ("tipping_point", "seed=0,1 model.dropout=0,0.5", "-m tipping map {folder} --compare model.dropout"),
        ("tipping_point", "seed=0,1 search.low=1", "interpret.py -m mu=2.0,30.0 seed=0,1"),
        ("fewest_filters", "search.trials=3", "sweeps/tipping_point.py model.filters=4 seed=0,1,2"),
        ("planted", "mu=1,2", None),
    ],
)
def test_there_is_something_to_try_next(tmp_path: Path, script: str, options: str, next_one: str | None) -> None:
    hydra = {"job": {"name": script}, "mode": "MULTIRUN", "overrides": {"task": options.split(), "hydra": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    crossings = [{"low": 2.0, "high": 3.0}, {"low": 20.0, "high": 30.0}]
    dropouts = ["0.5", "0.0"] if "dropout" in options else ["0.5", "0.5"]
    record = {"protocol": {"name": "described", "draws": 5}}
    jobs = [
        Job(tmp_path, SimpleNamespace(**record, seed=seed, config={"model": {"dropout": dropout}}), {})  # type: ignore[arg-type]
        for seed, dropout in enumerate(dropouts)
    ]
    found = [Network("", [job], None, 0.1, {"crossings": [one]}) for job, one in zip(jobs, crossings, strict=True)]
    given = origin.next_command(tmp_path, found, {"mu": "3.5", "model.filters": "4"})
    assert given == (f"python {next_one.format(folder=tmp_path)}" if next_one else "")


@pytest.mark.parametrize("script", ["tipping_point", "fewest_filters"])
def test_a_search_in_which_nothing_tips_has_no_next(tmp_path: Path, script: str) -> None:
    hydra = {"job": {"name": script}, "mode": "MULTIRUN", "overrides": {"task": ["seed=0,1"], "hydra": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    assert origin.next_command(tmp_path, [], {}) == ""


def test_a_folder_without_hydra_has_no_next(tmp_path: Path) -> None:
    assert origin.next_command(tmp_path, [], {}) == ""
    assert origin.command(tmp_path) == ""

"""The report of a sweep as it is seen: in a browser, on a phone, without scripts."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import MARKUP
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tipping.experiment.record import sealed
from tipping.report import page as report
from tipping.results.folder import read_folder

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


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
    heads = [head.text for head in page.find_elements(By.CSS_SELECTOR, "#jobs table th")]
    rows = page.find_elements(By.CSS_SELECTOR, "#jobs table tbody tr")
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
    assert MARKUP in page.find_element(By.ID, "answer").text


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

    (button,) = (b for b in page.find_elements(By.CSS_SELECTOR, "#jobs th button") if b.text == head)
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
        assert row["model"] == own["model"] == MARKUP
        assert row["model.dropout"] == own["model.dropout"]
        assert (row["seed"], float(row["mu"])) == (own["seed"], float(own["mu"]))
        assert row["relevant"] == f"{own['relevant']} of {own['filters']}"
        for head, key in (("intact", "intact"), ("without them", "selected"), ("without random", "random_mean")):
            assert row[f"{head} %"] == f"{100 * float(own[key]):.2f}"
        assert row["certified"] == {"True": "yes", "False": "no"}[own["certified"]]
        assert row["seconds"] == own["seconds"]


@pytest.mark.long
def test_a_page_of_500_jobs_is_small_and_opens(sweep: Path, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Of 125 kinds of network, each with pictures."""
    jobs = sorted(sweep.glob("[0-9]*"))
    for number in range(500):
        copy = Path(shutil.copytree(jobs[number % 8], tmp_path / "big" / str(number)))
        record = json.loads((copy / "result.json").read_text())
        record["config"]["model"]["name"] = record["model"]["name"] = f"network {number // 8}"
        record["store"]["weights"] += str(number // 8)
        (copy / "result.json").write_text(json.dumps(sealed(record)))
    page = report.write_page([read_folder(tmp_path / "big")])
    assert page.stat().st_size < 10_000_000
    assert page.read_text().count("<tr>") == 501
    browser.get(page.as_uri())
    milliseconds = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{page.stat().st_size / 1e6:.1f} MB, opened in {milliseconds / 1000:.2f} s")
    assert milliseconds > 0, "it is loaded"

"""Folders that somebody else has written: reading them runs nothing, reveals nothing, and goes on past a bad file."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest
import torch
from hostility import run
from running import printed, rewrite_arrays

from tipping import frames
from tipping.command import map as map_command
from tipping.command import report as report_command
from tipping.command import store as store_command
from tipping.command import table as table_command
from tipping.errors import printable
from tipping.experiment.overrides import count_jobs
from tipping.experiment.record import sealed
from tipping.experiment.store import Store
from tipping.files import load_arrays, load_saved, read_yaml
from tipping.report import page
from tipping.results import rendering
from tipping.results.folder import read_folder

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=1", "tracking=off", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "visualize.images=1", "visualize.filters_per_class=1"]
PIXEL = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network at two mu, with a picture."""
    folder = tmp_path_factory.mktemp("foreign")
    places = [f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}"]
    printed("interpret.py", "-m", *SMALL, *places, "mu=0.1,1")
    return folder / "sweep"


@pytest.fixture
def copy(sweep: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweep, tmp_path / "copy"))


def edit(job: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record of a job."""
    record = json.loads((job / "result.json").read_text())
    change(record)
    (job / "result.json").write_text(json.dumps(sealed(record)))


def report(folder: Path) -> str:
    """The page of a sweep."""
    code, _, err = run(report_command.main, [str(folder)])
    assert (code, err) == (0, "")
    return (folder / "report.html").read_text()


@pytest.mark.parametrize("file", ["multirun.yaml", ".hydra/hydra.yaml"])
def test_no_interpolation_is_resolved(copy: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    folder = copy if file == "multirun.yaml" else copy / "0"
    text = "hydra: {job: {name: '${oc.env:SECRET}'}, overrides: {task: ['mu=${oc.env:SECRET}'], hydra: []}}"
    (folder / file).write_text(text)
    page_text = report(folder)
    assert "hunter2" not in page_text
    assert "${oc.env:SECRET}" in page_text


@pytest.mark.parametrize("kind", ["link", "link of the folder", "pipe", "text", "folder"])
def test_pictures_are_files_of_the_job(copy: Path, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret" / "image_0.png"
    secret.parent.mkdir()
    secret.write_bytes(PIXEL + b"hunter2")
    pictures = copy / "0" / "pictures"
    shutil.rmtree(pictures)
    if kind == "link of the folder":
        pictures.symlink_to(secret.parent)
    else:
        pictures.mkdir()
        picture = pictures / "image_0.png"
        {
            "link": lambda: picture.symlink_to(secret),
            "pipe": lambda: os.mkfifo(picture),
            "text": lambda: picture.write_text("hunter2"),
            "folder": lambda: picture.mkdir(),
        }[kind]()
    text = report(copy)
    assert f"Left out: {pictures}/image_0.png is no picture" in text
    assert text.count("data:image/png") == len(list((copy / "1" / "pictures").glob("*.png"))), "the other job's"


def test_control_characters_reach_no_terminal_and_no_page(copy: Path) -> None:
    bad = "\x1b]0;x\x07\x00\x9b\u202e\udcff\ufffe\n"
    for number in ("0", "1"):
        edit(copy / number, lambda record: record["model"].update(name=bad))
        edit(copy / number, lambda record: record["config"]["model"].update(name=bad))
    (copy / "1").rename(copy / "\x1b[31m")
    (copy / "0" / "predictions.npz").unlink()
    ends = [run(main, [str(copy)]) for main in (table_command.main, map_command.main)]
    said = "".join(out + err for _, out, err in ends)
    said += report(copy) + (copy / "results.csv").read_text()
    assert [one for one in said if not one.isprintable() and one not in "\r\n"] == []
    assert "\\x1b" in said


def test_long_texts_are_shortened_and_stay_apart() -> None:
    one, other = (printable("x" * 10**6 + end) for end in "ab")
    assert one != other
    assert len(one) <= 1000


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@x", "=cmd|' /C calc'!A0"])
def test_cells_are_no_formulas(tmp_path: Path, text: str) -> None:
    table = tmp_path / "table.csv"
    frames.write_rows(table, [{"name": text, text: -0.5, "number": "-1e-5", "of": -3}])
    heads, cells = csv.reader(table.read_text().splitlines())
    assert heads == ["name", f"'{text}", "number", "of"]
    assert cells == [f"'{text}", "-0.5", "-1e-5", "-3"]


# ---- the chart engine


def test_an_engine_that_dies_costs_a_line(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import os, sys; sys.stdin.readline(); os.abort()")
    monkeypatch.setattr(rendering, "ENGINE", rendering.Engine())
    monkeypatch.setattr(rendering, "PROGRAM", [rendering.PROGRAM[0], str(dying)])
    code, out, err = run(table_command.main, [str(copy)])
    assert code == 1
    assert err == f"{copy / 'accuracy_drop.png'} could not be drawn: the chart engine ended, by signal 6\n"
    assert out.endswith(f"{copy / 'results.csv'}\n")
    assert not (copy / "accuracy_drop.png").exists(), "an old one would be taken for the new"
    text = report(copy)
    assert "Left out: Accuracy of keras_cnn against mu: the chart engine" in text
    assert "data:image/svg" not in text


def test_a_chart_that_cannot_be_drawn_leaves_the_engine_alive() -> None:
    engine = rendering.Engine()
    good = alt.Chart(alt.InlineData(values=[{"x": 1}])).mark_point().encode(x="x:Q").to_dict()
    with pytest.raises(rendering.NotDrawn):
        engine.render({**good, "mark": "nosuch"}, "svg")
    process = engine.process
    assert engine.render(good, "svg").startswith(b"<svg")
    assert engine.render(good, "png", scale=2).startswith(PIXEL)
    assert engine.process is process
    engine.close()


# ---- files that are no good


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for name in ("labels", "intact", "selected", "random"):
            with parts.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array_header_1_0(part, {"descr": "<i8", "fortran_order": False, "shape": (2**26,)})
                for _ in range(128):
                    part.write(bytes(2**20))


def too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


FILES = ["0/result.json", "0/predictions.npz", "multirun.yaml", "trials.csv"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("spoil", [pipe, device, too_large, lambda path: path.write_bytes(b"\0" * 99)])
def test_a_bad_file_is_left_out_and_the_page_goes_on(copy: Path, file: str, spoil: Callable[[Path], Any]) -> None:
    (copy / file).touch()
    spoil(copy / file)
    text = report(copy)
    assert f"Left out: {copy / Path(file).parts[0]}" in text
    assert f"{1 if file.startswith('0') else 2}, of 1 networks" in text


def test_an_archive_that_unpacks_to_gigabytes_is_left_out(copy: Path) -> None:
    bomb(copy / "0" / "predictions.npz")
    assert f"Left out: {copy / '0'}" in report(copy)


def test_a_header_does_not_decide_how_much_memory_an_array_takes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as parts, parts.open("labels.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, {"descr": "<i8", "fortran_order": False, "shape": (2**60,)})
    with pytest.raises(ValueError, match=r"big|small"):
        load_arrays(tmp_path / "a.npz", ["labels"])


def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {"a": rng.normal(size=(3, 4)), "f": np.asfortranarray(rng.normal(size=(3, 4))), "t": np.array(["x", "yy"])}
    arrays |= {"empty": np.zeros((2, 0)), "scalar": np.array(3)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    for name, array in load_arrays(tmp_path / "a.npz").items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(
    "text", ["a: &a [x,x]\nb: [*a,*a]", "[" * 5000, "!!python/object/apply:os.system ['touch x']\n- [", "a: [\n"]
)
def test_yaml_that_multiplies_or_nests_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_jobs_are_counted_without_listing_them() -> None:
    assert count_jobs(["mu=1,2,3", "seed=range(0,10,3)", "data=digits"]) == 12
    assert count_jobs(["mu=range(0,1000000000000)"]) == 10**12
    assert count_jobs(["mu=" + "[" * 3000]) is None
    assert count_jobs(["model=glob(*)"]) is None


def test_a_sweep_whose_predictions_are_all_lost_has_a_page(copy: Path) -> None:
    for path in copy.rglob("predictions.npz"):
        path.unlink()
    text = report(copy)
    assert text.count("Left out: ") == 2
    page.log_sweep(read_folder(copy))


def test_networks_without_a_relevant_filter_are_gathered(copy: Path) -> None:
    """All that a job writes if nothing is relevant: its curve has one point."""

    def nothing(record: dict[str, Any]) -> None:
        layers = dict.fromkeys(record["filters"]["per_layer"], 0)
        record["filters"] |= {"relevant": 0, "ablated": 0, "shared": [0, 0], "per_layer": layers}
        accuracy, curve = record["accuracy"], record["curve"]
        accuracy["selected"], accuracy["random"] = accuracy["intact"], [accuracy["intact"]] * 2
        curve |= {name: curve[name][:1] for name in ("removed", "selected", "weakest")}
        curve["random"] = [line[:1] for line in curve["random"]]

    for number in ("0", "1"):
        edit(copy / number, nothing)
        with np.load(copy / number / "predictions.npz") as held:
            intact_N, curve_OPN = held["intact"], held["curve"]
        rewrite_arrays(
            copy / number, "predictions.npz", selected=intact_N, random=[intact_N] * 2, curve=curve_OPN[:, :1]
        )
        with np.load(copy / number / "selection.npz") as held:
            none = np.zeros_like(held["weights"])
        none_K = np.zeros(0, int)
        rewrite_arrays(copy / number, "selection.npz", weights=none, order=none_K, controls=np.zeros((2, 0), int))
    code, out, err = run(table_command.main, [str(copy)])
    assert (code, err) == (0, "")
    assert out.count("0 of 8") == 2
    reason = "no filter is relevant at any mu, so nothing can tip it; give larger values of mu"
    code, _, err = run(map_command.main, [str(copy)])
    assert code == 1
    assert len(err.splitlines()) == 1
    assert reason in err
    assert reason in report(copy)


# ---- the store

TENSORS = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "compressed": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "meta": lambda: torch.ones(3, device="meta"),
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "expanded": lambda: torch.ones(1).expand(2**45),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.filterwarnings("ignore")
def test_other_tensors_than_are_written_are_a_line(tmp_path: Path, kind: str) -> None:
    place = Store(tmp_path).fetch("responses", {"seed": 1}, lambda: {"w": torch.ones(3)}).path
    content = torch.load(place, weights_only=True)
    torch.save({**content, "tensors": {"w": TENSORS[kind]()}}, place)
    code, out, err = run(store_command.main, ["verify", "--store", str(tmp_path)])
    assert (code, out) == (1, "")
    first, total = err.splitlines()
    assert first.startswith(f"{place} is damaged")
    assert total == "0 of 1 items are whole"


@pytest.mark.parametrize("recipe", ['{"_target_": 3}', '{"weights": []}', '{"a": "\\u001b[31m"}', "[" * 10**5, '"x"'])
def test_any_recipe_is_listed(tmp_path: Path, recipe: str, sweep: Path) -> None:
    place = Store(tmp_path).fetch("responses", {"seed": 1}, lambda: {"w": torch.ones(3)}).path
    torch.save({**torch.load(place, weights_only=True), "recipe": recipe}, place)
    os.mkfifo(place.with_name(f"{'0' * 16}.pt"))
    for command in ("list", "prune"):
        code, out, err = run(store_command.main, [command, str(sweep), "--store", str(tmp_path)])
        assert (code, err) == (0, "")
        assert "\x1b" not in out
    code, _, err = run(store_command.main, ["verify", "--store", str(tmp_path)])
    assert len(err.splitlines()) == 2


def test_a_packed_checkpoint_that_grows_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("a/data.pkl", bytes(2**25))
    with pytest.raises(ValueError, match="many times its size"):
        load_saved(tmp_path / "a.pt")


def test_pictures_that_no_record_names_are_not_shown(copy: Path) -> None:
    before = report(copy).count("data:image/png")
    (copy / "0" / "pictures" / "class_99.png").write_bytes(PIXEL)
    (copy / "0" / "pictures" / ".#image_0.png").symlink_to("somebody@machine.1234")  # an editor's lock
    text = report(copy)
    assert "pictures: the job&#39;s record does not name class_99" in text
    assert text.count("data:image/png") == before


@pytest.mark.parametrize("name", ["", "result.json", "predictions.npz", "selection.npz"])
def test_links_that_lead_out_of_the_folder_are_not_followed(copy: Path, sweep: Path, name: str) -> None:
    place = copy / "0" / name
    shutil.rmtree(place) if not name else place.unlink()
    place.symlink_to(sweep / "0" / name)
    (line,) = read_folder(copy).left_out
    assert line.startswith(f"{copy / '0'}: its record or predictions cannot be read")


def test_a_whole_number_that_no_float_holds_is_no_note(copy: Path) -> None:
    evaluations = copy / "evaluations"
    evaluations.mkdir()
    for number in ("0", "1"):
        (copy / number).rename(evaluations / number)
    (copy / "search.json").write_text(f'{{"evaluations": 2, "level": {10**400}, "crossings": []}}')
    assert "search.json" in report(copy)


def test_the_name_of_the_folder_is_printed_without_escapes(copy: Path) -> None:
    folder = copy.rename(copy.with_name("s\x1b[31mred"))
    (folder / "0" / "result.json").write_text('"digest"')
    for main in (table_command.main, report_command.main):
        _, out, err = run(main, [str(folder)])
        assert "\x1b" not in out + err
        assert r"s\x1b[31mred" in out

"""The options of the data in jobs: what decides a result, what a record says, and what is warned of."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from running import ROOT, options_of, record_of, rewrite
from torch import nn
from torch.utils.data import TensorDataset

from tipping import data
from tipping.data import sources
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.data_options import DataOptions
from tipping.experiment.network import load_dataset_and_model
from tipping.experiment.record import sealed
from tipping.experiment.records import read_record
from tipping.experiment.subject import Subject
from tipping.network import build

FOLDER = ("data=folder", "data.path=photos")


def test_the_defaults_in_conf_are_those_that_older_records_are_taken_to_have() -> None:
    plain = asdict(DataOptions(name="", root=None))
    own = {"source", "name", "root"}
    for path in sorted((ROOT / "conf" / "data").glob("*.yaml")):
        given = dict(options_of(f"data={path.stem}").data.__dict__)
        assert {key: value for key, value in given.items() if key not in own} == {
            key: value for key, value in plain.items() if key not in own
        }, path.name
    written = OmegaConf.load(ROOT / "conf" / "config.yaml").data
    assert set(written) == {"classes", "images", "responses", "mean", "std", "labels", "memory", "workers"}


def test_what_a_result_depends_on_is_known_by_it_and_nothing_else() -> None:
    plain = options_of("data=digits")
    assert config.deciding(plain)["data"] == "digits"
    assert "data_options" not in config.deciding(plain), "as before there were any"
    for same in ("data.memory=1", "data.workers=0", "data.root=elsewhere", "data.mean=0.0", "data.images=0"):
        assert config.search_key(options_of("data=digits", same)) == config.search_key(plain)
    others = ("data.classes=[3,5]", "data.classes=[5,3]", "data.images=9", "data.responses=9", "data.mean=0.5")
    others += ("data.std=2", "data.labels=[5,3]", "data.name=others")
    assert len({config.search_key(options_of("data=digits", *more.split())) for more in ("", *others)}) == 9
    keys = [config.search_key(options_of(*FOLDER, more)) for more in ("data.size=8", "data.size=9", "data.channels=1")]
    assert len({*keys, config.search_key(options_of("data=folder", "data.path=others", "data.size=8"))}) == 4


def test_older_records_are_of_the_same_job(run_script, tmp_path: Path) -> None:
    """They have the name and the root of the data alone, and number the classes."""
    assert run_script("interpret")[0] == 0
    record = record_of(tmp_path / "out")
    assert (record["classes"], record["data_files"]) == ([*"0123456789"], {})
    older = {"name": "digits", "root": None}
    rewrite(tmp_path / "out", config={**record["config"], "data": older})
    code, out, _ = run_script("interpret")
    assert (code, "done before" in out) == (0, True)
    code, _, err = run_script("interpret", "data.mean=0.5")
    assert code == 1
    assert "data_options.mean was None, and is 0.5" in err
    without = {key: value for key, value in record.items() if key not in ("classes", "data_files")}
    (tmp_path / "out" / "result.json").write_text(json.dumps(sealed(without)))
    assert read_record(tmp_path / "out").classes == [*"0123456789"]


def test_some_classes_and_images_are_interpreted(run_script, tmp_path: Path) -> None:
    chosen = ("data.classes=[7,3,1]", "data.images=200", "data.responses=90", "data.memory=0", "data.workers=0")
    code, _, err = run_script("interpret", *chosen, "curve.images=0", "trainer.max_epochs=3")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    digits = data.load("digits")
    kept = torch.isin(digits.test.labels_N, torch.tensor([7, 3, 1]))
    assert record["classes"] == ["7", "3", "1"]
    assert len(record["selection"]["explained"]) == 3
    assert record["curve"]["images"] == int(kept.sum())
    with np.load(tmp_path / "out" / "predictions.npz") as saved:
        assert [[7, 3, 1][label] for label in saved["labels"]] == digits.test.labels_N[kept].tolist()
    options = options_of("data=digits", *chosen, "model.filters=4", "model.depth=2")
    dataset, model = load_dataset_and_model(options, torch.device("cpu"))
    problem = Subject.from_options(model, dataset, options).fresh_responses()
    assert (len(dataset.train), problem.label_sq_C.sum()) == (200, 90)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """The digits 0 and 1 as one's own arrays."""
    digits = data.load("digits", classes=[0, 1])
    kinds = {"images": lambda split: (split.images_NCHW * 255).byte(), "labels": lambda split: split.labels_N}
    parts = {part: digits.split(part) for part in ("train", "test")}
    arrays = {f"{part}_{kind}": of(one).numpy() for part, one in parts.items() for kind, of in kinds.items()}
    np.savez(tmp_path / "mine.npz", **arrays, classes=np.array(["zero", "one"]))
    return tmp_path / "mine.npz"


def changed(path: Path, name: str) -> None:
    with np.load(path) as held:
        arrays = dict(held)
    arrays[name][0] ^= 1
    np.savez(path, **arrays)
    sources.forget()  # as in another process


@pytest.mark.parametrize("multirun", [False, True])
def test_a_job_is_not_done_when_its_images_have_changed(
    run_script, tmp_path: Path, arrays: Path, multirun: bool
) -> None:
    job, out = ("data=arrays", f"data.path={arrays}"), tmp_path / "out" / ("0" if multirun else "")
    assert run_script("interpret", *job, multirun=multirun)[0] == 0
    before = record_of(out)
    assert before["classes"] == ["zero", "one"]
    assert before["data_files"] == data.content_digests("arrays", path=arrays)
    code, text, err = run_script("interpret", *job, multirun=multirun)
    assert (code, "1 of 1 jobs are done" in text or "done before" in text) == (0, True), err
    for name, said in (("test_images", "test images"), ("train_images", "training images")):
        changed(arrays, name)
        code, _, err = run_script("interpret", *job, multirun=multirun)
        assert code == 1
        assert f"the content of the {said} has changed" in err
        assert len(err.splitlines()) == 1
    code, _, err = run_script("interpret", *job, "replace=true", multirun=multirun)
    assert code == 0, err
    assert record_of(out)["store"]["network"] != before["store"]["network"]


def trap() -> None:
    raise AssertionError("a function that a record names was called")


def test_no_function_that_a_record_names_is_called(run_script, tmp_path: Path) -> None:
    """Only one that the command line names: the job is composed anew, and found to be another."""
    assert run_script("interpret", multirun=True)[0] == 0
    record = record_of(tmp_path / "out" / "0")
    strange = {**record["config"]["data"], "source": "own", "_target_": f"{__name__}.trap"}
    rewrite(tmp_path / "out" / "0", config={**record["config"], "data": strange})
    code, _, err = run_script("interpret", multirun=True)
    assert code == 1
    assert "data_options.source was own, and is None" in err


def test_a_checkpoint_is_right_on_images_like_its_own_and_warned_of_on_others(run_script, tmp_path: Path) -> None:
    normalised, network = ("data.mean=0.3", "data.std=0.4"), ("model.filters=6", "trainer.max_epochs=8")
    assert run_script("train", *network, *normalised)[0] == 0
    trained = record_of(tmp_path / "out")["accuracy"]["intact"]
    assert trained > 0.7
    shutil.copy(next((tmp_path / "store" / "networks").glob("*.pt")), tmp_path / "given.pt")
    given = ("model.filters=6", f"+model.checkpoint={tmp_path / 'given.pt'}", "replace=true")
    for options, warned in ((normalised, False), ((*normalised, "data.classes=[9,8,7,6,5,4,3,2,1,0]"), True)):
        for script in ("train", "interpret"):
            code, out, err = run_script(script, *given, *options)
            assert code == 0, err
            lines = [line for line in (out + err).splitlines() if "data.mean, data.std" in line]
            assert len(lines) == warned
            intact = record_of(tmp_path / "out")["accuracy"]["intact"]
            assert intact < 0.2 if warned else intact == trained
    assert lines[0].startswith(f"model.checkpoint={tmp_path / 'given.pt'}: ")


class Wide(nn.Sequential):
    """Was trained on twelve classes; two of them are the ones that are there."""

    trained = True

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 12))


class Untrained(Wide):
    trained = False


LOGITS = ("data=digits", "data.classes=[0,1]", "data.labels=[10,4]", "model=own")


def test_a_network_may_have_more_classes_than_the_data(run_script, tmp_path: Path) -> None:
    wide = ("model=own", f"model._target_={__name__}.Wide", "data.classes=[0,1]", "data.labels=[10,4]", "mu=3")
    code, _, err = run_script("interpret", *wide)
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["classes"] == [{4: "1", 10: "0"}.get(logit, f"logit {logit}") for logit in range(12)]
    with np.load(tmp_path / "out" / "selection.npz") as saved:
        weights_RC = saved["weights"]
    assert weights_RC.shape == (6, 12)
    assert np.flatnonzero(weights_RC.any(0)).tolist() == [4, 10]
    with np.load(tmp_path / "out" / "predictions.npz") as saved:
        assert set(saved["labels"].tolist()) == {4, 10}
    plain = build({"_target_": f"{__name__}.Wide"}, (1, 8, 8), None, seed=0)
    assert plain(torch.zeros(1, 1, 8, 8)).shape == (1, 12)


class Told(nn.Sequential):
    """Needs to be given the number of classes that it was trained on."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, classes))


@pytest.mark.parametrize("randomize", ["none", "all"])
def test_a_network_is_given_the_classes_that_it_was_trained_on(run_script, tmp_path: Path, randomize: str) -> None:
    torch.save(Wide().state_dict(), tmp_path / "wide.pt")
    given = (f"model._target_={__name__}.Told", f"model.checkpoint={tmp_path / 'wide.pt'}", "+model.classes=12", "mu=3")
    code, _, err = run_script("interpret", *LOGITS, *given, f"randomize={randomize}")
    assert code == 0, err
    assert len(record_of(tmp_path / "out")["classes"]) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((f"model._target_={__name__}.Told",), r"Told needs the number of classes: give .* as \+model\.classes=1000$"),
        ((f"model._target_={__name__}.Untrained",), "data.labels: they are logits of a network that is trained"),
        ((f"model._target_={__name__}.Wide", "data.labels=[0,12]"), "data.labels: 12 is no logit of the network"),
        ((f"model._target_={__name__}.Wide", "data.labels=null"), r"must make logits \(N, 2\)"),
    ],
)
def test_logits_that_a_network_has_not_are_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset_and_model(options_of(*LOGITS, *options), torch.device("cpu"))


def made(bright: bool = False) -> tuple[object, ...]:
    """Datasets of one's own: 40 images to train on, 8 to test."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(48, 1, 8, 8, generator=generator) / (1 if bright else 2)
    labels = (images[:, 0, 0, 0] > images[:, 0, 0, 1]).long()
    return TensorDataset(images[:40], labels[:40]), TensorDataset(images[40:], labels[40:])


def test_datasets_of_ones_own_are_an_option(run_script, tmp_path: Path) -> None:
    own = ("data=own", f"data._target_={__name__}.made")
    assert run_script("interpret", *own)[0] == 0
    record = record_of(tmp_path / "out")
    assert record["classes"] == ["0", "1"]
    code, _, err = run_script("interpret", *own, "+data.arguments.bright=true")
    assert code == 1
    assert "data_options.arguments.bright was None, and is True" in err
    code, _, err = run_script("interpret", *own, "+data.arguments.dark=true", "replace=true")
    assert code == 1
    assert err.startswith(f"data._target_={__name__}.made: TypeError: ")
    for target, reason in (("nowhere.made", "ModuleNotFoundError"), ("null", "give a function")):
        code, _, err = run_script("interpret", "data=own", f"data._target_={target}", "replace=true")
        assert (code, len(err.splitlines())) == (1, 1)
        assert reason in err

"""Records as typed values and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import record_of

from tipping.experiment import versions
from tipping.experiment.record import InterpretRecord, TrainRecord, parse_record, sealed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one job of each script wrote."""
    from running import printed

    folder = tmp_path_factory.mktemp("records")
    options = ["data=digits", "trainer.max_epochs=1", "model.filters=4", "model.depth=2", "tracking=off"]
    options += ["curve.images=50", "curve.points=1", "protocol.draws=2", f"store.dir={folder / 'store'}"]
    printed("interpret.py", *options, "visualize=off", "mu=5", "randomize=all", f"hydra.run.dir={folder / 'interpret'}")
    printed("train.py", *options, "curve.every_n_epochs=1", f"hydra.run.dir={folder / 'train'}")
    return {kind: json.loads((folder / kind / "result.json").read_text()) for kind in ("interpret", "train")}


@pytest.mark.parametrize(("name", "kind"), [("interpret", InterpretRecord), ("train", TrainRecord)])
def test_what_was_written_is_what_is_read(written: dict[str, dict[str, Any]], name: str, kind: type) -> None:
    record = parse_record(written[name], job="7")
    assert type(record) is kind
    assert record.job == "7"
    assert json.loads(json.dumps(record.as_json())) == written[name]


def test_the_parts_are_typed(written: dict[str, dict[str, Any]]) -> None:
    record = parse_record(written["interpret"])
    assert isinstance(record, InterpretRecord)
    assert record.overlap is not None
    assert record.overlap.jaccard == written["interpret"]["overlap"]["jaccard"]
    assert record.filters.per_layer == written["interpret"]["filters"]["per_layer"]
    trained = parse_record(written["train"])
    assert isinstance(trained, TrainRecord)
    assert trained.curves["1"].tips_at == written["train"]["curves"]["1"]["tips_at"]


def test_records_from_before_files_were_noted_are_read_and_what_is_unknown_is_left(
    written: dict[str, dict[str, Any]],
) -> None:
    later = ("model_files", "trained_on", "files", "overrides", "presets", "digest")
    older = {key: value for key, value in written["interpret"].items() if key not in later}
    older["protocol"] = {axis: value for axis, value in older["protocol"].items() if axis != "scale"}
    older["config"] = {**older["config"], "protocol": older["protocol"]}
    record = parse_record({**older, "schema": 6, "later": 1})
    assert record.protocol["scale"] == "layer", "all there was"
    assert (record.model_files, record.trained_on, record.files, record.digest) == ({}, None, {}, "")


def test_the_machine_that_trained_a_network_is_named_not_the_one_that_found_it(
    run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, checkpoint = [], tmp_path / "given.pt"
    for processor, options in (("the first", []), ("another", []), ("another", [f"+model.checkpoint={checkpoint}"])):
        monkeypatch.setattr(versions, "_processor", lambda processor=processor: processor)
        code, _, err = run_script("interpret", f"mu={1 + len(names)}", "replace=true", *options)
        assert code == 0, err
        record = record_of(tmp_path / "out")
        names.append((record["device"], record["trained_on"]))
        checkpoint.write_bytes(next((tmp_path / "store" / "networks").glob("*.pt")).read_bytes())
    threads = f"cpu, {torch.get_num_threads()} threads"
    first, other = f"{threads} (the first)", f"{threads} (another)"
    assert names == [(first, first), (other, first), (other, None)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 5}, "of another version"),
        ({"filters": {}}, "not whole"),
        ({"mu": "5"}, "not whole"),
        ({"trained_on": 5}, "not whole"),
    ],
)
def test_others_are_refused(written: dict[str, dict[str, Any]], change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_record(sealed(written["interpret"] | change))
    with pytest.raises(ValueError, match="it has changed since it was written"):
        parse_record(written["interpret"] | change)


def test_a_part_is_missed(written: dict[str, dict[str, Any]]) -> None:
    for name in written["interpret"].keys() - {"model_files", "trained_on", "self_test", "data_files", "classes"}:
        with pytest.raises((ValueError, LookupError, TypeError)):
            parse_record({key: value for key, value in written["interpret"].items() if key != name})

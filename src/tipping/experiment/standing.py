"""What stands in the folder of a job: a finished job or none, and whether it is the job that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.options import RECORD, flat
from tipping.experiment.record import OtherVersion, Record
from tipping.experiment.records import DAMAGED, Kind, read_record, spoilt_picture
from tipping.experiment.staging import settle
from tipping.experiment.versions import versions
from tipping.files import fit_to_print
from tipping.network import file_digests

log = logging.getLogger(__name__)
NAMED = 3  # differences in a message, at most
KEEP = "give another folder, or replace=true to run again what differs"


class Standing(NamedTuple):
    """What stands in the folder of a job.

    Attributes:
        record: the whole record of a finished job; None without one that can be read.
        finished: whether a job is finished there, perhaps another one.
        why: why the folder does not hold the finished job that is asked for; empty if it does.
    """

    record: Record | None
    finished: bool
    why: str


def read_standing(directory: Path) -> Standing:
    """Read what stands in a folder, whichever job it is.

    Raises:
        OSError: a file cannot be read, though it may be whole.
    """
    settle(directory)
    try:
        record = read_record(directory)
        if record.pictures is None:
            return Standing(None, False, "its pictures are not drawn")
        spoilt = spoilt_picture(directory, record)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        return Standing(None, False, "nothing is finished" if name == RECORD else f"{name} is missing")
    except OtherVersion:
        return Standing(None, True, "its record is of another version of the package")
    except DAMAGED as error:
        return Standing(None, False, f"its record or arrays are damaged: {error}")
    return Standing(None, False, spoilt) if spoilt else Standing(record, True, "")


def compare_standing(
    standing: Standing, options: config.Config, conf: Path, kind: type[Record], files: Mapping[str, str | None]
) -> Standing:
    """Compare what stands in a folder with the job that is asked for.

    Args:
        standing: what stands there, whichever job it is.
        options: the options of the job.
        conf: the folder of the presets.
        kind: the class of the job's record.
        files: the digests of the files that decide the job's network.
    """
    if standing.record is None:
        return standing
    return standing._replace(
        why=of_other_options(standing.record, options, kind) or of_other_code(standing.record, conf, files)
    )


def of_other_options(record: Record, options: config.Config, kind: type[Record]) -> str:
    """Say in which options a record is of another job; return an empty text if in none."""
    if not isinstance(record, kind):
        return f"it is a {type(record).__name__}"
    recorded = config.decisive({**record.config, "data": record.data})
    asked = fit_to_print(config.deciding(options))
    if recorded == asked:
        return ""
    before, now = flat(recorded), flat(asked)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return _listed([f"{key} was {before.get(key)}, and is {now.get(key)}" for key in changed]) or "other options"


def of_other_code(record: Record, conf: Path, files: Mapping[str, str | None]) -> str:
    """Say which code, version or file a record does not share with a job of now; return an empty text if none.

    Args:
        record: the record.
        conf: the folder of the presets.
        files: the digests of the files that decide the job's network.
    """
    before, now = ({**one, "commit": ""} for one in (record.versions, versions(conf)))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    sentences = [
        "other code" if key == "code" else f"{key} was {before.get(key)}, and is {now.get(key)}" for key in changed
    ]
    names = {"source": "the file of model._target_", "checkpoint": "model.checkpoint"}
    others = [key for key in {**record.model_files, **files} if record.model_files.get(key) != files.get(key)]
    return _listed([*sentences, *(f"{names.get(key, key)} has changed" for key in others)])


def _listed(differences: list[str]) -> str:
    """Return the first differences as one text, each cut to a readable length."""
    more = [f"{len(differences) - NAMED} more"] if len(differences) > NAMED else []
    return "; ".join([*(" ".join(one.split())[:200] for one in differences[:NAMED]), *more])


def read_matching(directory: Path, options: config.Config, conf: Path, kind: type[Kind]) -> Kind | None:
    """Return the record in a folder, if it is of the job that is asked for, and its files are whole.

    Args:
        directory: the folder of the job.
        options: the options of the job.
        conf: the folder of the presets.
        kind: the class of the job's record.

    Returns:
        the record; None if the job is to be run.

    Raises:
        OSError: a file of the directory, or the checkpoint, cannot be read, though the file may be whole.
        InputError: the network's class cannot be imported; or a finished job of other options, code or files is there,
            and the options do not ask to replace it.
    """
    standing = read_standing(directory)
    if standing.record is not None:
        standing = compare_standing(standing, options, conf, kind, file_digests(options.model))
    if standing.finished and not standing.why:
        assert isinstance(standing.record, kind)
        return standing.record
    if standing.finished and not options.replace:
        raise InputError(f"{directory} holds a finished job that is another ({standing.why}): {KEEP}")
    if (directory / RECORD).exists():
        log.info("run again, as %s: %s", standing.why, directory)
    return None


def begin(directory: Path, composed: DictConfig, conf: Path, kind: type[Record]) -> config.Config | None:
    """Begin a job in a folder: return the options of the job; nothing in the folder is changed.

    Args:
        directory: the folder of the job.
        composed: the composed options.
        conf: the folder of the presets.
        kind: the class of the job's record.

    Returns:
        the options; None if the folder holds the record of a job with these options and this code, and the options
        ask to resume.

    Raises:
        InputError, omegaconf.errors.OmegaConfBaseException: `parse` raises it.
        InputError, OSError: `read_matching` raises it.
    """
    options = config.parse(composed)
    if options.resume and read_matching(directory, options, conf, kind) is not None:
        log.info("done before: %s", directory)
        return None
    return options

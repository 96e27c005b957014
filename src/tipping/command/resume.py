"""Multiruns that are resumed: whether a folder is of the same multirun, and which of its jobs are done."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tipping.command.job_folders import HYDRA, Planned, composed_job
from tipping.command.wording import describe_mistake
from tipping.errors import InputError
from tipping.experiment.config import ELSEWHERE, Config, parse, require_device, search_key
from tipping.experiment.options import RECORD
from tipping.experiment.overrides import NO_YAML, Given, own_presets, swept

if TYPE_CHECKING:
    from tipping.experiment.record import Record
    from tipping.experiment.standing import Standing

SHOWN = 8  # numbers of jobs in a line, at most


def hold(folder: Path, what: str = "sweep", option: str = "hydra.sweep.dir") -> FileLock:
    """Hold the folder of a multirun, or of a single job, until this process ends.

    Args:
        folder: the folder.
        what: what runs there, for a message.
        option: the option that says where.

    Raises:
        InputError: another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{option}={folder}: a {what} is running there; wait for it, or give another") from error
    return lock


def done_before(folder: Path, options: DictConfig, jobs: Sequence[Planned]) -> frozenset[int]:
    """Return the numbers of a multirun's jobs that are done already, and print how many there are.

    Args:
        folder: the folder of the multirun.
        options: the composed options, with Hydra's.
        jobs: the jobs of the multirun.

    Raises:
        InputError: the folder holds jobs of another multirun, or finished jobs of other code, which the options do not
            ask to replace; the options ask not to resume; or the jobs that are left could not run.
    """
    before = {path.parent for name in (HYDRA, RECORD) for path in folder.glob(f"*/{name}")}
    if not before:
        return frozenset()
    if not (options.resume or options.replace):
        raise InputError(f"hydra.sweep.dir={folder} holds the jobs of an earlier sweep: give another, or resume=true")
    from tipping.experiment.standing import read_standing  # imports torch

    before_standings = {job.number: read_standing(job.folder) for job in jobs if job.folder in before}
    _check_same_sweep(folder, options, jobs, before, before_standings)
    standings = _compared(options, jobs, before_standings)
    others = {number: one.why for number, one in standings.items() if one.finished and one.why}
    if others and not options.replace:
        number, why = next(iter(others.items()))
        raise InputError(
            f"hydra.sweep.dir={folder}: {len(others)} finished jobs there are others (job {number}: {why}): give "
            "another folder, or replace=true to run again what differs"
        )
    done = (
        frozenset(number for number, one in standings.items() if one.finished and not one.why) if options.resume else ()
    )
    if len(done) < len(jobs):
        _check_place(options)
    if options.replace:
        _check_pending(options, [job for job in jobs if job.number not in done])
    _say_why({job.number: standings[job.number].why for job in jobs if job.number in standings.keys() - done}, jobs)
    print(f"{len(done)} of {len(jobs)} jobs are done and are not run again")
    return frozenset(done)


def _check_same_sweep(
    folder: Path,
    options: DictConfig,
    jobs: Sequence[Planned],
    before: set[Path],
    before_standings: Mapping[int, Standing],
) -> None:
    """Check that the jobs in a folder are those of the multirun, by the overrides recorded with each.

    Raises:
        InputError: they are others.
    """
    name = _name_of(folder)
    if name not in (None, options.hydra.job.name) and not options.replace:
        raise InputError(f"hydra.sweep.dir={folder} holds a sweep of {name}.py: give another folder")
    others = {path: _overrides(path) for path in sorted(before - {job.folder for job in jobs})}
    for number, one in before_standings.items():
        given = (one.record.overrides or _overrides(jobs[number].folder)) if one.record else []
        if given and _deciding(given) != _deciding(jobs[number].overrides) and not options.replace:
            others[jobs[number].folder] = given
    for path, given in others.items():
        text, ours = " ".join(_deciding(given)), {job.folder for job in jobs}
        remedy = "give another folder, or replace=true" if path in ours else "give another folder"
        raise InputError(f"hydra.sweep.dir={folder}: job {path.name} there is another ({text}): {remedy}")


def _compared(
    options: DictConfig, jobs: Sequence[Planned], before_standings: Mapping[int, Standing]
) -> dict[int, Standing]:
    """Compare what stands in the folders of jobs with the jobs, by number; compose only jobs that are not as recorded.

    Composing a job takes a hundred times as long as reading its record.
    """
    from tipping.experiment.standing import compare_standing, of_other_code  # imports torch
    from tipping.experiment.versions import digests_of_files, has_own_images

    kind, conf, presets = _kind(options), _presets(options), own_presets(options.hydra)
    digests = functools.cache(lambda text: digests_of_files(*json.loads(text)))  # a checkpoint may be of many jobs
    standings = dict(before_standings)
    for number, one in before_standings.items():
        job, record = jobs[number], one.record
        if record is None:
            continue
        given, asked = Given(record.overrides or [], record.presets), Given(job.overrides, presets)
        try:
            if isinstance(record, kind) and record.overrides and _same(given, asked) and not has_own_images(record):
                files = digests(json.dumps([record.config["model"], None]))
                standings[number] = one._replace(why=of_other_code(record, conf, files))
            else:
                config = _parsed(composed_job(options, number, job.overrides))
                standings[number] = compare_standing(
                    one, config, conf, kind, digests(json.dumps([config.model, asdict(config.data)]))
                )
        except (
            InputError,
            OmegaConfBaseException,
            OSError,
        ) as error:  # the job will raise it again, and change nothing
            standings[number] = one._replace(finished=False, why=f"it cannot be compared with what is there: {error}")
    return standings


def _same(given: Given, asked: Given) -> bool:
    """Return whether two jobs, by what was given to each, must have the same options that decide their results."""
    return asked.decides and given.presets == asked.presets and _deciding(given.overrides) == _deciding(asked.overrides)


def _check_place(options: DictConfig) -> None:
    """Check the options that say where jobs run, unless they are swept.

    Raises:
        InputError: there is no such device, or the store cannot be written to.
    """
    several = swept(options.hydra.overrides.task)
    _check_device_and_store(
        None if "device" in several else options.device, None if "store.dir" in several else options.store.dir
    )


def _check_device_and_store(device: str | None, store: str | None) -> None:
    """Check a device and the folder of a store, unless they are None; raise as `_check_place` does."""
    from tipping.experiment.network import pick_device  # imports torch
    from tipping.experiment.store import Store

    if device is not None:
        require_device(device)
        pick_device(device)
    if store is not None:
        Store(store)


def begin_run(options: DictConfig) -> FileLock:
    """Check a single job before Hydra writes into its folder, and hold the folder until this process ends.

    Args:
        options: the composed options, with Hydra's.

    Raises:
        InputError, omegaconf.errors.OmegaConfBaseException: the job could not run; its folder is a multirun's; another
            process holds the folder; or a finished job of other options, code or files is there, which the options do
            not ask to replace.
    """
    folder = Path(options.hydra.run.dir)
    if (folder / "multirun.yaml").exists() or any(folder.glob(f"*/{HYDRA}")) or any(folder.glob(f"*/{RECORD}")):
        raise InputError(f"hydra.run.dir={folder} is the folder of a sweep or search: give another folder")
    earlier = os.path.lexists(folder / RECORD) or (folder / HYDRA).exists()
    if not earlier:
        return hold(folder, "job", "hydra.run.dir")
    config = _parsed(options)
    _check_place(options)
    lock = hold(folder, "job", "hydra.run.dir")
    if config.resume:
        from tipping.experiment.standing import read_matching  # imports torch

        if read_matching(folder, config, _presets(options), _kind(options)) is not None:
            return lock
    _check_suits(config, options)
    return lock


def _check_suits(config: Config, options: DictConfig) -> None:
    """Check that the options of a job suit its data and network, as the job itself does, before anything is trained.

    Raises:
        InputError: they do not.
        OSError: the checkpoint cannot be read.
    """
    from tipping.experiment.checks import untrained  # imports torch
    from tipping.experiment.network import load_dataset_and_model, pick_device
    from tipping.network import load_checkpoint

    device = pick_device("cpu")
    if options.hydra.job.name == "train":
        _, model = load_dataset_and_model(config, device)
    else:
        model = untrained(config, device).model
    if (checkpoint := config.model.get("checkpoint")) is not None:
        load_checkpoint(model, checkpoint)


def _check_pending(options: DictConfig, jobs: Iterable[Planned]) -> None:
    """Check all jobs that are to run where some replace earlier ones, before any of them starts.

    Otherwise earlier jobs might stay in a folder whose page names options that none of them has.

    Raises:
        InputError: a job cannot run.
    """
    seen = set[str]()
    for job in jobs:
        try:
            config = _parsed(composed_job(options, job.number, job.overrides))
            _check_device_and_store(config.device, config.store.dir)
            if (key := search_key(config)) not in seen:  # mu does not count
                _check_suits(config, options)
            seen.add(key)
        except (InputError, OmegaConfBaseException, HydraException, OSError) as error:
            reason = describe_mistake(error)
            raise InputError(f"job {job.number} cannot run, so nothing is replaced: {reason}") from None


def newer_than_records(folder: Path, names: Sequence[str]) -> bool:
    """Return whether files in the folder of a multirun are there, and newer than the records of its jobs."""
    paths = [folder / name for name in names]
    if not paths or not all(path.is_file() for path in paths):
        return False
    latest = max(path.stat().st_mtime_ns for path in folder.glob(f"*/{RECORD}"))
    return all(path.stat().st_mtime_ns > latest for path in paths)


def note(folder: Path, options: DictConfig) -> None:
    """Write the file by which Hydra marks the folder of a multirun, for a multirun of which nothing is left to run."""
    from tipping.files import replacing  # imports torch

    with replacing(folder / "multirun.yaml") as part:
        OmegaConf.save(options, part)


def _say_why(reasons: Mapping[int, str], jobs: Sequence[Planned]) -> None:
    """Print why jobs are run again: a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for number, why in reasons.items():
        if (jobs[number].folder / RECORD).exists():
            by_reason.setdefault(why or "resume=false", []).append(str(number))
    for why, numbers in by_reason.items():
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        print(f"job {', '.join(numbers[:SHOWN])}{more}: run again, as {why}")


def _parsed(composed: DictConfig) -> Config:
    """Return the typed options of a job that Hydra has composed."""
    return parse(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))


def _kind(options: DictConfig) -> type[Record]:
    """Return the class of the records of a multirun's jobs."""
    from tipping.experiment.record import KINDS, InterpretRecord  # imports torch

    return KINDS.get(options.hydra.job.name, InterpretRecord)


def _name_of(folder: Path) -> str | None:
    """Return the script of the multirun in a folder; None if the folder does not say it."""
    name = _kept(folder / "multirun.yaml", lambda held: held["hydra"]["job"]["name"])
    return name if isinstance(name, str) else None


def _overrides(job: Path) -> list[str]:
    """Read the overrides that Hydra has kept in the folder of a job; return an empty list if it does not say them."""
    held = _kept(job / HYDRA / "overrides.yaml", lambda held: held)
    return [str(one) for one in held] if isinstance(held, list) else []


def _kept(path: Path, pick: Callable[[Any], Any]) -> Any:
    """Return the part that `pick` takes from a file that Hydra has written.

    Hydra does not write its files whole or not at all. A file that is missing or torn says nothing, and returns None:
    the records say what is done.
    """
    from tipping.files import read_yaml  # with torch, as above

    try:
        return pick(read_yaml(path))  # as it stands: an interpolation may reveal, or run, anything
    except (OSError, LookupError, *NO_YAML):
        return None


def _presets(options: DictConfig) -> Path:
    """Return the folder of the presets."""
    return next(Path(source.path) for source in options.hydra.runtime.config_sources if source.provider == "main")


def _deciding(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that decide the result of a job, not where or how the job runs."""
    return [one for one in overrides if one.lstrip("+~").split("=")[0].split(".")[0] not in ELSEWHERE]

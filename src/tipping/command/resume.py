"""Multiruns that are resumed: whether a folder is of the same multirun, and which of its jobs are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tipping.errors import InputError
from tipping.experiment.config import ELSEWHERE, parse
from tipping.experiment.overrides import NO_YAML, overrides_of_jobs


def hold(folder: Path) -> FileLock:
    """Hold the folder of a multirun until this process ends.

    Raises:
        InputError: another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"hydra.sweep.dir={folder}: a sweep is running there; wait for it, or give another") from error
    return lock


def done_before(folder: Path, options: DictConfig) -> frozenset[int]:
    """Return the numbers of a multirun's jobs that are done already, and print how many there are.

    Args:
        folder: the folder of the multirun.
        options: the composed options, with Hydra's.

    Raises:
        InputError: the folder holds jobs of another multirun, or the options ask not to resume.
    """
    before = {path.parents[1]: _overrides(path) for path in folder.glob("*/.hydra/overrides.yaml")}
    if not before:
        return frozenset()
    if not options.resume:
        raise InputError(f"hydra.sweep.dir={folder} holds the jobs of an earlier sweep: give another, or resume=true")
    name = _name_of(folder)
    if name not in (None, options.hydra.job.name):
        raise InputError(f"hydra.sweep.dir={folder} holds a sweep of {name}.py: give another folder")
    jobs = overrides_of_jobs(options.hydra.overrides.task)
    for job, overrides in before.items():
        expected = jobs[int(job.name)] if job.name.isdecimal() and int(job.name) < len(jobs) else None
        if expected is None or (overrides and _deciding(overrides) != _deciding(expected)):
            given = " ".join(_deciding(overrides))
            raise InputError(
                f"hydra.sweep.dir={folder}: job {job.name} there is another ({given}): give another folder"
            )
    done = frozenset(int(job.name) for job in before if _is_done(job, options, jobs[int(job.name)]))
    print(f"{len(done)} of {len(jobs)} jobs are done and are not run again")
    return done


def _is_done(job: Path, options: DictConfig, overrides: Sequence[str]) -> bool:
    """Return whether a folder holds the record of a job with these overrides."""
    from tipping.experiment import records  # imports torch, which a folder without jobs does not need
    from tipping.experiment.record import InterpretRecord, TrainRecord

    if not (job / records.RECORD).is_file():
        return False
    composed = GlobalHydra.instance().config_loader().load_sweep_config(options, list(overrides))
    kind: type[Any] = TrainRecord if options.hydra.job.name == "train" else InterpretRecord
    try:
        config = parse(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
        return records.read_matching(job, config, _presets(options), kind) is not None
    except (InputError, OmegaConfBaseException, OSError):  # the job will raise it again
        return False


def _name_of(folder: Path) -> str | None:
    """Return the script of the multirun in a folder; None if the folder does not say it."""
    path = folder / "multirun.yaml"
    return _kept(path, lambda held: OmegaConf.select(held, "hydra.job.name")) if path.exists() else None


def _overrides(path: Path) -> list[str]:
    """Read the overrides of a job."""
    return _kept(path, lambda held: [str(one) for one in held])


def _kept(path: Path, pick: Callable[[Any], Any]) -> Any:
    """Return the part that `pick` takes from a file that Hydra has written.

    Raises:
        InputError: the file holds something else.
    """
    try:
        return pick(OmegaConf.load(path))
    except NO_YAML as error:
        raise InputError(f"{path} cannot be read; give another hydra.sweep.dir") from error


def _presets(options: DictConfig) -> Path:
    """Return the folder of the presets."""
    return next(Path(source.path) for source in options.hydra.runtime.config_sources if source.provider == "main")


def _deciding(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that decide the result of a job, not where or how the job runs."""
    return [one for one in overrides if one.lstrip("+~").split("=")[0].split(".")[0] not in ELSEWHERE]

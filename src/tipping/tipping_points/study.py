"""Searches as Optuna studies, which several workers may share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from tipping.errors import InputError
from tipping.tipping_points.bracketing import Bracketing

STUDY = "study.log"
WAIT = 0.5  # seconds between looks at what others evaluate
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # for searches over several parameters, by their seed
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
LOST = (SQLAlchemyError, OptunaError)  # what is raised where a storage is out of reach,
UNOPENED = (*LOST, ImportError, RuntimeError, ValueError, OSError)  # and where none is
EXCESS = "excess"  # what a trial notes: its accuracy over the level


class BracketingSampler(BaseSampler):
    """`Bracketing` as a sampler of the parameter mu; trials note their `EXCESS`. Safe with several workers: what
    others evaluate is left to them."""

    def __init__(self, bracketing: Bracketing) -> None:
        self.bracketing = bracketing

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        mu = self.bracketing.next(known(study), _waiting(study))
        return math.sqrt(self.bracketing.low * self.bracketing.high) if mu is None else mu

    def idle(self, study: Study) -> bool:
        """Return whether a worker should wait for what others are evaluating."""
        waiting = _waiting(study)
        return bool(waiting) and self.bracketing.next(known(study), waiting) is None

    def stop_when_finished(self, study: Study, _: FrozenTrial) -> None:
        """Stop a study that is finished; a callback of `Study.optimize`."""
        if self.bracketing.finished(known(study)):
            study.stop()


def known(study: Study) -> dict[float, float]:
    """Return, for each mu of a study's finished trials, by how much accuracy exceeds the level."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.params["mu"]: trial.user_attrs[EXCESS] for trial in done}


def _waiting(study: Study) -> list[float]:
    """Return the values of mu that are being evaluated."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial.params["mu"] for trial in running if "mu" in trial.params]


def open_study(storage: str | None, directory: Path, weights: str = "") -> Study:
    """Open a study, named as its folder, new or as it was left: in a file there, or wherever a URL says.

    Args:
        weights: of the network searched, as a hash.

    Raises:
        InputError: the storage cannot be opened, or its study is of another folder or other weights.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own = {"folder": str(directory.resolve()), "weights": weights}
    remedy = "install what is missing, give another, or null"
    own_turn = FileLock(directory.parent / "storage.lock")  # a new storage is made by one worker
    with _reaching(f"search.storage={storage}: cannot be opened", remedy, UNOPENED), own_turn:
        backend = JournalStorage(JournalFileBackend(str(directory / STUDY))) if storage is None else storage
        study = optuna.create_study(storage=backend, study_name=directory.name, load_if_exists=True)
        for name, value in own.items():
            if name not in study.user_attrs:
                study.set_user_attr(name, value)
        noted = study.user_attrs
    if storage is not None and noted["folder"] != own["folder"]:
        raise InputError(
            f"search.storage={storage}: {directory.name} there is searched from {noted['folder']}: go on in that folder"
        )
    if noted["weights"] != weights:
        raise InputError(
            f"{directory}: was a search of a network with other weights, trained by another version or machine: "
            "give another hydra.sweep.dir"
        )
    return study


@contextmanager
def _reaching(problem: str, remedy: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Errors of a storage as a user's."""
    try:
        yield
    except errors as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{problem} ({reason}); {remedy}") from error


def find_again(
    study: Study, evaluate: Callable[[dict[str, Any]], tuple[float, dict[str, Any]]], directory: Path
) -> None:
    """Evaluate again what a study knows, which but reads files, unless these are lost or of other code.

    Raises:
        InputError: something else comes out than before.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        value, _ = evaluate(dict(trial.params))
        if value != trial.value:
            where = ", ".join(f"{name}={parameter:g}" for name, parameter in trial.params.items())
            raise InputError(
                f"{directory}: {where} gave {trial.value:g} before, and gives {value:g} now, by other code or on "
                "another machine; search in another folder"
            )


def work(
    study: Study,
    space: Mapping[str, Sequence[float]],
    evaluate: Callable[[dict[str, Any]], tuple[float, dict[str, Any]]],
    sampler: Callable[[int], BaseSampler],
    directory: Path,
    trials: int,
) -> None:
    """Evaluate what a sampler asks for until so many trials are finished, or a bracketing is.

    Several workers may do so at once, also on other machines that share the folder. A trial holds a lock as long as it
    runs: one that was killed is seen by that, and asked for again.

    Args:
        space: the range of each parameter; whole numbers if its ends are. That of mu is logarithmic.
        evaluate: gives the value of some parameters, to be minimised, and what the trial notes beside it, its `EXCESS`
            among that.
        sampler: the sampler for a trial, by its number.

    Raises:
        InputError: the storage of the study is lost.
    """
    with (
        _reaching("search.storage: lost", "start the command again when it is back", LOST),
        tqdm(desc=study.study_name, total=trials, leave=False, disable=None) as progress,
    ):
        while True:
            with FileLock(directory / "ask.lock"):
                _fail_those_killed(study, directory)
                done, busy = (
                    len(study.get_trials(deepcopy=False, states=(state,)))
                    for state in (TrialState.COMPLETE, TrialState.RUNNING)
                )
                progress.update(done - progress.n)
                study.sampler = own = sampler(len(study.trials))
                bracketing = own if isinstance(own, BracketingSampler) else None
                if done + busy >= trials or (bracketing and bracketing.bracketing.finished(known(study))):
                    return
                idle = bracketing is not None and bracketing.idle(study)
                if not idle:
                    trial = study.ask()
                    chosen = {name: _suggest(trial, name, *ends) for name, ends in space.items()}
                    lock = _lock(directory, trial.number)
                    lock.acquire()
            if idle:
                time.sleep(WAIT)
                continue
            try:
                value, notes = evaluate(chosen)
                for name, note in notes.items():
                    trial.set_user_attr(name, note)
                if not bracketing:
                    trial.set_constraint(EXCESS, notes[EXCESS])  # at the level, or under it
                study.tell(trial, value)
            except BaseException:
                study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                raise
            finally:
                lock.release()


def _suggest(trial: optuna.Trial, name: str, low: float, high: float) -> float:
    if isinstance(low, int) and isinstance(high, int) and name != "mu":
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=name == "mu")


def _fail_those_killed(study: Study, directory: Path) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with suppress(Timeout), _lock(directory, trial.number).acquire(timeout=0):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)  # it may just have ended


def _lock(directory: Path, number: int) -> FileLock:
    folder = directory / "locks"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{number}.lock")

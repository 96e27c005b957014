"""Search for tipping points by Optuna studies, which several workers may share."""

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
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from tipping.errors import InputError
from tipping.tipping_points.bracketing import Bracketing
from tipping.tipping_points.journal import Journal

STUDY = "study.log"
WAIT = 0.5  # seconds between checks while other workers evaluate
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # for searches over several parameters; each takes a seed
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
LOST = (SQLAlchemyError, OptunaError)  # raised where an open storage goes out of reach
UNOPENED = (*LOST, ImportError, RuntimeError, ValueError, OSError)  # raised where a storage cannot be opened
EXCESS = "excess"  # the attribute of a trial that holds its accuracy minus the level


class BracketingSampler(BaseSampler):
    """An Optuna sampler of the parameter mu that follows a `Bracketing`.

    Trials must set the attribute `EXCESS`. Several workers may share a study: a mu that one worker evaluates is not
    given to another.
    """

    def __init__(self, bracketing: Bracketing) -> None:
        self.bracketing = bracketing
        self._chosen: float | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameter: mu is sampled independently."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no parameter: mu is sampled independently."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        """Return the mu to evaluate next; the middle of the range if none is worth evaluating now."""
        mu, self._chosen = self._next(study) if self._chosen is None else self._chosen, None
        return math.sqrt(self.bracketing.low * self.bracketing.high) if mu is None else mu

    def choose(self, study: Study) -> bool:
        """Choose the mu of the next trial; return whether there is one, else a worker waits until others finish theirs.

        Other workers may finish at any time: the mu is chosen here and not looked for again when it is sampled.
        """
        self._chosen = self._next(study)
        return self._chosen is not None

    def _next(self, study: Study) -> float | None:
        waiting = _waiting(study)  # before what is known: a trial that ends meanwhile is in both rather than in neither
        return self.bracketing.next(known(study), waiting)

    def stop_when_finished(self, study: Study, _: FrozenTrial) -> None:
        """Stop a study whose bracketing is finished; use as a callback of `Study.optimize`."""
        if self.bracketing.finished(known(study)):
            study.stop()


def known(study: Study) -> dict[float, float]:
    """Return accuracy minus the level at each mu of a study's finished trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.params["mu"]: trial.user_attrs[EXCESS] for trial in done}


def _waiting(study: Study) -> list[float]:
    """Return the values of mu of a study's running trials."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial.params["mu"] for trial in running if "mu" in trial.params]


def open_study(storage: str | None, directory: Path, weights: str = "") -> Study:
    """Open the study of a folder, or create it; its name is the folder's name.

    Args:
        storage: the URL of a storage; None for a file in the folder.
        directory: the folder of the search.
        weights: a digest of the weights of the network searched.

    Raises:
        InputError: the storage cannot be opened or is damaged, or its study belongs to another folder or to other
            weights.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    origin = {"folder": str(directory.resolve()), "weights": weights}
    remedy = "install what is missing, give another, or null"
    turn = FileLock(directory.parent / "storage.lock")  # one worker at a time creates a storage
    with _reaching(f"search.storage={storage}: cannot be opened", remedy, UNOPENED), turn:
        if storage is not None and storage.startswith("postgresql"):
            _heed_signals()
        backend = JournalStorage(Journal(directory / STUDY)) if storage is None else storage
        study = optuna.create_study(storage=backend, study_name=directory.name, load_if_exists=True)
        for name, value in origin.items():
            if name not in study.user_attrs:
                study.set_user_attr(name, value)
        noted = study.user_attrs
    if storage is not None and noted["folder"] != origin["folder"]:
        raise InputError(
            f"search.storage={storage}: {directory.name} there is searched from {noted['folder']}: go on in that folder"
        )
    if noted["weights"] != weights:
        raise InputError(
            f"{directory}: was a search of a network with other weights, trained by another version or machine: "
            "give another hydra.sweep.dir"
        )
    return study


def _heed_signals() -> None:
    """Let signals end what waits for PostgreSQL, whose driver waits in C, where Python handles none."""
    with suppress(ImportError):  # another driver is named, or opening will say that none is there
        from psycopg2 import extensions, extras

        extensions.set_wait_callback(extras.wait_select)


@contextmanager
def _reaching(problem: str, remedy: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise errors of a storage as `InputError` within the context, with the problem, its reason and the remedy."""
    try:
        yield
    except InputError:  # which says it all
        raise
    except errors as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{problem} ({reason}); {remedy}") from error


def find_again(
    study: Study, evaluate: Callable[[dict[str, Any]], tuple[float, dict[str, Any]]], directory: Path
) -> None:
    """Evaluate the finished trials of a study again, and check their values.

    This only reads files, unless files are missing or were written by other code.

    Args:
        evaluate: as in `work`.
        directory: the folder of the search, named in the error.

    Raises:
        InputError: a trial has another value than before.
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
    """Evaluate trials of a study until enough are finished, or until its bracketing is finished.

    Several workers may run at once, also on machines that share the folder. A running trial holds a lock. A trial that
    runs without a lock was stopped or killed: it is marked as failed, and its parameters may be sampled again.

    Args:
        space: the range of each parameter: whole numbers if both ends are, except for mu, whose range is logarithmic.
        evaluate: a function of the parameters that returns the value to minimise and the attributes of the trial,
            `EXCESS` among them.
        sampler: a function from the number of a trial to its sampler.
        directory: the folder of the locks.
        trials: the number of finished and running trials at which to stop.

    Raises:
        InputError: the storage of the study goes out of reach.
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
                study.sampler = current = sampler(len(study.trials))
                bracketing = current if isinstance(current, BracketingSampler) else None
                if done + busy >= trials or (bracketing and bracketing.bracketing.finished(known(study))):
                    return
                idle = bracketing is not None and not bracketing.choose(study)
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
                    trial.set_constraint(EXCESS, notes[EXCESS])  # feasible where accuracy is at or under the level
                study.tell(trial, value)
            except Exception:  # not of a signal: to tell could take long, and the next worker finds no lock
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

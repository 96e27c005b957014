"""The option mu: a number, or a share of the way between the values of mu at which the mu-lasso says something."""

from __future__ import annotations

from tipping.errors import InputError, require, require_mu

AUTO = "auto"
SHARES = [f"{12.5 * k:g}%" for k in range(9)]  # what `auto` is in a sweep: as the grid of `Reach`
REMEDY = "give a number over 0, a share of the way such as 50%, or auto"


def mu_option(value: object) -> float | str:
    """Return mu as a number, or as a share such as ``50%``; ``auto`` is the middle.

    Raises:
        InputError: it is neither.
    """
    if value == AUTO:
        return "50%"
    require(isinstance(value, int | float | str) and not isinstance(value, bool), "mu", value, REMEDY)
    if isinstance(value, str) and value.endswith("%"):
        require(0 <= _number(value.removesuffix("%"), value) <= 100, "mu", value, "give a share from 0% to 100%")
        return value
    number = _number(value, value)
    require_mu("mu", number)
    return number


def _number(text: object, value: object) -> float:
    try:
        return float(str(text))
    except ValueError as error:
        raise InputError(f"mu={value}: {REMEDY}") from error


def require_one_path(share: str, randomize: str, labels: str, gram: str) -> None:
    """Raise `InputError` where a share of the way would be of two networks' paths, or of one whose end is hidden."""
    one = randomize == "none" and labels != "permuted"
    require(one, "mu", share, "sanity checks compare two networks at one mu; give a number")
    require(gram == "float64", "mu", share, "selection.gram=float32 hides where the path ends; give a number")


def require_number(mu: object) -> None:
    """Raise `InputError` for a share, which is not known before the filters are measured."""
    require(not isinstance(mu, str), "mu", mu, "shares of the way are for interpret; give a number")


def expanded(overrides: list[str]) -> list[str]:
    """Return the words of a command line, in which the ``mu=auto`` of a sweep has become the shares of a grid.

    A sweep has to know its jobs before any network is trained, and so before any path is known.
    """
    if not {"-m", "--multirun"} & set(overrides):
        return overrides
    values = {n: one.removeprefix("mu=").split(",") for n, one in enumerate(overrides) if one.startswith("mu=")}
    grids = {n: [",".join(SHARES) if value == AUTO else value for value in some] for n, some in values.items()}
    return [f"mu={','.join(grids[n])}" if n in grids else one for n, one in enumerate(overrides)]

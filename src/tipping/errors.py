"""The error for a user's mistake, checks that raise it, and text that is fit to be printed."""

from __future__ import annotations

import hashlib
import math
from typing import Any

LARGEST_MU = 1e100
LONGEST = 1000  # characters of a text that is printed


class InputError(ValueError):
    """A user's mistake: one line that names the culprit and the remedy."""

    def __str__(self) -> str:
        """Return the message without line breaks and control characters."""
        return printable(" ".join(super().__str__().splitlines()), most=10 * LONGEST)


def printable(text: str, most: int = LONGEST) -> str:
    r"""Return a text from elsewhere so that it can be shown: without control characters, and not too long.

    A terminal, a page or a chart would act on control characters; they become escapes such as ``\x1b``. A text that is
    too long keeps its beginning, its length, and a digest by which it differs from others.
    """
    if len(text) > most:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        text = f"{text[: most - 40]}… ({len(text)} characters, {digest})"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def require(holds: bool, option: str, value: object, remedy: str) -> None:
    """Raise `InputError` with the option, its value and the remedy, unless `holds`."""
    if not holds:
        raise InputError(f"{option}={value}: {remedy}")


def require_whole(option: str, value: Any, at_least: int) -> None:
    """Raise `InputError` unless the value is a whole number of at least `at_least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= at_least, option, value, f"give a whole number of at least {at_least}")
    require(value < 2**63, option, value, "give a whole number below 2**63")


def require_positive(option: str, value: float) -> None:
    """Raise `InputError` unless the value is finite and over 0."""
    require(math.isfinite(value) and value > 0, option, value, "give a finite number over 0")


def require_mu(option: str, value: float) -> None:
    """Raise `InputError` unless the value is a mu that float64 can square."""
    require_positive(option, value)
    require(value <= LARGEST_MU, option, value, f"no response needs so much; give at most {LARGEST_MU:g}")

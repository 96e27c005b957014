"""Fixtures of the tests of ablations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def differences() -> Iterator[None]:
    """Differences of inputs added to intact outputs wherever they are smaller, also in networks of few channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tipping.ablation.mixing.ADDING", 0)
        yield

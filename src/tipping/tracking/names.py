"""Names of runs and tags, as long as W&B takes them."""

from __future__ import annotations

import hashlib

LONGEST_TAG, LONGEST_NAME = 64, 128  # characters that W&B takes


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """Cut a text to a length that W&B takes; texts that differ stay different."""
    return (
        text
        if len(text) <= longest
        else f"{text[: longest - 9]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
    )

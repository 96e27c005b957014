"""The note of a search: its result for a network, in the search's folder."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tipping.files import replacing
from tipping.tipping_points import Bracketing

log = logging.getLogger(__name__)
EVALUATIONS, SEARCH, TRIALS = "evaluations", "search.json", "trials.csv"  # in the folder of a search
LONGEST = 100  # bytes of a model's name in that of a folder


def folder_name(model: str, *more: object) -> str:
    """Return the name of a search's folder: the name of its model, as one folder can have it, and what follows."""
    plain = model.replace("/", "-").replace("\0", "-").encode(errors="surrogateescape")
    return ",".join([plain[:LONGEST].decode(errors="ignore"), *map(str, more)])


def search_note(bracketing: Bracketing, known: Mapping[float, float], level: float, **facts: Any) -> dict[str, Any]:
    """Return the note of a search, as JSON values.

    Args:
        bracketing: the search.
        known: accuracy minus the level at each mu evaluated.
        level: the accuracy at which the network tips.
        facts: further entries of the note.
    """
    return {
        "level": level,
        "evaluations": len(known),
        "finished": bracketing.finished(known),
        "crossings": [bracket._asdict() for bracket in bracketing.brackets(known)],
        "breakpoints": len(bracketing.breakpoints),
        **facts,
    }


def write_search(
    directory: Path, bracketing: Bracketing, known: Mapping[float, float], level: float, **facts: Any
) -> None:
    """Write the note of a search into the search's folder, and log the crossings; `search_note` says the arguments."""
    note = search_note(bracketing, known, level, **facts)
    with replacing(directory / SEARCH) as part:
        part.write_text(json.dumps(note, indent=1, allow_nan=False) + "\n")
    places = [f"mu={bracket.at:.4g}" for bracket in bracketing.brackets(known)]
    side = "over" if all(excess > 0 for excess in known.values()) else "under"
    nowhere = f"nowhere: it is {side} it from mu={bracketing.low:g} to {bracketing.high:g}"
    if facts.get("saturation_mu", math.inf) <= bracketing.high:
        nowhere += f", and mu no longer binds from about {facts['saturation_mu']:.3g} on"
    where = f"at {', '.join(places)}" if places else nowhere
    end = "" if note["finished"] else "; not finished: give more search.trials"
    log.info("%s: accuracy crosses %.2f %% %s (%d evaluations%s)", directory.name, 100 * level, where, len(known), end)

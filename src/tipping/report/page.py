"""The report of sweeps and searches: one page, ``report.html``, that is read offline and without scripts.

`tipping report SWEEP_DIR [SWEEP_DIR …]` writes it anew, several sweeps side by side.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from tipping.experiment.search_note import TRIALS
from tipping.files import replacing
from tipping.report import html_tables, origin
from tipping.report.facets import (
    AXES,
    FACETS,
    Facet,
    Image,
    alike,
    facet_at_one_mu,
    facet_of,
    tipping_images,
    training_image,
)
from tipping.report.galleries import PICTURED, Gallery, galleries_of
from tipping.report.html_tables import Table
from tipping.report.sentences import best_trial, checks_of, sentences_of_trainings
from tipping.report.summary import PAGE, summarise
from tipping.results.folder import SweepFolder, read_folder
from tipping.results.tipping_map import natural, varying


class Section(NamedTuple):
    """What a page holds of one sweep or search."""

    name: str
    said: list[str]  # of a search over several options, or of trainings
    facets: list[Facet]
    training: Image | None
    tables: list[Table]
    checks: list[str]
    randomized: list[list[str]]
    galleries: list[Gallery]
    unseen: int  # jobs whose pictures are not on the page
    made: dict[str, str]
    left_out: list[str]


def write(held: Sequence[SweepFolder]) -> Path:
    """Write the page of sweeps into the folder of the first."""
    apart = varying([job.options for own in held for job in own.jobs])  # over all, so that names tell them apart
    pages = [section_of(own, apart, PICTURED // len(held)) for own in held]
    path = held[0].folder / PAGE
    with replacing(path) as part:
        part.write_text(render(pages, tipping_images(held, apart)), encoding="utf-8")
    return path


def render(sweeps: Sequence[Section], tipping: Sequence[Image]) -> str:
    """Render the page; what comes from names and options is escaped.

    Args:
        tipping: charts of all tipping points.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source, script, style = (
        files("tipping.report").joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("jinja", "js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facets = sorted((facet for sweep in sweeps for facet in sweep.facets), key=lambda facet: natural(facet.name))
    own = {"script": Markup(script), "style": Markup(style), "digest": digest}
    template = environment.from_string(source)
    return template.render(sweeps=sweeps, tipping=tipping, facets=facets, axes=AXES, **own)


def section_of(held: SweepFolder, apart: Sequence[str], budget: int) -> Section:
    """Return what a page holds of a sweep.

    Args:
        apart: options by which networks are named.
        budget: bytes of pictures.
    """
    facets = [facet_of(group, apart, held.name, number < FACETS) for number, group in enumerate(held.groups)]
    several = len(facets)
    single = enumerate(alike(held.single), start=several)
    facets += [facet_at_one_mu(own, apart, held.name, number < FACETS) for number, own in single]
    undrawn = len(facets) - FACETS
    galleries, unseen = galleries_of(held, budget)
    return Section(
        name=held.name,
        said=best_trial(held.trials, held.best) + sentences_of_trainings(held.trainings),
        facets=facets,
        training=training_image(held.trainings),
        tables=[table for table in _tables(held) if table.rows],
        checks=checks_of(held.jobs),
        randomized=html_tables.of_randomized([job.record for job in held.jobs]),
        galleries=galleries,
        unseen=unseen,
        made=origin.made(held.folder, [*(job.record for job in held.jobs), *held.trainings]),
        left_out=[*held.left_out, *([f"the charts of {undrawn} of {len(facets)}"] if undrawn > 0 else [])],
    )


def _tables(held: SweepFolder) -> list[Table]:
    jobs = html_tables.of_jobs([job.record for job in held.jobs])
    return [html_tables.of_trials(held.trials), jobs, html_tables.of_trainings(held.trainings)]


def after(gather: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """Return a function that gathers a sweep, and then concludes it."""

    def both(sweep: Path) -> list[str]:
        missing = gather(sweep)
        conclude(sweep)
        return missing

    return both


def conclude(folder: Path) -> None:
    """Write the page of a sweep or search, log it as a whole, and say what to try next."""
    held = read_folder(folder)
    print(write([held]))
    summarise(held)
    if command := origin.next_command(folder, held.networks, held.best):
        print(f"next: {command}")


def _named(given: Sequence[Path]) -> dict[Path, str]:
    """Folders, each once, and names that tell them apart; for the folder of several searches those of each."""
    each = [path.parent for folder in given for path in sorted(folder.glob(f"*/{TRIALS}"))]
    each += [folder for folder in given if not any(folder.glob(f"*/{TRIALS}"))]
    folders = list({folder.resolve(): folder for folder in each}.values())
    names = [folder.resolve().name for folder in folders]
    return {
        folder: name if names.count(name) == 1 else str(folder) for folder, name in zip(folders, names, strict=True)
    }


def write_of(sweeps: Sequence[Path]) -> Path:
    """Write the page of sweeps side by side, into the folder of the first."""
    return write([read_folder(sweep, name) for sweep, name in _named(sweeps).items()])

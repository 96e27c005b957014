"""The report of sweeps and searches: one page, ``report.html``, that can be read offline and without scripts.

`tipping report SWEEP_DIR [SWEEP_DIR …]` writes the page again, with several sweeps side by side.
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

from tipping.errors import printable
from tipping.experiment.record import Record
from tipping.experiment.search_note import TRIALS
from tipping.files import replacing
from tipping.report import html_tables, origin
from tipping.report.classes import class_images, kinds_table, matrix_images, ranked_tables
from tipping.report.contests import contest_chart, contest_sentences, contest_table
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
from tipping.report.galleries import PICTURED, JobPictures, pictures_of_jobs
from tipping.report.html_tables import Table
from tipping.report.sentences import best_trial, checks_of, sentences_of_trainings
from tipping.report.summary import PAGE, log_sweep
from tipping.results.folder import SweepFolder, read_folder
from tipping.results.rendering import many_charts
from tipping.results.tipping_map import natural, varying


class Section(NamedTuple):
    """The content of the page for one sweep or search.

    Attributes:
        name: the name of the sweep.
        sentences: what a search over several options found, and what trainings and contests of selectors came to.
        facets: the charts and sentences of its groups of networks.
        training: the chart of tipping points by epoch; None where no training measured any.
        contests: the chart of contests of selectors; None without any.
        classes: the charts of the classes' accuracies.
        matrices: the charts of what each class's filters cost each class.
        ranked: the tables of relevant filters of some jobs.
        tables: the tables of selectors, classes, trials, jobs and trainings.
        checks: sentences about the certificates of the selections.
        randomized: the table of networks with layers initialised anew, headings first.
        galleries: the pictures of jobs.
        unseen: the number of jobs whose pictures are not on the page.
        made: how the sweep was made, by headings.
        left_out: a line for each thing that is not on the page.
    """

    name: str
    sentences: list[str]
    facets: list[Facet]
    training: Image | None
    contests: Image | None
    classes: list[Image]
    matrices: list[Image]
    ranked: list[Table]
    tables: list[Table]
    checks: list[str]
    randomized: list[list[str]]
    galleries: list[JobPictures]
    unseen: int
    made: dict[str, str]
    left_out: list[str]


def write_page(sweeps: Sequence[SweepFolder]) -> Path:
    """Write the page of sweeps into the folder of the first, and return its path."""
    apart = varying([job.options for sweep in sweeps for job in sweep.jobs])  # names differ between sweeps too
    with many_charts():
        sections = [section_of(sweep, apart, PICTURED // len(sweeps)) for sweep in sweeps]
        tipping = tipping_images(sweeps, apart)
    path = sweeps[0].folder / PAGE
    with replacing(path) as part:
        part.write_text(render(sections, tipping), encoding="utf-8")
    return path


def render(sweeps: Sequence[Section], tipping: Sequence[Image]) -> str:
    """Render the page as HTML; names and options are escaped.

    Args:
        sweeps: the content for each sweep.
        tipping: the charts of all tipping points.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source, script, style = (
        files("tipping.report").joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("jinja", "js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facets = sorted((facet for sweep in sweeps for facet in sweep.facets), key=lambda facet: natural(facet.name))
    assets = {"script": Markup(script), "style": Markup(style), "digest": digest}
    template = environment.from_string(source)
    return template.render(sweeps=sweeps, tipping=tipping, facets=facets, axes=AXES, **assets)


def section_of(sweep: SweepFolder, apart: Sequence[str], budget: int) -> Section:
    """Collect the content of the page for a sweep.

    Args:
        sweep: the folder of the sweep.
        apart: the options by which networks are named.
        budget: the number of bytes that pictures may take.
    """
    facets = [facet_of(group, apart, sweep.name, number < FACETS) for number, group in enumerate(sweep.groups)]
    several = len(facets)
    single = enumerate(alike(sweep.single), start=several)
    facets += [facet_at_one_mu(jobs, apart, sweep.name, number < FACETS) for number, jobs in single]
    undrawn = len(facets) - FACETS
    galleries, unseen, no_pictures = pictures_of_jobs(sweep, budget)
    return Section(
        name=sweep.name,
        sentences=[
            *best_trial(sweep.trials, sweep.best),
            *sentences_of_trainings(sweep.trainings),
            *contest_sentences(sweep.contests),
        ],
        facets=facets,
        training=training_image(sweep.trainings),
        contests=contest_chart(sweep.contests),
        classes=class_images(sweep, apart),
        matrices=matrix_images(sweep, apart),
        ranked=ranked_tables(sweep),
        tables=[table for table in _tables(sweep) if table.rows],
        checks=checks_of(sweep.jobs),
        randomized=html_tables.randomized_lines([job.record for job in sweep.jobs]),
        galleries=galleries,
        unseen=unseen,
        made=origin.provenance(sweep.folder, _records_of(sweep)),
        left_out=[
            *sweep.left_out,
            *no_pictures,
            *([f"the charts of {undrawn} of {len(facets)}"] if undrawn > 0 else []),
        ],
    )


def _records_of(sweep: SweepFolder) -> list[Record]:
    return [*(job.record for job in sweep.jobs), *sweep.trainings, *(contest.record for contest in sweep.contests)]


def _tables(sweep: SweepFolder) -> list[Table]:
    jobs = html_tables.jobs_table([job.record for job in sweep.jobs])
    others = html_tables.trials_table(sweep.trials), jobs, html_tables.trainings_table(sweep.trainings)
    return [contest_table(sweep.contests), kinds_table(sweep), *others]


def then_conclude(gather: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """Return a function that calls `gather` on a sweep, then concludes the sweep; its value is that of `gather`."""

    def both(sweep: Path) -> list[str]:
        missing = gather(sweep)
        conclude_sweep(sweep)
        return missing

    return both


def conclude_sweep(folder: Path) -> None:
    """Write the page of a sweep or search, log the whole sweep, and print what to try next.

    Raises:
        InputError: the folder is missing or holds no job.
    """
    sweep = read_folder(folder)
    print(printable(str(write_page([sweep]))))
    log_sweep(sweep)
    if command := origin.next_command(folder, sweep.networks, sweep.best):
        print(f"next: {command}")


def _named(given: Sequence[Path]) -> dict[Path, str]:
    """Return each folder once, with a name that no other has; in place of a folder of searches, the folder of each."""
    each = [path.parent for folder in given for path in sorted(folder.glob(f"*/{TRIALS}"))]
    each += [folder for folder in given if not any(folder.glob(f"*/{TRIALS}"))]
    folders = list({folder.resolve(): folder for folder in each}.values())
    names = [folder.resolve().name for folder in folders]
    return {
        folder: name if names.count(name) == 1 else str(folder) for folder, name in zip(folders, names, strict=True)
    }


def write_report(sweeps: Sequence[Path]) -> Path:
    """Write the page of sweeps side by side into the folder of the first, and return its path.

    Raises:
        InputError: a folder is missing or holds no job.
    """
    return write_page([read_folder(sweep, name) for sweep, name in _named(sweeps).items()])

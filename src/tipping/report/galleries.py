"""The pictures of jobs, those nearest the tipping points of their networks first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tipping.experiment.records import PICTURES
from tipping.report.facets import Image, data_uri
from tipping.report.sentences import caption_of
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.results.tipping_map import Group

PICTURED = 4_000_000  # bytes of pictures on a page; the pictures of the first job are always shown


class JobPictures(NamedTuple):
    """The pictures of a job, and its name in words."""

    name: str
    images: list[Image]


def pictures_of_jobs(sweep: SweepFolder, budget: int) -> tuple[list[JobPictures], int]:
    """Read the pictures of jobs, nearest the tipping points first, until a budget is spent.

    Args:
        sweep: the folder of the sweep.
        budget: the number of bytes that pictures may take.

    Returns:
        the pictures, and the number of jobs whose pictures are left out.
    """
    pictured = [job for job in sweep.jobs if any((job.folder / PICTURES).glob("*.png"))]
    galleries: list[JobPictures] = []
    for job in by_nearness(pictured, sweep.groups):
        gallery = _gallery(job)
        budget -= sum(len(image.uri) for image in gallery.images)
        if budget < 0 and galleries:
            break
        galleries.append(gallery)
    return galleries, len(pictured) - len(galleries)


def by_nearness(jobs: Sequence[Job], over_seeds: Sequence[Group]) -> list[Job]:
    """Order jobs: first the job of each network that is nearest its tipping point, then the second of each, and so on.

    Args:
        jobs: the jobs to order.
        over_seeds: groups of networks, with their tipping points.
    """
    tips = {
        network.jobs[0].network: bound
        for group in over_seeds
        for network, bound in zip(group.networks, group.by_mu.bounds, strict=True)
    }
    by_network: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        by_network.setdefault(job.network, []).append(job)
    ranked = []
    for network, its_jobs in by_network.items():
        its_jobs.sort(key=lambda job: abs(math.log(job.record.mu) - tips.get(network, 0.0)))
        ranked += list(enumerate(its_jobs))
    return [job for _, job in sorted(ranked, key=lambda pair: pair[0])]


def _gallery(job: Job) -> JobPictures:
    record = job.record
    name = f"{record.job}: {record.model['name']}, seed {record.seed}, mu = {record.mu:g}"
    paths = sorted((job.folder / PICTURES).glob("*.png"), key=lambda path: (len(path.stem), path.stem))
    shows = [(data_uri(path.read_bytes(), "png"), caption_of(path.stem)) for path in paths]
    return JobPictures(name, [Image(uri, f"{words} ({name})", words) for uri, words in shows])

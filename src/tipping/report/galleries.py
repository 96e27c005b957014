"""The pictures of the jobs nearest their networks' tipping points."""

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

PICTURED = 4_000_000  # bytes of pictures on a page, the first job's always


class Gallery(NamedTuple):
    """The pictures of a job."""

    name: str
    images: list[Image]


def galleries_of(held: SweepFolder, budget: int) -> tuple[list[Gallery], int]:
    """Return the pictures of the jobs nearest their network's tipping point, as far as a budget goes, and of how many
    jobs they are left out."""
    pictured = [job for job in held.jobs if any((job.folder / PICTURES).glob("*.png"))]
    galleries: list[Gallery] = []
    for job in by_nearness(pictured, held.groups):
        gallery = _gallery(job)
        budget -= sum(len(image.uri) for image in gallery.images)
        if budget < 0 and galleries:
            break
        galleries.append(gallery)
    return galleries, len(pictured) - len(galleries)


def by_nearness(jobs: Sequence[Job], over_seeds: Sequence[Group]) -> list[Job]:
    """Order jobs: the job of each network nearest its tipping point first, then the second of each, and so on."""
    tips = {
        network.jobs[0].network: bound
        for group in over_seeds
        for network, bound in zip(group.networks, group.by_mu.bounds, strict=True)
    }
    of: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        of.setdefault(job.network, []).append(job)
    ranked = []
    for network, own in of.items():
        own.sort(key=lambda job: abs(math.log(job.record.mu) - tips.get(network, 0.0)))
        ranked += list(enumerate(own))
    return [job for _, job in sorted(ranked, key=lambda pair: pair[0])]


def _gallery(job: Job) -> Gallery:
    record = job.record
    name = f"{record.job}: {record.model['name']}, seed {record.seed}, mu = {record.mu:g}"
    paths = sorted((job.folder / PICTURES).glob("*.png"), key=lambda path: (len(path.stem), path.stem))
    shows = [(data_uri(path.read_bytes(), "png"), caption_of(path.stem)) for path in paths]
    return Gallery(name, [Image(uri, f"{words} ({name})", words) for uri, words in shows])

"""The pictures of jobs, those nearest the tipping points of their networks first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tipping.errors import printable
from tipping.experiment.options import model_text
from tipping.experiment.record import InterpretRecord
from tipping.experiment.records import PICTURES
from tipping.files import read_bytes
from tipping.report.facets import Image, data_uri
from tipping.report.sentences import caption_of
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.results.tipping_map import Group
from tipping.visualize import MOST_CLASSES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 20_000_000  # bytes of a picture
PICTURED = 4_000_000  # bytes of pictures on a page; the pictures of the first job are always shown


class JobPictures(NamedTuple):
    """The pictures of a job, and its name in words."""

    name: str
    images: list[Image]


def pictures_of_jobs(sweep: SweepFolder, budget: int) -> tuple[list[JobPictures], int, list[str]]:
    """Read the pictures of jobs, nearest the tipping points first, until a budget is spent.

    Args:
        sweep: the folder of the sweep.
        budget: the number of bytes that pictures may take.

    Returns:
        the pictures, the number of jobs whose pictures are left out, and a line for each picture that is none.
    """
    pictured = [job for job in sweep.jobs if any((job.folder / PICTURES).glob("*.png"))]
    galleries: list[JobPictures] = []
    left_out: list[str] = []
    for job in by_nearness(pictured, sweep.groups):
        gallery, faults = _gallery(job)
        budget -= sum(len(image.uri) for image in gallery.images)
        if budget < 0 and galleries:
            break
        galleries.append(gallery)
        left_out += faults
    return galleries, len(pictured) - len(galleries), left_out


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


def _gallery(job: Job) -> tuple[JobPictures, list[str]]:
    """Read the pictures of a job; the second value is a line for each file that is none."""
    record = job.record
    model = model_text(record.model["name"], record.config["model"].get("_target_"), alone=True)
    name = f"{record.job}: {model}, seed {record.seed}, mu = {record.mu:g}{_few_classes(record)}"
    images, left_out = [], []
    for picture in sorted(record.pictures or (), key=lambda picture: (len(picture), picture)):
        path, words = job.folder / PICTURES / f"{picture}.png", caption_of(picture, record.classes)
        try:
            content = _picture(path, record.files.get(f"{PICTURES}/{path.name}"))
            images.append(Image(data_uri(content, "png"), f"{words} ({name})", words))
        except FileNotFoundError:  # deleted to save room
            continue
        except (OSError, ValueError) as error:
            left_out.append(printable(f"{path} is no picture ({error})"))
    if others := _unnamed(job):
        left_out.append(printable(f"{job.folder / PICTURES}: the job's record does not name {', '.join(others)}"))
    return JobPictures(name, images), left_out


def _few_classes(record: InterpretRecord) -> str:
    """Say of how many classes there are portraits, where there are too many classes to draw all."""
    drawn = sum(picture.startswith("class_") for picture in record.pictures or ())
    classes = len(record.classes)
    return f", portraits of {drawn} of {classes} classes" if drawn == MOST_CLASSES < classes else ""


def _unnamed(job: Job) -> list[str]:
    """Return the names of pictures in a job's folder that the job has not drawn; an editor's lock is none."""
    there = {path.stem for path in (job.folder / PICTURES).glob("*.png") if not path.name.startswith(".")}
    return sorted(there - set(job.record.pictures or ()))


def _picture(path: Path, digest: str | None) -> bytes:
    """Read a picture; raise `OSError` or `ValueError` unless it is a PNG file that lies in the folder of its job, with
    the digest that the job's record gives, if any.

    Who writes somebody a sweep must not get other files of theirs into the page by a link.
    """
    if path.parent.is_symlink():
        raise ValueError("its folder is a link")
    content = read_bytes(path, LARGEST, follow=False)
    if not content.startswith(SIGNATURE):
        raise ValueError("no PNG")
    if digest not in (None, hashlib.sha256(content).hexdigest()):
        raise ValueError("not what was written")
    return content

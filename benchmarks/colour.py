"""What a colour network takes from nothing: 10,000 made images of 32 x 32 in a folder, a residual network of 20 layers.

``python benchmarks/colour.py FOLDER`` makes the images and runs the main job for four mu, and the page: one epoch of
training, responses, selections, ablations, curves, pictures. It prints the seconds of each stage, and the memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import table, timed

MUS = (10, 30, 100, 300)
HERE = Path(__file__).parent


def tipping(*arguments: str) -> float:
    """Run a command of tipping; return its seconds."""
    _, seconds = timed(lambda: subprocess.run([sys.executable, "-m", "tipping", *arguments], check=True))
    return seconds


def records(sweep: Path) -> list[dict[str, Any]]:
    """Return the records of a sweep's jobs, in the order of mu."""
    return [json.loads((sweep / str(number) / "result.json").read_text()) for number in range(len(MUS))]


def stages(sweep: Path) -> Iterator[tuple[str, float, float]]:
    """Yield each stage, its seconds in the first job, and on average in the others, which find much in the store."""
    first, *others = [record["seconds"] for record in records(sweep)]
    for stage, seconds in first.items():
        yield stage, seconds, sum(other[stage] for other in others) / len(others)


def answers(sweep: Path) -> Iterator[tuple[str, ...]]:
    """Yield what each job found."""
    for record in records(sweep):
        filters, accuracy = record["filters"], record["accuracy"]
        random = sum(accuracy["random"]) / len(accuracy["random"])
        shares = (accuracy["intact"], accuracy["selected"], random)
        relevant = f"{filters['ablated']} of {filters['total']}"
        yield f"{record['mu']:g}", relevant, *(f"{100 * share:.2f}" for share in shares)


def main() -> None:
    """Make the images, run the commands, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="for the images, the store and the sweep")
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    folder, images = arguments.folder, arguments.folder / "images"
    if not images.exists():
        made = [sys.executable, HERE / "pictures.py", images, "--images", str(arguments.images)]
        subprocess.run(made, check=True)
    sweep, mus = folder / "sweep", ",".join(map(str, MUS))
    interpret = tipping(
        *("interpret", "-m", f"mu={mus}", "data=folder", f"data.path={images}", "model=resnet", "tracking=off"),
        *("trainer.max_epochs=1", f"hydra.sweep.dir={sweep}", f"store.dir={folder / 'store'}"),
    )
    page = tipping("report", str(sweep))
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"\n{interpret:.0f} s for the four jobs, {page:.0f} s for the page; at most {megabytes:.0f} MB")
    table("Seconds", ("stage", "first mu", "each other"), stages(sweep))
    table("Answers", ("mu", "relevant filters", "intact %", "without %", "without random %"), answers(sweep))


if __name__ == "__main__":
    main()

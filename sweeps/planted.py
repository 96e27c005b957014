"""How many of the planted filters each job of a sweep found: python sweeps/planted.py SWEEP_DIR"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tipping import planted
from tipping.experiment import records
from tipping.experiment.record import InterpretRecord
from tipping.network import build
from tipping.results import tables


def main(sweep: Path) -> None:
    """Print recall and precision of each job's relevant filters, and what is left without them, in Markdown."""
    print("\n| mu | relevant | recall | precision | without them | without random ones |\n|" + " --- |" * 6)
    for record in tables.read_records(sweep, InterpretRecord)[0]:
        model = build(record.model, planted.IMAGE_SHAPE, planted.CLASSES + 1, record.seed)
        assert isinstance(model, planted.PlantedNet), "of model=planted"
        with np.load(sweep / record.job / records.SELECTION) as saved:
            relevant_F = saved["weights"].any(1)
            planted_F = (saved["layer"] == "conv2") & np.isin(saved["channel"], model.planted)
        hits, accuracy = (relevant_F & planted_F).sum(), record.accuracy
        recall, precision = hits / planted_F.sum(), hits / relevant_F.sum()
        selected, random = (f"{100 * np.mean(getattr(accuracy, which)):.1f} %" for which in ("selected", "random"))
        print(f"| {record.mu:g} | {relevant_F.sum()} | {recall:.2f} | {precision:.2f} | {selected} | {random} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, metavar="SWEEP_DIR", help="the folder of a multirun")
    main(parser.parse_args().sweep)

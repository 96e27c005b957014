"""The contest of selectors on networks of the report's size, as rows of `tipping arena`."""

from __future__ import annotations

from dataclasses import replace

from gpu.work import CONF, Pace, Rows, Work
from tipping.experiment import arena
from tipping.experiment.config import ArenaConfig
from tipping.results.arena import NETWORK, contest_rows

FILE = "arena.csv"
DROPOUT = (0.5, 0.0)


def run(work: Work) -> None:
    """Let selectors meet on one network after another; the rows of each are kept at once.

    A contest that is cut off goes on in the next call with the selector where it was.

    Raises:
        OutOfTime: some of those aimed at are left.
    """
    rows, pace = Rows(work.out / FILE), Pace(work, "selectors, a network")
    for seed in range(work.size.seeds):
        for dropout in DROPOUT:
            if not rows.having(**{"model.dropout": dropout, "seed": seed}):
                own = (f"model.dropout={dropout}", f"seed={seed}", *work.size.contest)
                options = work.options(*work.size.network, *own, name="arena")
                assert isinstance(options, ArenaConfig)
                options = replace(options, store=replace(options.store, dir=str(work.store.folder)))
                folder = work.out / "arena" / f"{dropout:g},{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                with pace.piece():
                    record = arena.job(options, folder, CONF)
                rows.add(*contest_rows(record, NETWORK))
                print(f"dropout {dropout:g}, seed {seed}", flush=True)

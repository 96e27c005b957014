"""What mu does to a network: the mu at a share of the way, and a remark where a mu says little."""

from __future__ import annotations

import torch

from tipping.errors import InputError, require
from tipping.mu_lasso import Reach
from tipping.selection import Selection

NEARLY = 0.9  # share of the live filters from which a selection is of nearly all


def mu_at(share: str, reach: Reach | None) -> float:
    """Return the mu at a share of the way, such as ``50%``.

    Raises:
        InputError: the way is not known, or there is none.
    """
    if reach is None:
        raise InputError(f"mu={share}: ties between filters hide where the path of the mu-lasso ends; give a number")
    require(reach.last > 0, "mu", share, "no class depends on any filter; look at the network's responses")
    return reach.at(float(share.removesuffix("%")) / 100)


def binding(selection: Selection, mu: float, reach: Reach | None) -> list[bool] | None:
    """Return whether the bound binds for each class at mu; None where a Gram matrix in float32 hides it.

    The saturation mu tells it or, where that is not known, the weights.
    """
    if reach is not None:
        return [mu < saturation for saturation in reach.saturation_C.tolist()]
    solution = selection.solution
    return solution.binds_MC[0].tolist() if solution.weights_MFC.dtype == torch.float64 else None


def remark_on_mu(mu: float, selection: Selection, reach: Reach | None) -> str | None:
    """Say in one line that mu does nothing, as the bound binds for no class, or that it selects nearly all filters.

    Args:
        mu: the L1 radius of each class.
        selection: the selection at mu.
        reach: between which mu the mu-lasso says something; None where that is not known.

    Returns:
        the line; None where there is nothing to say.
    """
    binds_C = binding(selection, mu, reach)
    binds = binds_C is None or any(binds_C)
    relevant, live = int(selection.relevant_F.sum()), int(selection.live_F.sum())
    if not relevant or (binds and relevant < NEARLY * live):
        return None
    does = f"selects {relevant} of {live} live filters" if binds else "does nothing: the bound binds for no class"
    if reach is None:
        return f"mu={mu:g} {does} (saturation mu not known); a smaller one would say more"
    text = f"mu={mu:g} {does} (saturation mu {reach.last:.4g})"
    smaller = (reach.first * min(mu, reach.last)) ** 0.5
    return f"{text}; mu={smaller:.2g} would say more" if reach.first < mu else f"{text}, and a smaller mu no fewer"

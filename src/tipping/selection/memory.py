"""The memory that it takes to select relevant filters, known before any response is measured."""

from __future__ import annotations

from tipping.errors import InputError
from tipping.network import Filters

ENTRY = {"float64": 8, "float32": 4}  # bytes of an entry of the Gram matrix
USED = {"float64": 42, "float32": 24}  # bytes in use for each entry at the peak, when the best R² is found
LIMIT = 8.0  # GB of 1e9 bytes, by default


def require_memory(filters: Filters, limit: float = LIMIT, gram: str = "float64") -> None:
    """Check that the Gram matrix of a network's responses, and what is computed from it, fit in memory.

    For R responses the matrix takes 8 R² bytes in float64; its eigenvectors and workspace take four times as much.

    Args:
        limit: GB that may be used.
        gram: the type of the Gram matrix, `float64` or `float32`.

    Raises:
        InputError: they do not fit.
    """
    responses = len(filters.filter_R)
    used, matrix = (bytes_of * responses**2 / 1e9 for bytes_of in (USED[gram], ENTRY[gram]))
    if used > limit:
        halved = f", give selection.gram=float32 ({USED['float32'] * responses**2 / 1e9:.1f} GB)"
        raise InputError(
            f"selection.memory={limit:g}: to select among {responses:,} responses takes {used:.1f} GB (a Gram matrix "
            f"of {matrix:.1f} GB in {gram}, and what is computed from it): name fewer layers by model.layers (only= of "
            f"Filters.of){halved if gram == 'float64' else ''}, or allow more"
        )

"""Ways in which results show themselves: data frames and HTML."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tipping.frames import Row as Row
from tipping.frames import frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tabular(ABC):
    """A result that can be shown as a table."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """List the rows of the table, a dictionary for each."""

    def table(self) -> Any:
        """Return `rows` as a data frame of pandas or polars; as a list where neither is installed."""
        return frame(self.rows())


def table_html(rows: Sequence[Row]) -> str:
    """Render a table in HTML; all text is escaped, since the names of layers may hold anything."""
    from markupsafe import escape

    def cell(value: Any) -> str:
        return str(escape(f"{value:.3g}" if isinstance(value, float) else value))

    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture_html(figure: Figure, caption: str) -> str:
    """Render a figure and its caption in HTML."""
    from markupsafe import escape

    content = io.BytesIO()
    figure.savefig(content, format="png")
    uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return f'<figure><img src="{uri}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'

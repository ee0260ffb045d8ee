"""One table, two renderings: plain text for a terminal, HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_CAPTION = "text-align:left;padding-top:1.2em"


@dataclass(frozen=True)
class Table:
    """Rows under headings, with an optional title and notes.

    Numbers are right-aligned. Notes are the honest small print (synthetic weights, quick run) and stand below
    the table in both renderings.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    def __str__(self) -> str:
        cells = [[_text(value) for value in row] for row in self.rows]
        widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(self.headings)]
        numeric = [self._is_numeric(i) for i in range(len(self.headings))]

        def line(values: Sequence[str]) -> str:
            parts = (v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True))
            return "  ".join(parts).rstrip()

        lines = [self.title] if self.title else []
        lines += [line(list(self.headings)), line(["-" * w for w in widths]), *(line(row) for row in cells)]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        numeric = [self._is_numeric(i) for i in range(len(self.headings))]
        align = ["right" if n else "left" for n in numeric]
        head = "".join(
            f'<th style="text-align:{a}">{html.escape(h)}</th>' for h, a in zip(self.headings, align, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{a}">{html.escape(_text(v))}</td>' for v, a in zip(row, align, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        title = f"<caption style='{_CAPTION}'><b>{html.escape(self.title)}</b></caption>" if self.title else ""
        notes = "".join(f"<div><i>{html.escape(note)}</i></div>" for note in self.notes)
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _is_numeric(self, column: int) -> bool:
        values = [row[column] for row in self.rows if row[column] not in (None, "")]
        return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)

"""Figures of the bench with their bars, and the table that shows them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nvkit.system import describe, installed
from nvkit.tables import Table

_HEADINGS = ("what", "unit", "ours", "peer", "ratio", "range", "bar", "reached", "settings")


@dataclass(frozen=True)
class Figure:
    """One line of a table.

    Attributes:
        what: What was measured.
        unit: Unit of `ours` and `peer`.
        ours: Median of nvkit's figures.
        peer: Median of the peer's, None where the bar is a figure and not a ratio.
        ratio: Median of the ratios of neighbouring runs; above 1 nvkit is the better one.
        lowest: Smallest of what is compared with the bar.
        highest: Largest of it.
        bar: The bar in words.
        reached: Whether it is.
        settings: What was run, on both sides.
    """

    what: str
    unit: str
    ours: float
    peer: float | None
    ratio: float | None
    lowest: float
    highest: float
    bar: str
    reached: bool
    settings: str

    def row(self) -> list[object]:
        """Return the cells of the table's row."""
        spread = f"{_short(self.lowest)} to {_short(self.highest)}"
        ratio = None if self.ratio is None else round(self.ratio, 3)
        return [self.what, self.unit, self.ours, self.peer, ratio, spread, self.bar, self.reached, self.settings]


def against_peer(
    what: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    bar: float,
    settings: str,
    *,
    lower_is_better: bool = False,
) -> Figure:
    """Compare runs that were made in turn: run i of both was made at about the same time."""
    pairs = zip(ours, peer, strict=True)
    ratios = [(p / o if lower_is_better else o / p) for o, p in pairs]
    ratio = median(ratios)
    return Figure(
        what,
        unit,
        median(ours),
        median(peer),
        ratio,
        min(ratios),
        max(ratios),
        f"at least {bar:g} x",
        ratio >= bar,
        settings,
    )


def against_limit(
    what: str, unit: str, values: Sequence[float], limit: float, settings: str, *, at_most: bool = False
) -> Figure:
    """Compare runs with a figure that has no peer."""
    value = median(values)
    reached = value <= limit if at_most else value >= limit
    words = f"{'at most' if at_most else 'at least'} {limit:,g}"
    return Figure(what, unit, value, None, None, min(values), max(values), words, reached, settings)


def table(title: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> Table:
    """Return the table of a part, with the machine below it."""
    return Table(_HEADINGS, [figure.row() for figure in figures], title, (*notes, machine()))


def machine() -> str:
    """Say in one line what the figures were taken on, and how busy it was."""
    cpu = describe().cpu
    packages = installed(("mlcommons-loadgen", "onnxruntime", "numpy", "opencv-python-headless"))
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    load = f"; 1-minute load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"Machine: {cpu.model}, {cpu.usable} cores; Python {platform.python_version()}, {versions}{load}."


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.3g}"

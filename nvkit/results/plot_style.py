"""The look that nvkit's figures share: size, palette, units, the honest small print, saving."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nvkit.store import replacing

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's colours, told apart by colour-blind readers."""
INK = "#333333"
LIMIT = "#B3261E"
_GREY = "#6b6b6b"
_BRAND = "#8a4b00"
_SIZE = (8.0, 4.2)
_PANEL = 1.2  # height of a further panel
_BRAND_WIDTH = 110  # characters of the small print that fit beside each other


def new_figure(title: str, x_label: str, y_label: str, brand: str) -> tuple[Figure, Axes]:
    """Return an empty figure (no pyplot, so no backend is touched) and its axes.

    Args:
        title: Heading, left-aligned.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        brand: What a reader must know about the run, e.g. "synthetic weights"; stands below the plot.
    """
    figure, (axes,) = new_panels(title, x_label, [y_label], brand)
    return figure, axes


def new_panels(title: str, x_label: str, y_labels: Sequence[str], brand: str) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of panels, one above the other, that share the horizontal axis.

    Args:
        title: Heading above the first.
        x_label: Label of the horizontal axis.
        y_labels: Label of each panel's vertical axis.
        brand: As of `new_figure`.
    """
    width, height = _SIZE
    size = (width, height + _PANEL * (len(y_labels) - 1))
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    panels = list(figure.subplots(len(y_labels), 1, sharex=True, squeeze=False)[:, 0])
    panels[0].set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
    panels[-1].set_xlabel(x_label, color=INK)
    for axes, label in zip(panels, y_labels, strict=True):
        axes.set_ylabel(label, color=INK)
        axes.tick_params(colors=INK, labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#b0b0b0")
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    if brand:
        small_print = textwrap.fill(brand, _BRAND_WIDTH)
        figure.supxlabel(small_print, x=0.01, ha="left", fontsize=8.5, style="italic", color=_BRAND)
    return figure, panels


def subtitle(axes: Axes, text: str) -> None:
    """Put small grey text above the right end of the plot, opposite the title."""
    axes.set_title(text, loc="right", fontsize=9, color=_GREY, pad=10)


def time_unit(typical_ns: float) -> tuple[float, str]:
    """Return (nanoseconds of one unit, its name) in which a typical duration reads well."""
    for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if typical_ns >= size:
            return size, name
    return 1e3, "µs"


def duration_text(nanoseconds: float) -> str:
    """Return a duration with three digits and its unit, e.g. "15 ms"."""
    size, name = time_unit(nanoseconds)
    value = nanoseconds / size
    return f"{value:,.0f} {name}" if value >= 1000 else f"{value:.3g} {name}"


def draw_limit(axes: Axes, height: float, text: str) -> None:
    """Draw a horizontal limit with its value."""
    axes.axhline(height, color=LIMIT, linewidth=1.3, linestyle=(0, (6, 3)), zorder=2)
    axes.annotate(
        text,
        (0.01, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        color=LIMIT,
        fontsize=9,
    )


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg` into a folder; the same figure gives the same bytes each time.

    Raises:
        DiskFullError: the file system is full; no half-written file is left.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": name}):
        with replacing(png) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
        with replacing(svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    return png, svg


def is_wide(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Whether positive values span so much that only a logarithmic axis shows them."""
    return bool(values.min() > 0 and values.max() > 20 * values.min())

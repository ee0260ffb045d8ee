"""Activation ranges, drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nvkit.errors import RangesError
from nvkit.quantize.ranges import Ranges
from nvkit.results.plot_style import PALETTE, new_figure

_MARKERS = "os^D"
_MOST_NAMES = 80


def ranges_per_layer(ranges_by_method: Mapping[str, Ranges], *, brand: str = "") -> Figure:
    """Draw each tensor's amax in network order, the methods side by side, on a logarithmic axis.

    Args:
        ranges_by_method: Label to ranges.
        brand: What a reader must know, e.g. "synthetic weights"; stands below the plot.

    Raises:
        RangesError: there is nothing to draw.
    """
    names = list(dict.fromkeys(name for ranges in ranges_by_method.values() for name in ranges.tensors))
    entries = [entry for ranges in ranges_by_method.values() for entry in ranges.tensors.values()]
    amaxes = [entry.amax for entry in entries if entry.amax > 0]
    if not amaxes:
        raise RangesError("There are no activation ranges to draw.", "Run the calibrate stage first.")
    title = f"Activation ranges of {len(names)} tensors"
    figure, axes = new_figure(title, "activation tensor, in network order", "amax (greater is clipped)", brand)
    figure.set_size_inches(min(24.0, max(8.0, 0.17 * len(names) + 2.0)), 5.2)
    place = {name: i for i, name in enumerate(names)}
    count = len(ranges_by_method)
    for number, (label, ranges) in enumerate(ranges_by_method.items()):
        colour = PALETTE[number % len(PALETTE)]
        offset = (number - (count - 1) / 2) * 0.7 / max(count, 2)
        shown = [(place[name] + offset, entry.amax) for name, entry in ranges.tensors.items() if entry.amax > 0]
        x, y = np.array(shown).reshape(-1, 2).T
        axes.vlines(x, 0, y, color=colour, alpha=0.25, linewidth=1.2)
        text = label if ranges.percentile is None else f"{label} {ranges.percentile:g} %"
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(x, y, marker, color=colour, markersize=3.6, label=text)
    axes.set_yscale("log")
    axes.set_ylim(0.7 * min(amaxes), 1.4 * max(amaxes))
    axes.set_xlim(-0.8, len(names) - 0.2)
    axes.grid(False, axis="x")
    step = -(-len(names) // _MOST_NAMES)
    ticks = range(0, len(names), step)
    axes.set_xticks(ticks, [_short(name) for name in names[::step]], rotation=90, fontsize=7)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=count, borderaxespad=0)
    return figure


def _short(name: str, most: int = 22) -> str:
    """Keep the end of a long tensor name, which is what tells it from the others."""
    return name if len(name) <= most else f"…{name[-most + 1 :]}"

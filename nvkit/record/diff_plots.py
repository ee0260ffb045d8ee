"""Two runs in one figure: A in blue, B in orange."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nvkit.results.plot_style import INK, PALETTE, new_figure, subtitle
from nvkit.results.raw_log import RawLatencies

_DRAWN = 5000
_ROW = 0.55  # inches
# The axis is that of the logarithm, so that twice and half as fast are equally far from equal.
_FASTER = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 9, 99)
_SLOWER = (-0.01, -0.02, -0.05, -0.1, -0.2, -0.5, -0.75, -0.9, -0.99)
_TICKS = 2  # most on each side
_APART = 0.08  # of the axis


def speed_of_b(faster: Mapping[str, float], tolerance: float, brand: str = "") -> Figure:
    """Plot how much faster B is than A in each scenario, with the band within which MLPerf calls results equal.

    Args:
        faster: Scenario to the speed of B over that of A, minus one; of a latency the inverse, so that right is faster.
        tolerance: Half the width of the band.
        brand: Small print below the plot.
    """
    figure, axes = new_figure("B beside A", "speed of B relative to A", "", brand)
    figure.set_size_inches(8.0, 1.9 + _ROW * len(faster))
    names = list(faster)
    rows = np.arange(len(names))[::-1]
    places = np.log1p(np.array(list(faster.values()), np.float64))
    axes.axvspan(np.log1p(-tolerance), np.log1p(tolerance), color=PALETTE[2], alpha=0.15, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    for name, row, place in zip(names, rows, places, strict=True):
        colour = PALETTE[2] if abs(faster[name]) <= tolerance else PALETTE[1]
        axes.plot([0, place], [row, row], color=colour, linewidth=2)
        axes.plot(place, row, marker="o", markersize=8, color=colour)
        axes.annotate(
            f"{100 * faster[name]:+,.1f} %",
            (place, row),
            xytext=(10 if place >= 0 else -10, 0),
            textcoords="offset points",
            ha="left" if place >= 0 else "right",
            va="center",
            fontsize=9,
            color=INK,
        )
    low, high = (float(end) for end in (min(-1.5 * tolerance, *places), max(1.5 * tolerance, *places)))
    pad = 0.18 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(rows, names)
    axes.grid(visible=False, axis="y")
    ticks = [0.0]
    for steps in (_FASTER, _SLOWER):
        shown = [tick for tick in np.log1p(steps) if low <= tick <= high and abs(tick) > _APART * (high - low)]
        ticks += shown[-_TICKS:]
    axes.set_xticks(ticks, [f"{100 * np.expm1(tick):+,.3g} %" if tick else "equal" for tick in ticks])
    subtitle(axes, f"band: within {100 * tolerance:g} % · right is faster")
    return figure


def progress_of_both(runs: Mapping[str, RawLatencies], brand: str = "", title: str = "Offline: progress") -> Figure:
    """Plot the share of the Offline query that was complete against time.

    Args:
        runs: Label to the samples of the test; the query of each may have another size.
        brand: Small print below the plot.
        title: Heading.
    """
    figure, axes = new_figure(title, "time (s)", "samples completed", brand)
    for (label, raw), colour in zip(runs.items(), PALETTE, strict=False):
        times, counts = np.unique(raw.latency_ns, return_counts=True)
        seconds, done = np.append(0, times) / 1e9, np.append(0, np.cumsum(counts))
        kept = np.unique(np.linspace(0, len(done) - 1, min(len(done), _DRAWN)).astype(np.int64))
        rate = f"{done[-1] / seconds[-1]:,.4g}/s"
        axes.plot(
            seconds[kept], done[kept], color=colour, linewidth=2, drawstyle="steps-post", label=f"{label}, {rate}"
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure

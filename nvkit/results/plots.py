"""Figures of one or several tests. Every function returns a matplotlib Figure; nothing is shown or saved.

All take `brand`: what a reader must know about the run ("quick run, not an official result · synthetic weights"),
which stands below the plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from nvkit.results.percentiles import percentile_label, percentiles
from nvkit.results.plot_style import (
    INK,
    LIMIT,
    PALETTE,
    draw_limit,
    duration_text,
    is_wide,
    new_figure,
    save,
    subtitle,
    time_unit,
)
from nvkit.results.raw_log import Int64s, RawLatencies

__all__ = [
    "latency_distribution",
    "latency_over_time",
    "latency_percentiles",
    "rate_search",
    "save",
    "throughput_over_time",
]


@dataclass(frozen=True)
class RatedTest:
    """A Server test of a search: its rate (queries/s), its latency at the limit's percentile, and how it went.

    Attributes:
        full_length: Whether it was as long as a result must be.
    """

    rate: float
    latency_ns: int
    valid: bool
    full_length: bool


Floats = npt.NDArray[np.float64]

_TICKS = (0.50, 0.90, 0.95, 0.97, 0.99, 0.999, 0.9999)
_BEYOND = 10  # samples above a percentile that make it worth showing
_DRAWN = 5000


def latency_percentiles(
    series: Mapping[str, Int64s],
    limit_ns: int | None = None,
    limit_percentile: float | None = None,
    brand: str = "",
    title: str = "Latency percentiles",
) -> Figure:
    """Plot latency against percentile on a log-probability axis, as far as the samples support it.

    Args:
        series: Label to latencies in ns, shape [samples], any order.
        limit_ns: Latency limit, drawn with its value.
        limit_percentile: The fraction (0.99) that the limit applies to, marked on the axis.
        brand: Small print below the plot.
        title: Heading.
    """
    figure, axes = new_figure(title, "percentile", "latency", brand)
    unit_ns, unit = _unit(*series.values())
    drawn = []
    top = 0.5
    for (label, values), colour in zip(series.items(), PALETTE * (1 + len(series) // len(PALETTE)), strict=False):
        fractions = _supported(len(values))
        found = percentiles(values, [float(f) for f in fractions])
        heights = np.array([found[float(f)] for f in fractions]) / unit_ns
        axes.plot(_nines(fractions), heights, color=colour, linewidth=2, label=f"{label}, {len(values):,} queries")
        drawn.append(heights)
        top = max(top, float(fractions[-1]))
        if len(series) == 1:
            _annotate_ticks(axes, values, top, unit_ns, colour)
    ticks = [fraction for fraction in _TICKS if fraction <= top + 1e-9]
    axes.set_xticks(_nines(np.array(ticks)), [percentile_label(fraction) for fraction in ticks])
    axes.set_xlim(_nines(np.array([0.5]))[0] - 0.05, max(_nines(np.array([top]))[0] * 1.04, 0.5))
    heights = np.concatenate(drawn)
    if limit_ns is not None:
        at = f" at {percentile_label(limit_percentile)}" if limit_percentile else ""
        draw_limit(axes, limit_ns / unit_ns, f"limit{at}: {duration_text(limit_ns)}")
        heights = np.append(heights, limit_ns / unit_ns)
        if limit_percentile and limit_percentile <= top:
            axes.axvline(_nines(np.array([limit_percentile]))[0], color=LIMIT, linewidth=1, linestyle=":")
    _scale(axes, heights, unit)
    axes.set_ylabel(f"latency ({unit})", color=INK)
    if len(series) > 1:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.3,
            ncols=len(series),
            columnspacing=1.2,
            handlelength=1.4,
            frameon=False,
            fontsize=8.5,
        )
    else:
        subtitle(axes, " ".join(f"{label} · {len(values):,} queries" for label, values in series.items()))
    return figure


def latency_distribution(
    latencies_ns: Int64s, limit_ns: int | None = None, brand: str = "", title: str = "Latency distribution"
) -> Figure:
    """Plot a histogram of latencies (ns, shape [samples]) with the median, p90 and p99 marked.

    The axis ends a little above p99.9 when few samples lie far beyond it; how many is written on the plot.
    """
    figure, axes = new_figure(title, "", "share of samples", brand)
    marks = percentiles(latencies_ns, (0.5, 0.9, 0.99, 0.999))
    unit_ns, unit = _unit(latencies_ns)
    values = latencies_ns / unit_ns
    end = float(values.max())
    if end > 1.5 * marks[0.999] / unit_ns:
        end = 1.1 * marks[0.999] / unit_ns
    start = float(values.min())
    pad = max(0.02 * (end - start), 1e-3 * end)
    edges = np.linspace(start - pad, end + pad, 1 + int(np.clip(np.sqrt(len(values)), 10, 100)))
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts / len(values), edges, fill=True, color=PALETTE[0], alpha=0.75)
    # Each label stands a line lower than the one before, so that close percentiles stay legible.
    for level, (fraction, colour) in enumerate(((0.5, INK), (0.9, PALETTE[1]), (0.99, PALETTE[3]))):
        if fraction > 0.5 and len(values) * (1 - fraction) < _BEYOND:
            continue
        place = marks[fraction] / unit_ns
        axes.axvline(place, color=colour, linewidth=1.4)
        right = place > start + 0.75 * (end - start)
        axes.annotate(
            f"{percentile_label(fraction)} {duration_text(marks[fraction])}",
            (place, 0.96 - 0.075 * level),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            color=colour,
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )
    beyond = int(np.count_nonzero(values > edges[-1]))
    notes = [f"{len(values):,} samples"]
    if beyond:
        notes.append(f"{beyond:,} beyond the axis, up to {duration_text(float(latencies_ns.max()))}")
    if limit_ns is not None and limit_ns / unit_ns <= edges[-1]:
        axes.axvline(limit_ns / unit_ns, color=LIMIT, linewidth=1.3, linestyle=(0, (6, 3)))
    if limit_ns is not None:
        notes.append(f"limit {duration_text(limit_ns)}")
    subtitle(axes, " · ".join(notes))
    axes.set_xlabel(f"latency ({unit})", color=INK)
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    return figure


def latency_over_time(
    raw: RawLatencies, limit_ns: int | None = None, brand: str = "", title: str = "Latency over time"
) -> Figure:
    """Plot latencies against the time at which samples were due, with their median in equal slices of the time.

    Of many samples some thousand are drawn, the slowest of each slice among them. In Offline, where all samples are
    due at once, the plot shows the samples completed instead.
    """
    start = int(raw.scheduled_ns.min())
    due = (raw.scheduled_ns - start) / 1e9
    if not due.any():
        return _progress(raw, brand, "Progress of the Offline query" if title == "Latency over time" else title)
    figure, axes = new_figure(title, "time (s)", "latency", brand)
    unit_ns, unit = _unit(raw.latency_ns)
    latency = raw.latency_ns / unit_ns
    slices = int(np.clip(len(due) // 20, 1, 80))
    edges = np.linspace(0, float(due.max()), slices + 1)
    order = np.argsort(due, kind="stable")
    groups = [g for g in np.split(order, np.searchsorted(due[order], edges[1:-1])) if len(g)]
    slowest = np.array([group[np.argmax(latency[group])] for group in groups])
    kept = np.union1d(order[:: max(1, -(-len(order) // (_DRAWN - slices)))], slowest)
    share = "" if len(kept) == len(due) else f" · {len(kept):,} drawn, with the slowest of each slice"
    size = float(np.clip(10_000 / len(kept), 5, 30))
    axes.scatter(due[kept], latency[kept], s=size, color=PALETTE[4], alpha=0.45, linewidths=0, rasterized=True)
    middles = [float(np.median(due[group])) for group in groups]
    medians = [float(np.median(latency[group])) for group in groups]
    axes.plot(middles, medians, color=PALETTE[0], linewidth=2, label="median")
    heights = latency[kept]
    if limit_ns is not None:
        draw_limit(axes, limit_ns / unit_ns, f"limit: {duration_text(limit_ns)}")
        heights = np.append(heights, limit_ns / unit_ns)
    _scale(axes, heights, unit)
    axes.set_xlim(-0.01 * float(due.max()), 1.01 * float(due.max()))
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    subtitle(axes, f"{len(due):,} samples{share}")
    return figure


def throughput_over_time(raw: RawLatencies, brand: str = "", title: str = "Throughput over time") -> Figure:
    """Plot completed samples per second in equal slices of the test.

    The samples of a batch, which complete together, are spread over the time since the completion before it, so
    that slices do not beat with batches. The test ends with the last sample due (Offline: the last completion), so
    that no slice is a partial one.
    """
    figure, axes = new_figure(title, "time (s)", "samples per second", brand)
    start = int(raw.scheduled_ns.min())
    times, counts = np.unique(raw.completed_ns - start, return_counts=True)
    last_due = int(raw.scheduled_ns.max()) - start
    end = last_due if last_due > times[-1] / 2 else int(times[-1])
    slices = int(np.clip(len(times) // 40, max(1, min(6, len(times) // 2)), 60))
    edges = np.linspace(0, end, slices + 1)
    done = np.interp(edges, np.append(0, times), np.append(0, np.cumsum(counts)))
    rates = np.diff(done) / (np.diff(edges) / 1e9)
    mean = done[-1] / (end / 1e9)
    axes.stairs(rates, edges / 1e9, fill=True, color=PALETTE[0], alpha=0.2)
    axes.stairs(rates, edges / 1e9, color=PALETTE[0], linewidth=2, baseline=None)
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle=(0, (6, 3)))
    axes.annotate(
        f"mean {mean:,.0f}/s" if mean >= 100 else f"mean {mean:.3g}/s",
        (0.99, mean),
        xycoords=("axes fraction", "data"),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )
    axes.set_xlim(0, end / 1e9)
    axes.set_ylim(0, 1.18 * float(rates.max()))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    subtitle(axes, f"{len(raw.latency_ns):,} samples · slices of {duration_text(end / slices)}")
    return figure


def rate_search(
    tests: Sequence[RatedTest],
    limit_ns: int,
    limit_percentile: float,
    found: float,
    brand: str = "",
    title: str = "Server: latency against rate",
) -> Figure:
    """Plot the latency of each test of a search against the rate at which its queries arrived.

    Args:
        tests: In the order in which they were run.
        limit_ns: Latency limit.
        limit_percentile: The fraction (0.99) that the limit applies to.
        found: The rate that the search ended with, queries/s.
        brand: Small print below the plot.
        title: Heading.
    """
    label = percentile_label(limit_percentile)
    figure, axes = new_figure(title, "rate (queries/s)", "latency", brand)
    latencies = np.array([*(test.latency_ns for test in tests), limit_ns], np.float64)
    unit_ns, unit = time_unit(float(np.median(latencies)))
    kinds = (
        ("valid", True, False, "o", PALETTE[0], 45),
        ("INVALID", False, False, "x", PALETTE[1], 45),
        ("full length, valid", True, True, "*", PALETTE[2], 190),
        ("full length, INVALID", False, True, "X", PALETTE[1], 90),
    )
    for name, valid, full, marker, colour, size in kinds:
        chosen = [test for test in tests if test.valid == valid and test.full_length == full]
        if chosen:
            heights = [test.latency_ns / unit_ns for test in chosen]
            axes.scatter([test.rate for test in chosen], heights, size, colour, marker=marker, label=name, zorder=3)
    draw_limit(axes, limit_ns / unit_ns, f"limit at {label}: {duration_text(limit_ns)}")
    axes.axvline(found, color=PALETTE[2], linewidth=1.2, linestyle=":", zorder=1)
    _scale(axes, latencies / unit_ns, unit)
    axes.set_ylabel(f"{label} latency ({unit})", color=INK)
    rates = np.array([test.rate for test in tests])
    if is_wide(rates):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(frameon=False, fontsize=9, loc="best")
    shown = f"{found:,.0f}" if found >= 1000 else f"{found:.4g}"
    subtitle(axes, f"found {shown} queries/s in {len(tests)} tests")
    return figure


def _progress(raw: RawLatencies, brand: str, title: str) -> Figure:
    figure, axes = new_figure(title, "time (s)", "samples completed", brand)
    times, counts = np.unique(raw.latency_ns, return_counts=True)
    done = np.append(0, np.cumsum(counts))
    seconds = np.append(0, times) / 1e9
    axes.plot([0, seconds[-1]], [0, done[-1]], color=INK, linewidth=1.2, linestyle=(0, (6, 3)), label="constant rate")
    kept = np.unique(np.linspace(0, len(done) - 1, min(len(done), _DRAWN)).astype(np.int64))
    axes.plot(
        seconds[kept], done[kept], color=PALETTE[0], linewidth=2, label="completed", drawstyle="steps-post", zorder=3
    )
    axes.set_xlim(0, seconds[-1])
    axes.set_ylim(0, 1.05 * done[-1])
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    subtitle(axes, f"{done[-1]:,} samples in one query, all due at the start")
    return figure


def _unit(*series: Int64s) -> tuple[float, str]:
    """Choose the unit of a latency axis by the largest p99 on it."""
    return time_unit(max(percentiles(values, (0.99,))[0.99] for values in series))


def _supported(count: int) -> Floats:
    """Fractions from p50 up to where `_BEYOND` samples lie above (with few samples: one), evenly in nines."""
    beyond = _BEYOND if count >= 4 * _BEYOND else 1
    top = max(0.5, 1 - beyond / count)
    fractions = 1 - 10.0 ** -np.linspace(-np.log10(0.5), -np.log10(1 - top), 200) if top > 0.5 else np.array([0.5])
    ticks = [fraction for fraction in _TICKS if fraction <= top]
    return np.unique(np.concatenate([fractions, ticks]))


def _nines(fractions: Floats) -> Floats:
    nines: Floats = -np.log10(1 - fractions)
    return nines


def _annotate_ticks(axes: Axes, values: Int64s, top: float, unit_ns: float, colour: str) -> None:
    fractions = [fraction for fraction in (0.5, 0.9, 0.99, 0.999, 0.9999) if fraction <= top]
    for fraction, value in percentiles(values, fractions).items():
        place = (_nines(np.array([fraction]))[0], value / unit_ns)
        axes.plot(*place, marker="o", markersize=5, color=colour)
        axes.annotate(
            duration_text(value),
            place,
            xytext=(0, 9) if fraction == 0.5 else (-5, 6),
            textcoords="offset points",
            ha="left" if fraction == 0.5 else "right",
            fontsize=9,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )


def _scale(axes: Axes, heights: Floats, unit: str) -> None:
    """Choose a linear axis from zero or a logarithmic one, with plain numbers, and label it."""
    axes.set_ylabel(f"latency ({unit})", color=INK)
    if is_wide(heights):
        axes.set_yscale("log")
        axes.set_ylim(float(heights.min()) / 1.5, float(heights.max()) * 1.8)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, float(heights.max()) * 1.15)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))

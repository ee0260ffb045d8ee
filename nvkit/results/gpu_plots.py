"""Figures of what the GPUs did, in the manner of `nvkit.results.plots`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nvkit.results.gpu import PARTS
from nvkit.results.plot_style import INK, LIMIT, PALETTE, draw_limit, duration_text, new_figure, new_panels, subtitle
from nvkit.telemetry import Sample, Telemetry

Floats = npt.NDArray[np.float64]

_PANELS = {"power_w": "power (W)", "sm_clock_mhz": "SM clock (MHz)", "temperature_c": "temperature (°C)"}
_COLOURS = dict(zip(PARTS, (PALETTE[4], "#d9d9d9", PALETTE[0], PALETTE[5]), strict=True))
_STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")  # told apart where there are more GPUs than colours
_LABELLED = 0.09  # share of a bar that has room for its label


def gpus_over_time(samples: Sequence[Sample], test: Telemetry, brand: str = "", title: str = "GPUs") -> Figure:
    """Plot power, SM clock and temperature of the test's GPUs from its first query to its last response.

    The time in which one of them was slowed down is shaded.

    Args:
        samples: What was recorded.
        test: What they mean; names the GPUs and the time.
        brand: Small print below the plot.
        title: Heading.
    """
    figure, panels = new_panels(title, "time since the first query (s)", list(_PANELS.values()), brand)
    inside = [s for s in samples if s.gpu in test.gpus and 0 <= s.time - test.begin <= test.seconds]
    of_gpu = {gpu: [s for s in inside if s.gpu == gpu] for gpu in test.gpus}
    for axes, key in zip(panels, _PANELS, strict=True):
        drawn = [_line(axes, number, mine, key, test.begin) for number, mine in enumerate(of_gpu.values())]
        _fit(axes, np.concatenate(drawn))
    limits = sorted({s.limit_w for s in inside if s.limit_w is not None})
    for limit in limits:
        draw_limit(panels[0], limit, f"limit: {limit:g} W")
    if limits:
        panels[0].set_ylim(0, 1.2 * max(limits[-1], panels[0].get_ylim()[1] / 1.2))
    spans = [span for mine in of_gpu.values() for span in _throttled(mine, test)]
    for start, end in _union(spans):
        for axes in panels:
            axes.axvspan(start, end, color=LIMIT, alpha=0.1, linewidth=0)
    reasons = dict.fromkeys(reason for sample in inside for reason in sample.throttling)
    counted = f"{len(test.gpus)} GPU{'s' * (len(test.gpus) > 1)}"
    subtitle(
        panels[0], f"{counted} · shaded: slowed by {', '.join(reasons)}" if reasons else f"{counted} · no throttling"
    )
    if len(test.gpus) > 1:
        panels[-1].legend(
            [f"GPU {gpu}" for gpu in test.gpus],
            loc="lower right",
            ncols=4,
            frameon=False,
            fontsize=8.5,
            handlelength=1.4,
        )
    panels[-1].set_xlim(0, test.seconds)
    return figure


def batch_times(
    times: Mapping[str, Mapping[str, float]], brand: str = "", title: str = "Where the GPU's time went"
) -> Figure:
    """Plot the parts of a batch's time as shares of it, one bar for each scenario.

    Args:
        times: Scenario to the runner's sums of ms (`PARTS`), "batches" and "samples".
        brand: Small print below the plot.
        title: Heading.
    """
    figure, axes = new_figure(title, "share of a batch's time", "", brand)
    for place, timing in enumerate(times.values()):
        total = sum(timing[part] for part in PARTS)
        left = 0.0
        for part in PARTS:
            share = timing[part] / total
            axes.barh(place, share, 0.6, left=left, color=_COLOURS[part], edgecolor="white", linewidth=0.8)
            if share > _LABELLED:
                text = f"{duration_text(1e6 * timing[part] / timing['batches'])}\n{share:.0%}"
                colour = "white" if part == "compute" else INK
                axes.text(left + share / 2, place, text, ha="center", va="center", fontsize=8.5, color=colour)
            left += share
        whole = duration_text(1e6 * total / timing["batches"])
        axes.annotate(whole, (1, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    names = [f"{name}\n{t['samples'] / t['batches']:,.4g} a batch" for name, t in times.items()]
    axes.set_yticks(range(len(times)), names)
    axes.set_ylim(len(times) - 0.4, -0.6)
    axes.set_xlim(0, 1.1)
    axes.spines["bottom"].set_bounds(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    axes.grid(False, axis="y")
    axes.legend(
        [Patch(color=_COLOURS[part]) for part in PARTS],
        list(PARTS.values()),
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(PARTS),
        columnspacing=1.2,
        handlelength=1.2,
        frameon=False,
        fontsize=8.5,
    )
    return figure


def _line(axes: Axes, number: int, samples: Sequence[Sample], key: str, begin: float) -> Floats:
    """Draw a value of one GPU; return what was drawn, empty where the driver does not say it."""
    told = [(s.time - begin, float(value)) for s in samples if (value := getattr(s, key)) is not None]
    points = np.array(told, np.float64).reshape(-1, 2)
    marker = "o" if len(points) < 30 else ""
    (line,) = axes.plot(points[:, 0], points[:, 1], linewidth=1.6, marker=marker, markersize=3, zorder=3)
    line.set_color(PALETTE[number % len(PALETTE)])
    line.set_linestyle(_STYLES[number // len(PALETTE) % len(_STYLES)])
    values: Floats = points[:, 1]
    return values


def _fit(axes: Axes, values: Floats) -> None:
    if len(values) == 0:
        axes.text(0.5, 0.5, "the driver does not say", transform=axes.transAxes, ha="center", va="center", color=INK)
        axes.set_yticks([])
        return
    axes.set_ylim(0, 1.2 * float(values.max()))


def _throttled(samples: Sequence[Sample], test: Telemetry) -> Iterator[tuple[float, float]]:
    """Yield the times in which a GPU was slowed down: each sample stands until the next."""
    times = [s.time - test.begin for s in samples]
    for start, end, sample in zip(times, [*times[1:], test.seconds], samples, strict=True):
        if sample.throttling:
            yield start, end


def _union(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join spans that touch or overlap, so that shades do not add up."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined

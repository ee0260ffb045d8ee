from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from nvkit.results.gpu import times_table
from nvkit.results.gpu_plots import batch_times, gpus_over_time
from nvkit.results.plot_style import save
from nvkit.telemetry import Sample, Telemetry, judge

BRAND = "quick run, not an official result · synthetic weights"
BEGIN, SECONDS = 1_000_000.0, 60.0
OFFLINE = {"batches": 10, "samples": 20480, "copy_in": 10.0, "wait": 40.0, "compute": 240.0, "copy_out": 10.0}


def record(gpus: int = 1, **values: Any) -> tuple[list[Sample], Telemetry]:
    """Two samples a second from five seconds before the test until five after it; slowed down for ten of them."""
    samples = []
    for half in range(-10, 130):
        for gpu in range(gpus):
            why = ("power cap",) if 20 <= half / 2 < 30 and gpu == 0 else ()
            clock = 1700 if why else 1980
            usual = {"power_w": 690.0, "limit_w": 700.0, "sm_clock_mhz": clock, "memory_clock_mhz": 3201}
            usual |= {"temperature_c": 60 + gpu, "memory_gib": 20.0, "busy_percent": 99, "own": True, "foreign": 0}
            samples.append(Sample(time=BEGIN + half / 2, gpu=gpu, throttling=why, **{**usual, **values}))
    found = judge(samples, BEGIN, BEGIN + SECONDS, 1000)
    assert found is not None
    return samples, found


def texts(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_a_panel_for_each_value_and_a_line_for_each_gpu(tmp_path: Path, gpus: int) -> None:
    figure = gpus_over_time(*record(gpus), BRAND, "Offline")
    power, clock, heat = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["power (W)", "SM clock (MHz)", "temperature (°C)"]
    for axes in (clock, heat):
        assert len(axes.lines) == gpus
    assert len({(line.get_color(), line.get_linestyle()) for line in clock.lines}) == gpus
    times = clock.lines[0].get_xdata()
    assert (min(times), max(times)) == (0, SECONDS)  # from the first query to the last response
    assert ("GPU 1" in texts(figure)) == (gpus > 1)
    assert "limit: 700 W" in texts(figure)
    assert power.get_ylim()[1] > 700
    assert BRAND in texts(figure)
    png, svg = save(figure, tmp_path, "gpus")
    assert png.stat().st_size > 10_000
    assert b"<svg" in svg.read_bytes()


def test_the_time_of_throttling_is_shaded_in_every_panel() -> None:
    figure = gpus_over_time(*record(2), BRAND)
    assert "shaded: slowed by power cap" in texts(figure)
    for axes in figure.axes:
        (shade,) = axes.patches
        assert shade.get_extents().transformed(axes.transData.inverted()).intervalx.tolist() == pytest.approx([20, 30])


def test_a_calm_test_has_no_shade() -> None:
    samples, _ = record()
    calm = [replace(sample, throttling=()) for sample in samples]
    found = judge(calm, BEGIN, BEGIN + SECONDS, 1)
    assert found is not None
    figure = gpus_over_time(calm, found, BRAND)
    assert "no throttling" in texts(figure)
    assert not figure.axes[0].patches


def test_what_the_driver_does_not_say_is_said(tmp_path: Path) -> None:
    figure = gpus_over_time(*record(power_w=None, limit_w=None, temperature_c=None), BRAND)
    assert texts(figure).count("the driver does not say") == 2
    assert "limit" not in texts(figure)
    save(figure, tmp_path, "gpus")


def test_the_bars_are_shares_with_their_times(tmp_path: Path) -> None:
    server = {"batches": 100, "samples": 800, "copy_in": 5.0, "wait": 0.0, "compute": 90.0, "copy_out": 5.0}
    figure = batch_times({"Offline": OFFLINE, "Server": server}, BRAND)
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([1 / 30, 4 / 30, 24 / 30, 1 / 30, 0.05, 0, 0.9, 0.05])
    shown = texts(figure)
    for text in ("24 ms\n80%", "30 ms", "Offline\n2,048 a batch", "900 µs\n90%", "Server\n8 a batch", BRAND):
        assert text in shown
    assert "\n3%" not in shown  # a narrow part has no room for its label
    save(figure, tmp_path, "bars")


def test_the_table_names_what_was_not_measured() -> None:
    table = times_table({"Offline": OFFLINE, "SingleStream": None})
    assert table.rows == [["Offline", 10, 2048.0, 30.0, 1.0, 3.3, 4.0, 13.3, 24.0, 80.0, 1.0, 3.3]]
    assert table.notes[-1].endswith("batch_timing is off: SingleStream.")
    assert len(times_table({"Offline": OFFLINE}).notes) == 1

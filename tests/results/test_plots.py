from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nvkit.results import plots
from nvkit.results.percentiles import percentiles
from nvkit.results.plot_style import duration_text, time_unit
from nvkit.results.raw_log import RawLatencies, read_trace

BRAND = "quick run, not an official result · synthetic weights"


def _raw(scheduled: np.ndarray, latency: np.ndarray) -> RawLatencies:
    numbers = np.arange(len(scheduled))
    return RawLatencies(numbers, numbers, numbers, scheduled, np.zeros_like(numbers), latency)


def _figures(raw: RawLatencies) -> list[Figure]:
    return [
        plots.latency_percentiles({"test": raw.query_latency_ns}, 15_000_000, 0.99, BRAND),
        plots.latency_distribution(raw.latency_ns, 15_000_000, BRAND),
        plots.latency_over_time(raw, 15_000_000, BRAND),
        plots.throughput_over_time(raw, BRAND),
    ]


def _texts(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("name", ["Offline", "Server", "SingleStream", "MultiStream", "few queries"])
def test_every_figure_of_every_scenario_can_be_drawn_and_is_branded(loadgen_test, tmp_path: Path, name: str) -> None:
    for number, figure in enumerate(_figures(read_trace(loadgen_test(name)))):
        png, svg = plots.save(figure, tmp_path, f"figure{number}")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in svg.read_bytes()
        assert BRAND in _texts(figure)


@pytest.mark.parametrize("count", [1, 2, 15])
def test_very_few_samples(tmp_path: Path, count: int) -> None:
    raw = _raw(np.arange(count) * 1_000_000, np.full(count, 500_000))
    for number, figure in enumerate(_figures(raw)):
        png, svg = plots.save(figure, tmp_path, f"figure{number}")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in svg.read_text(encoding="utf-8")


def test_percentile_ticks_stop_where_fewer_than_ten_samples_lie_above() -> None:
    def ticks(count: int) -> list[str]:
        axes = plots.latency_percentiles({"a": np.arange(1, count + 1) * 1000}).axes[0]
        return [label.get_text() for label in axes.get_xticklabels()]

    assert ticks(1_000) == ["p50", "p90", "p95", "p97", "p99"]
    assert ticks(10_000)[-1] == "p99.9"
    assert ticks(100_000)[-1] == "p99.99"
    assert ticks(100) == ["p50", "p90"]


def test_percentile_curve_passes_through_the_percentiles() -> None:
    values = np.random.default_rng(1).lognormal(15, 0.5, 20_000).astype(np.int64)
    axes = plots.latency_percentiles({"a": values}, limit_ns=15_000_000, limit_percentile=0.99).axes[0]
    curve = dict(zip(np.round(axes.lines[0].get_xdata(), 6), axes.lines[0].get_ydata(), strict=True))
    for fraction, value in percentiles(values, (0.5, 0.9, 0.99, 0.999)).items():
        assert curve[round(-np.log10(1 - fraction), 6)] == pytest.approx(value / 1e6)
    assert "limit at p99: 15 ms" in _texts(axes.figure)


def test_throughput_has_no_partial_slice_and_does_not_beat_with_batches() -> None:
    done = np.repeat(np.arange(1, 1001) * 7_000_000, 32)
    axes = plots.throughput_over_time(_raw(np.zeros(32_000, np.int64), done)).axes[0]
    rates = axes.patches[0].get_data().values
    assert len(rates) > 20
    np.testing.assert_allclose(rates, 32 / 0.007, rtol=1e-6)


def test_offline_over_time_shows_progress(loadgen_test) -> None:
    text = _texts(plots.latency_over_time(read_trace(loadgen_test("Offline")), brand=BRAND))
    assert "Progress of the Offline query" in text
    assert "all due at the start" in text


def test_a_million_samples_are_decimated_with_their_spikes_kept() -> None:
    chance = np.random.default_rng(2)
    count = 1_000_000
    scheduled = np.sort(chance.integers(0, 600_000_000_000, count))
    latency = chance.integers(3_000_000, 5_000_000, count)
    latency[123_457] = 90_000_000
    started = time.perf_counter()
    figures = _figures(_raw(scheduled, latency))
    assert time.perf_counter() - started < 5
    points = figures[2].axes[0].collections[0].get_offsets()
    assert len(points) <= 5000
    assert points[:, 1].max() == pytest.approx(90)


def test_the_same_figure_gives_the_same_bytes(loadgen_test, tmp_path: Path) -> None:
    raw = read_trace(loadgen_test("Server"))
    for folder in ("a", "b"):
        plots.save(plots.latency_over_time(raw), tmp_path / folder, "same")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a/same.{suffix}").read_bytes() == (tmp_path / f"b/same.{suffix}").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["same.png", "same.svg"]


def test_units_read_well() -> None:
    assert [time_unit(ns)[1] for ns in (500, 35_000, 4_000_000, 2e9)] == ["µs", "µs", "ms", "s"]
    assert [duration_text(ns) for ns in (500, 35_800, 15_000_000, 2.5e9)] == ["0.5 µs", "35.8 µs", "15 ms", "2.5 s"]


def test_pyplot_and_the_package_stay_unloaded() -> None:
    code = (
        "import sys, nvkit.results; assert 'numpy' not in sys.modules;"
        "import nvkit.results.summary, nvkit.results.published; assert 'matplotlib' not in sys.modules;"
        "import nvkit.results.plots; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_rate_search_shows_each_test_the_limit_and_what_was_found(tmp_path: Path) -> None:
    outcomes = [(100, 5, True, False), (150, 9, True, False), (225, 400, False, False), (184, 16, False, True)]
    tests = [plots.RatedTest(rate, ms * 1_000_000, valid, full) for rate, ms, valid, full in outcomes]
    tests.append(plots.RatedTest(170, 12_000_000, valid=True, full_length=True))
    figure = plots.rate_search(tests, 15_000_000, 0.99, 170.0, "generated data")
    (axes,) = figure.axes
    drawn = {c.get_label(): len(c.get_offsets()) for c in axes.collections}
    assert drawn == {"valid": 2, "INVALID": 1, "full length, valid": 1, "full length, INVALID": 1}
    words = _texts(figure)
    for word in ("p99 latency (ms)", "limit at p99: 15 ms", "found 170 queries/s in 5 tests", "generated data"):
        assert word in words
    assert axes.get_yscale() == "log"
    assert all(path.stat().st_size > 5000 for path in plots.save(figure, tmp_path, "search"))

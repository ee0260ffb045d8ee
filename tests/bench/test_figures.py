from __future__ import annotations

import re

import pytest

from nvkit.bench.figures import against_limit, against_peer, machine, table


def test_the_ratio_is_the_median_of_neighbouring_runs() -> None:
    # The second pair hit a busy machine: both sides halve, the ratio does not move.
    figure = against_peer("a", "samples/s", [99.0, 50.0, 98.0], [100.0, 50.0, 100.0], 0.98, "s")
    assert figure.ratio == pytest.approx(0.99)
    assert (figure.ours, figure.peer) == (98.0, 100.0)
    assert (figure.lowest, figure.highest) == (0.98, 1.0)
    assert figure.reached


def test_latencies_count_the_other_way_round() -> None:
    figure = against_peer("a", "ms", [0.10], [0.12], 1.0, "s", lower_is_better=True)
    assert figure.ratio == pytest.approx(1.2)
    assert figure.reached
    assert not against_peer("a", "ms", [0.12], [0.10], 1.0, "s", lower_is_better=True).reached


def test_every_run_needs_its_neighbour() -> None:
    with pytest.raises(ValueError, match="shorter"):
        against_peer("a", "x", [1.0, 2.0], [1.0], 1.0, "s")


@pytest.mark.parametrize(("values", "at_most", "reached"), [([2.0, 5.0, 2.5], True, True), ([2.0], False, False)])
def test_a_figure_without_a_peer_is_held_against_its_limit(values: list[float], at_most: bool, reached: bool) -> None:
    figure = against_limit("a", "s", values, 3.0, "s", at_most=at_most)
    assert figure.reached is reached
    assert figure.peer is None
    assert figure.bar == ("at most 3" if at_most else "at least 3")


def test_the_table_says_bar_verdict_settings_and_machine() -> None:
    missed = against_peer("slow", "samples/s", [1.0], [2.0], 0.98, "batch 8")
    text = str(table("Title", [missed, against_limit("fast", "queries/s", [400_000.0], 300_000, "null")]))
    lines = text.splitlines()
    assert lines[0] == "Title"
    assert re.search(r"0\.5 +0\.5 to 0\.5 +at least 0\.98 x +no +batch 8$", lines[3])
    assert re.search(r"at least 300,000 +yes +null$", lines[4])
    assert lines[-1].startswith("Machine: ")
    assert " cores; Python 3." in machine()

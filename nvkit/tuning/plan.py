"""What is about to run: the expected rate or latency of each test, its queries, and how long all of it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvkit.config import Settings
from nvkit.harness.predict import Prediction, expectation_text, predict, shown_expectation
from nvkit.progress import person_present
from nvkit.store import duration
from nvkit.tables import Table
from nvkit.tuning.targets import Target


@dataclass(frozen=True)
class PlannedTest:
    """One test before it starts.

    Attributes:
        scenario: LoadGen's name.
        mode: "performance", "accuracy" or "submission".
        target: What is expected of the system.
        prediction: What the test will take; None if only the warm-up will tell.
        least_s: Seconds that it takes at least, warm-up included.
    """

    scenario: str
    mode: str
    target: Target
    prediction: Prediction | None
    least_s: float

    def __str__(self) -> str:
        if self.prediction is None or self.target.value is None:
            return f"{self.scenario} {self.mode}: expectation {self.target.origin}; at least {duration(self.least_s)}"
        expected = expectation_text(self.scenario, self.target.value)
        return f"{self.scenario} {self.mode}: {expected} expected ({self.target.origin}); {self.prediction}"


def planned_test(settings: Settings, scenario: str, mode: str, target: Target, sample_count: int) -> PlannedTest:
    """Predict a test from its target.

    Args:
        settings: Resolved values; the target replaces theirs.
        scenario: LoadGen's name.
        mode: "performance", "accuracy" or "submission".
        target: What is expected of the system.
        sample_count: Samples in the whole set.
    """
    prediction, least_s = None, settings.warmup_duration
    if target.value is not None:
        prediction = predict(target.put_into(settings), scenario, mode, sample_count)
        least_s += prediction.seconds
    elif mode != "accuracy":
        least_s += settings.min_duration / 1000
    return PlannedTest(scenario, mode, target, prediction, least_s)


def plan_table(tests: Sequence[PlannedTest]) -> Table:
    """Return one row for each test; the time of all of them stands below."""
    rows: list[list[object]] = []
    for test in tests:
        value, unit = shown_expectation(test.scenario, test.target.value) if test.target.value else (None, "")
        took = test.prediction
        counts = [took.queries, took.samples, round(took.seconds, 1)] if took else ["after the warm-up"] * 3
        rows.append([test.scenario, test.mode, value, unit, test.target.origin, *counts])
    headings = ["scenario", "mode", "expected", "unit", "origin", "queries", "samples", "seconds"]
    return Table(headings, rows, "Tests to run", [total(tests)])


def total(tests: Sequence[PlannedTest]) -> str:
    """Say how long all tests take, warm-ups included and loading not."""
    about = "about" if all(test.prediction for test in tests) else "at least"
    count = f"{len(tests)} tests" if len(tests) != 1 else "1 test"
    return f"{count}, {about} {duration(sum(test.least_s for test in tests))} in all with warm-up."


def show_plan(tests: Sequence[PlannedTest]) -> None:
    """Print the plan, one line for each test; to a person in a notebook show its table."""
    if person_present():
        from IPython.display import display

        display(plan_table(tests))
        return
    print("\n".join([*map(str, tests), total(tests)]), flush=True)

from __future__ import annotations

from collections.abc import Callable

import pytest

import nvkit
from nvkit.config import Settings
from nvkit.tuning.plan import plan_table, planned_test, total
from nvkit.tuning.targets import FROM_WARM_UP, Target

Make = Callable[..., tuple[nvkit.RunConfig, nvkit.RunFolder]]


def test_a_known_rate_gives_queries_and_time() -> None:
    settings = Settings(min_duration=60_000, warmup_duration=2.0)
    known = planned_test(settings, "Server", "performance", Target("server_target_qps", 50, "user: flag"), 1000)
    assert str(known) == "Server performance: 50 queries/s expected (user: flag); 3,000 samples, about 60 s"
    assert known.least_s == 62
    unknown = planned_test(settings, "Server", "performance", Target("server_target_qps", None, FROM_WARM_UP), 1000)
    assert str(unknown) == "Server performance: expectation found in the warm-up; at least 62 s"
    assert total([known]) == "1 test, about 62 s in all with warm-up."
    assert total([known, unknown]) == "2 tests, at least 2 minutes in all with warm-up."
    table = plan_table([known, unknown])
    assert table.rows[0] == ["Server", "performance", 50, "queries/s", "user: flag", 3000, 3000, 60.0]
    assert table.rows[1][-1] == "after the warm-up"


def test_the_run_stage_says_what_is_to_come(null_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config, run = null_run("Server,Offline", server_target_qps=500)
    result = nvkit.stages.run(config, run)
    said = capsys.readouterr().out
    origin = "user: flag or notebook parameter"
    assert f"Server performance: 500 queries/s expected ({origin}); 150 samples, less than 1 s\n" in said
    assert "Offline performance: expectation found in the warm-up; at least 0 s\n" in said
    assert "2 tests, at least 1 s in all with warm-up.\n" in said or "2 tests, at least 0 s" in said
    assert "Offline performance: the warm-up suggests " in said
    assert "Server performance: the warm-up suggests" not in said
    tests = {test.summary.scenario: test for test in result.tests}
    assert tests["Server"].expectations["server_target_qps"].origin == origin
    assert tests["Offline"].expectations["offline_expected_qps"].origin == FROM_WARM_UP
    assert tests["Server"].predicted.samples == 150
    assert tests["Server"].summary.counts["samples"] == pytest.approx(150, abs=5)
    assert tests["Offline"].predicted.samples == tests["Offline"].summary.counts["samples"]
    table = result.tables()[1]
    assert {row[0]: row[4] for row in table.rows} == {"Offline": FROM_WARM_UP, "Server": origin}

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import ConfigError, HarnessError
from nvkit.harness import refuse_audit_config, run_test
from nvkit.results.loadgen_log import read_detail
from nvkit.results.raw_log import read_accuracy, read_trace


@pytest.mark.parametrize("scenario", ["Offline", "Server", "SingleStream", "MultiStream"])
def test_every_scenario_runs_in_a_child_and_leaves_its_logs(tmp_path: Path, null_spec: Any, scenario: str) -> None:
    extra = {"server_target_qps": 2000} if scenario == "Server" else {}
    extra |= {"offline_expected_qps": 2000} if scenario == "Offline" else {}
    extra |= {f"{k}_expected_latency_ns": 4_000 for k in ("single_stream",) if scenario == "SingleStream"}
    extra |= {f"{k}_expected_latency_ns": 4_000 for k in ("multi_stream",) if scenario == "MultiStream"}
    spec = null_spec(scenario, batch_size=4, qsl_rng_seed=2**63 + 5, trace_samples=10**6, **extra)
    report = run_test(spec, tmp_path / "logs")
    detail = read_detail(tmp_path / "logs")
    assert detail.scenario == scenario
    assert detail.get("effective_qsl_rng_seed") == 2**63 + 5
    assert report["completed"] == len(read_trace(tmp_path / "logs").latency_ns) > 0
    assert detail.errors == ()
    assert not list(tmp_path.glob("*.partial"))
    assert not (tmp_path / "logs" / "PARTIAL.txt").exists()


def test_accuracy_mode_answers_every_sample_once(tmp_path: Path, null_spec: Any) -> None:
    run_test(null_spec("Offline", "accuracy", batch_size=8), tmp_path / "logs")
    responses = read_accuracy(tmp_path / "logs")
    assert sorted(responses) == list(range(50))
    assert set(responses.values()) == {(-1).to_bytes(4, "little", signed=True)}  # class 0 is the background


def test_submission_mode_does_both_in_one_test(tmp_path: Path, null_spec: Any) -> None:
    run_test(null_spec("SingleStream", "submission", single_stream_expected_latency_ns=100_000), tmp_path / "logs")
    assert read_detail(tmp_path / "logs").has_result
    assert len(read_accuracy(tmp_path / "logs")) == 50


def test_a_killed_child_is_an_error_and_its_logs_are_marked_partial(tmp_path: Path, null_spec: Any) -> None:
    spec = null_spec("Server", server_target_qps=500, min_duration=60_000)

    def kill(pid: int) -> None:
        def later() -> None:
            time.sleep(2.0)
            os.kill(pid, signal.SIGKILL)

        threading.Thread(target=later).start()

    with pytest.raises(HarnessError, match="killed by SIGKILL in mid-test") as caught:
        run_test(spec, tmp_path / "logs", started=kill)
    assert "continues with this test" in caught.value.fix
    assert not (tmp_path / "logs").exists()
    assert "not a result" in (tmp_path / "logs.partial" / "PARTIAL.txt").read_text()


def test_an_error_in_a_slots_thread_ends_the_test(tmp_path: Path, null_spec: Any) -> None:
    spec = null_spec("Offline", offline_expected_qps=100)
    (spec.engine / "engine.json").write_text("{")
    with pytest.raises(HarnessError, match="engine"):
        run_test(spec, tmp_path / "logs")
    assert (tmp_path / "logs.partial" / "error.json").exists()


def test_the_child_does_not_outlive_its_parent(tmp_path: Path, null_spec: Any) -> None:
    spec = null_spec("Server", server_target_qps=500, min_duration=60_000)
    code = (
        "import sys, json, pickle\nfrom pathlib import Path\nfrom nvkit.harness import run_test\n"
        f"spec = pickle.loads(Path({str(tmp_path / 'spec')!r}).read_bytes())\n"
        f"run_test(spec, Path({str(tmp_path / 'logs')!r}), started=lambda pid: print(pid, flush=True))\n"
    )
    import pickle

    (tmp_path / "spec").write_bytes(pickle.dumps(spec))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(1.5)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_an_interrupt_stops_the_child_and_leaves_partial_logs(tmp_path: Path, null_spec: Any) -> None:
    spec = null_spec("Server", server_target_qps=500, min_duration=60_000)
    pids: list[int] = []

    def interrupt(pid: int) -> None:
        pids.append(pid)
        threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        run_test(spec, tmp_path / "logs", started=interrupt)
    assert not Path(f"/proc/{pids[0]}").exists()
    assert (tmp_path / "logs.partial" / "PARTIAL.txt").exists()


def test_a_test_that_is_done_again_replaces_partial_logs(tmp_path: Path, null_spec: Any) -> None:
    (tmp_path / "logs.partial").mkdir()
    (tmp_path / "logs.partial" / "old").write_text("x")
    run_test(null_spec("Offline", offline_expected_qps=1000), tmp_path / "logs")
    assert not (tmp_path / "logs" / "old").exists()
    assert json.loads((tmp_path / "logs" / "child.json").read_text())["trace"] is True


def test_long_tests_go_without_a_trace(tmp_path: Path, null_spec: Any) -> None:
    report = run_test(null_spec("Offline", offline_expected_qps=10_000, trace_samples=100), tmp_path / "logs")
    assert report["trace"] is False
    assert (tmp_path / "logs" / "mlperf_log_trace.json").stat().st_size == 0


def test_an_audit_config_in_the_working_directory_is_refused(tmp_path: Path) -> None:
    refuse_audit_config(tmp_path)
    (tmp_path / "audit.config").write_text("*.*.mode = 2\n")
    with pytest.raises(ConfigError, match=r"audit\.config lies in .*Move or delete it"):
        refuse_audit_config(tmp_path)

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nvkit.bench import peer, reference
from nvkit.errors import HarnessError, MissingPackageError

MAIN = """
import argparse, json, os, time
import mlperf_loadgen as lg
parser = argparse.ArgumentParser()
names = "profile model dataset-path cache_dir output user_conf audit_conf scenario time qps max-batchsize threads"
for name in (names + " performance-sample-count max-latency").split():
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()
if args.scenario == "MultiStream":
    raise SystemExit("no such thing here")
os.makedirs(args.output)
print(json.dumps(vars(args)), file=open(os.path.join(args.cache_dir), "w"))
settings = lg.TestSettings()
settings.FromConfig(args.user_conf, "resnet50", args.scenario)
settings.scenario = getattr(lg.TestScenario, args.scenario)
settings.min_duration_ms = settings.max_duration_ms = 200
settings.mode = lg.TestMode.PerformanceOnly
settings.server_target_qps = settings.offline_expected_qps = float(args.qps)
log = lg.LogSettings()
log.enable_trace = False
out = lg.LogOutputSettings()
out.outdir = args.output
log.log_output = out
def issue(ids, indices):
    time.sleep(0.0001)
    lg.QuerySamplesComplete([lg.QuerySampleResponse(i, 0, 0) for i in ids])
sut = lg.ConstructFastSUT(issue, lambda: None)
qsl = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
lg.StartTestWithLogSettings(sut, qsl, settings, log, args.audit_conf)
"""


class Log(dict[str, Any]):
    def require(self, key: str) -> Any:
        return self[key]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "inference" / "vision" / "classification_and_detection" / "python"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(MAIN, encoding="utf-8")
    return tmp_path / "inference"


@pytest.fixture
def harness(checkout: Path, tmp_path: Path) -> peer.ReferenceHarness:
    return peer.ReferenceHarness(
        checkout, tmp_path / "m.onnx", tmp_path, tmp_path / "said.json", batch=32, threads=2, resident=16
    )


def test_missing_packages_are_named_with_the_command(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: None if name == "pycocotools" else object())
    with pytest.raises(MissingPackageError, match="needs pycocotools") as error:
        peer.check(checkout)
    assert error.value.fix == f"{sys.executable} -m pip install pycocotools"
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: object())
    peer.check(checkout)


def test_the_reference_harness_runs_with_its_own_flags(harness: peer.ReferenceHarness, tmp_path: Path) -> None:
    log = harness.test("Server", 1, 500.4, 15_000_000)
    assert log.scenario == "Server"
    assert log.require("effective_performance_sample_count") == 16
    assert log.require("effective_min_query_count") == 100
    assert log.require("effective_target_latency_ns") == 15_000_000
    said = (tmp_path / "said.json").read_text(encoding="utf-8")
    assert '"qps": "500"' in said
    assert '"max_latency": "0.015"' in said
    assert '"profile": "resnet50-onnxruntime"' in said


def test_single_stream_does_not_run_out_of_queries(harness: peer.ReferenceHarness) -> None:
    log = harness.test("SingleStream", 1, 1.0, 15_000_000)
    assert log.require("requested_single_stream_expected_latency_ns") == 20_000
    assert log.errors == ()


def test_a_reference_harness_that_fails_is_an_error_with_its_last_line(harness: peer.ReferenceHarness) -> None:
    with pytest.raises(HarnessError, match="failed in MultiStream: no such thing here"):
        harness.test("MultiStream", 1, 1.0, 1)


def test_an_offline_test_that_was_too_short_is_run_again_with_more_samples() -> None:
    asked: list[float] = []

    def run(scenario: str, qps: float) -> Any:
        asked.append(qps)
        valid = "VALID" if qps >= 2000 else "INVALID"
        return Log(result_validity=valid, result_samples_per_second=2000.0)

    assert reference.valid_offline(run, 100.0) == 2000.0
    assert asked == [100.0, pytest.approx(2200.0)]


def test_both_sides_take_turns_and_search_alike() -> None:
    turns: list[str] = []

    def side(name: str, limit: float) -> reference.Test:
        def run(scenario: str, qps: float) -> Any:
            turns.append(name)
            return Log(result_validity="VALID" if qps <= limit else "INVALID", result_completed_samples_per_sec=qps)

        return run

    figure = reference._server(side("ours", 12_000.0), side("peer", 4000.0), 1, "words")
    assert figure.ours == pytest.approx(12_000, rel=0.05)
    assert figure.peer == pytest.approx(4000, rel=0.05)
    assert figure.reached
    assert turns[:4] == ["peer", "ours", "peer", "ours"]


def test_a_side_without_any_valid_rate_is_an_error() -> None:
    def never(scenario: str, qps: float) -> Any:
        return Log(result_validity="INVALID", result_completed_samples_per_sec=qps)

    with pytest.raises(HarnessError, match="No Server rate"):
        reference._server(never, never, 1, "words")

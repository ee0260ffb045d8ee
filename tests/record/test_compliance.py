from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import nvkit
from nvkit.errors import ConfigError, ExecutionError, InvalidResultError
from nvkit.record.compliance import comply
from nvkit.record.compliance_checks import verify_accuracy, verify_performance
from nvkit.record.compliance_rules import audit_config, chosen_tests, required_tests
from nvkit.results.loadgen_log import DetailLog, Entry, read_detail
from nvkit.results.raw_log import read_responses
from nvkit.results.validity import verdict


def _log(**values: object) -> DetailLog:
    facts = {"effective_scenario": "Offline", "result_validity": "VALID", "result_samples_per_second": 100.0, **values}
    return DetailLog(Path("log"), tuple(Entry(key, value, 0.0, 1, False, False) for key, value in facts.items()))


def _stream(latency: int, scenario: str = "SingleStream", percentile: float = 0.9) -> DetailLog:
    key = "early_stopping_latency_ss" if scenario == "SingleStream" else "early_stopping_latency_ms"
    values = {"effective_scenario": scenario, "effective_target_latency_percentile": percentile, key: latency}
    return _log(**values)


@pytest.mark.parametrize(
    ("test", "found", "passed"),
    [
        ("TEST01", 109, True),
        ("TEST01", 111, False),
        ("TEST01", 89, False),
        ("TEST04", 109, True),
        ("TEST04", 111, False),
        ("TEST04", 10, True),
        ("TEST05", 96, True),
        ("TEST05", 94, False),
        ("TEST05", 200, True),
    ],
)
def test_throughput_is_compared_within_the_tests_tolerance(test: str, found: float, passed: bool) -> None:
    check = verify_performance(test, _log(), _log(result_samples_per_second=float(found)))
    assert check.passed is passed
    assert ("TEST PASS" in check.text) is passed
    assert "reference score = 100.0" in check.text


@pytest.mark.parametrize(
    ("test", "reference", "found", "passed"),
    [
        ("TEST01", 1_000_000, 1_110_000, False),
        ("TEST01", 100_000, 118_000, True),  # short latencies get 20 %
        ("TEST04", 1_000_000, 850_000, True),  # judged by queries per second, 1 000 beside 1 176
        ("TEST04", 1_000_000, 800_000, False),
        ("TEST05", 1_000_000, 1_060_000, False),
        ("TEST05", 1_000_000, 500_000, True),
    ],
)
def test_latency_is_compared_as_the_scripts_do(test: str, reference: int, found: int, passed: bool) -> None:
    assert verify_performance(test, _stream(reference), _stream(found)).passed is passed


def test_what_cannot_be_compared_fails() -> None:
    assert not verify_performance("TEST01", _log(), _log(result_validity="INVALID")).passed
    assert "do not match" in verify_performance("TEST01", _log(), _stream(1000)).text
    other = _stream(1000, "MultiStream", 0.9)
    assert "p99" in verify_performance("TEST01", other, other).why
    limits = [_log(effective_scenario="Server", effective_target_latency_ns=n) for n in (1, 2)]
    assert "latency mismatch" in verify_performance("TEST01", *limits).text


def test_every_logged_response_is_compared_by_its_first_element() -> None:
    reference = {0: b"\x01\x00\x00\x00", 1: b"\x02\x00\x00\x00"}
    same = [(0, reference[0]), (1, reference[1]), (0, reference[0]), (7, b"")]
    check = verify_accuracy(reference, same, "int32")
    assert check.passed
    assert "num_missing_qsl_idxs = 1" in check.text
    late = [*same, (0, b"\x01\x00\x00\x01")]
    assert not verify_accuracy(reference, late, "int32").passed
    assert verify_accuracy(reference, late, "byte").passed
    assert not verify_accuracy(reference, [(7, b"")], "byte").passed


def test_tests_follow_round_and_benchmark() -> None:
    assert required_tests("v4.1", "resnet50") == ("TEST01", "TEST04", "TEST05")
    assert required_tests("v5.1", "resnet50") == ("TEST01", "TEST04")
    assert required_tests("v4.1", "bert-99") == ("TEST01", "TEST05")
    assert "sampling_target = 256" in audit_config("TEST01", "retinanet", "Offline")
    assert "sampling_target = 64" in audit_config("TEST01", "3d-unet-99.9", "Offline")
    config = nvkit.configure(profile="cpu", round="v5.1", scenario="Offline", quick=True)
    assert chosen_tests(config, "test04") == ("TEST04",)
    with pytest.raises(ConfigError, match="asks no TEST05"):
        chosen_tests(config, "TEST05")


def test_the_audit_settings_reach_loadgen(complied) -> None:  # type: ignore[no-untyped-def]
    folder = complied.run.path / "compliance" / "SingleStream"
    settings = complied.config.scenarios["SingleStream"]
    assert read_detail(folder / "TEST01").get("effective_accuracy_log_sampling_target") == 4096
    same = read_detail(folder / "TEST04")
    assert (same.get("effective_performance_issue_same"), same.get("effective_performance_issue_same_index")) == (
        True,
        3,
    )
    seeds = read_detail(folder / "TEST05")
    assert seeds.get("effective_qsl_rng_seed") == settings.test05_qsl_rng_seed
    assert seeds.get("effective_schedule_rng_seed") == settings.test05_schedule_rng_seed
    assert not (folder / "TEST05" / "audit.config").exists()
    assert len(read_responses(folder / "TEST01")) >= 64


def test_a_compliance_test_is_valid_with_its_audit_config_and_only_with_it(complied) -> None:  # type: ignore[no-untyped-def]
    detail = read_detail(complied.run.path / "compliance" / "Offline" / "TEST01")
    assert "audit.config" not in str(verdict(detail, audit=True))
    assert "audit.config" in str(verdict(detail))
    plain = read_detail(complied.run.path / "loadgen" / "Offline" / "performance")
    assert "no audit.config" in str(verdict(plain, audit=True))
    for test in complied.result.tests:
        assert "audit.config" not in str(test.summary.verdict)
        assert not any("seed" in reason.what for reason in test.summary.departures)


def test_sampled_responses_are_those_of_the_accuracy_run(complied) -> None:  # type: ignore[no-untyped-def]
    found = {(v.scenario, v.test): v for v in complied.result.verifications}
    assert len(found) == 6
    for scenario in ("Offline", "SingleStream"):
        assert found[scenario, "TEST01"].accuracy is True
        assert found[scenario, "TEST05"].accuracy is None
        folder = complied.run.path / found[scenario, "TEST01"].logs
        assert "TEST PASS" in (folder / "verify_accuracy.txt").read_text()
        assert (folder / "verify_performance.txt").read_text().startswith("Verifying performance.")
    assert "quick run, not an official result" in str(complied.result)


def test_finished_compliance_tests_are_not_run_again(complied) -> None:  # type: ignore[no-untyped-def]
    again = comply(complied.config, complied.run)
    assert again.reused
    assert [test.finished for test in again.tests] == [test.finished for test in complied.result.tests]


def test_a_run_without_accuracy_is_refused(complied) -> None:  # type: ignore[no-untyped-def]
    config = replace(complied.config, mode="performance")
    with pytest.raises(ConfigError, match="Run with --mode both"):
        comply(config, complied.run)
    with pytest.raises(ConfigError, match="--audit TEST01"):
        comply(replace(complied.config, implementation="nvidia-original"), complied.run)


_SCRIPT = """
import argparse, pathlib
parser = argparse.ArgumentParser()
for name in ("-r", "-c", "-o", "--dtype"):
    parser.add_argument(name)
args = parser.parse_args()
assert (pathlib.Path(args.r) / "performance" / "run_1" / "mlperf_log_summary.txt").is_file()
assert (pathlib.Path(args.r) / "accuracy" / "mlperf_log_accuracy.json").is_file()
assert (pathlib.Path(args.c) / "mlperf_log_accuracy.json").is_file()
out = pathlib.Path(args.o) / "TEST01"
out.mkdir(parents=True)
{body}
"""


def _checkout(folder: Path, body: str) -> Path:
    script = folder / "an inference" / "compliance" / "nvidia" / "TEST01" / "run_verification.py"
    script.parent.mkdir(parents=True)
    script.write_text(_SCRIPT.format(body=body))
    return folder / "an inference"


def test_mlcommons_script_verifies_where_it_is_given(complied, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    passed = {(v.scenario, v.test): v.performance for v in complied.result.verifications}
    assert set(passed.values()) == {True}  # the fixture has tried until they are
    said = dict.fromkeys(("acc", "perf"), "TEST PASS")
    body = "\n".join(
        [
            f"(out / 'verify_accuracy.txt').write_text('the script, ' + args.dtype + ': {said['acc']}\\n')",
            f"(out / 'verify_performance.txt').write_text('the script: {said['perf']}\\n')",
        ]
    )
    result = comply(complied.config, complied.run, "TEST01", _checkout(tmp_path, body))
    assert {v.verified_by for v in result.verifications} == {"MLCommons' script"}
    text = (complied.run.path / "compliance/Offline/TEST01/verify_accuracy.txt").read_text()
    assert text == "the script, int32: TEST PASS\n"


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("for name in ('verify_accuracy.txt', 'verify_performance.txt'):\n    (out / name).write_text('TEST FAIL')",
         InvalidResultError, "MLCommons' script says 'TEST FAIL', nvkit says 'TEST PASS'"),
        ("print('no such thing')", ExecutionError, "no such thing"),
    ],
)  # fmt: skip
def test_a_script_that_disagrees_or_fails_is_an_error(
    complied,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    body: str,
    error: type[Exception],
    words: str,
) -> None:
    performance = complied.run.path / "compliance" / "Offline" / "TEST01" / "verify_performance.txt"
    if error is InvalidResultError:
        body = body.replace("('verify_accuracy.txt', 'verify_performance.txt')", "('verify_accuracy.txt',)")
        body += f"\n(out / 'verify_performance.txt').write_text({performance.read_text()!r})"
    with pytest.raises(error, match=words):
        comply(complied.config, complied.run, "TEST01", _checkout(tmp_path, body))
    assert comply(complied.config, complied.run).passed  # nvkit verifies again, also for the tests after this one

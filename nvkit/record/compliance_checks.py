"""Whether a compliance test passed, by the logic of MLCommons' run_verification.py, for a machine without it.

What is compared and the tolerances are those of compliance/TESTxx/verify_performance.py and verify_accuracy.py of
mlcommons/inference. The text of a check is in the form that the submission checker looks for (a line TEST PASS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nvkit.results.loadgen_log import DetailLog

_WIDTH = {"byte": 1, "float32": 4, "int32": 4, "int64": 8}
_SCORES = {
    "Offline": "result_samples_per_second",
    "Server": "result_completed_samples_per_sec",
    "SingleStream": "early_stopping_latency_ss",
    "MultiStream": "early_stopping_latency_ms",
}
_PERCENTILES = {"SingleStream": 0.9, "MultiStream": 0.99}
_TOLERANCE = {"TEST01": 0.10, "TEST04": 0.10, "TEST05": 0.05}
_SHORT_TOLERANCE = 0.20
_SHORT = {"SingleStream": 200_000, "MultiStream": 1_600_000}
"""Latencies, in ns, up to which run-to-run variation gets the wider tolerance."""


@dataclass(frozen=True)
class Check:
    """One verification.

    Attributes:
        passed: Whether it passed.
        text: What goes into verify_performance.txt or verify_accuracy.txt.
        why: What was found, for people.
    """

    passed: bool
    text: str
    why: str


def verify_performance(test: str, reference: DetailLog, tested: DetailLog) -> Check:
    """Compare the score of a compliance test with that of the performance test.

    TEST01 may be neither faster nor slower, TEST04 not faster, TEST05 not slower than the tolerance allows. TEST04
    judges streams by queries per second, as its script does, so that its wider tolerance holds for all but the
    slowest of them.

    Args:
        test: TEST01, TEST04 or TEST05.
        reference: Log of the performance test.
        tested: Log of the compliance test.
    """
    scenario = reference.scenario
    title = "Verifying performance."
    for name, log in (("Reference", reference), ("Test", tested)):
        if log.get("result_validity") != "VALID":
            return _failed(title, f"{name} results are invalid", f"LoadGen says INVALID of the {name.lower()} run.")
    if tested.scenario != scenario:
        return _failed(title, "Test and reference scenarios do not match", f"{tested.scenario} is not {scenario}.")
    limits = [log.get("effective_target_latency_ns") for log in (reference, tested)]
    if scenario == "Server" and limits[0] != limits[1]:
        return _failed(title, "Server target latency mismatch", f"The limits are {limits[0]} and {limits[1]} ns.")
    percentile = reference.get("effective_target_latency_percentile")
    if scenario in _PERCENTILES and percentile != _PERCENTILES[scenario]:
        return _failed(title, "Test score invalid", f"The rules judge p{100 * _PERCENTILES[scenario]:g}, not this one.")
    expected, found = (float(log.require(_SCORES[scenario])) for log in (reference, tested))
    stream = scenario in _SHORT
    if test == "TEST04" and stream:
        expected, found = 1e9 / expected, 1e9 / found
    tolerance = _SHORT_TOLERANCE if stream and expected <= _SHORT[scenario] else _TOLERANCE[test]
    low, high = expected * (1 - tolerance), expected * (1 + tolerance)
    passed = {
        "TEST01": low < found < high,
        "TEST04": found < high,
        "TEST05": found < high if stream else found > low,
    }[test]
    verdict = "TEST PASS" if passed else "TEST FAIL: Test score invalid"
    text = f"{title}\nreference score = {expected}\ntest score = {found}\n{verdict}\n"
    return Check(
        passed, text, f"{found:,.6g} beside {expected:,.6g}, {found / expected - 1:+.1%}, tolerance {tolerance:.0%}"
    )


def verify_accuracy(reference: Mapping[int, bytes], tested: Sequence[tuple[int, bytes]], dtype: str = "byte") -> Check:
    """Compare the responses that TEST01 logged with those of the accuracy run.

    Args:
        reference: QSL index to response, of the accuracy run.
        tested: QSL index and response of each entry of the compliance test's log; indices may repeat.
        dtype: Type of a response's elements; the first element is compared.
    """
    width = _WIDTH[dtype]
    shared = [(index, response) for index, response in tested if index in reference]
    different = sum(response[:width] != reference[index][:width] for index, response in shared)
    passed = bool(shared) and not different
    facts = {
        "num_acc_log_entries": len(reference),
        "num_perf_log_entries": len(tested),
        "num_perf_log_qsl_idx_match": len(shared),
        "num_perf_log_data_mismatch": different,
        "num_missing_qsl_idxs": len(tested) - len(shared),
    }
    lines = [f"{name} = {value}" for name, value in facts.items()]
    text = "\n".join(["Verifying accuracy.", *lines, "TEST PASS" if passed else "TEST FAIL", ""])
    return Check(
        passed, text, f"{len(shared) - different:,} of {len(tested):,} sampled responses as in the accuracy run"
    )


def _failed(title: str, what: str, why: str) -> Check:
    return Check(False, f"{title}\nTEST FAIL: {what}\n", why)

"""Every way of changing a record is found: by the seal, and, if the forger seals again, by what does not fit."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nvkit
from nvkit import RESULT_MIME
from nvkit.record.keys import keygen
from nvkit.record.seal import seal
from nvkit.record.verify import verify

_SEAL = ("signatures", "files present", "files unchanged", "no file added", "chain of stages")
_OFFLINE = "loadgen/Offline/performance"


def _json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _text(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1)
    assert count, f"{path} has no {pattern}"
    path.write_text(text, encoding="utf-8")


def _another_digit(path: Path, pattern: str) -> None:
    """Change the last digit that a pattern's group holds."""
    text = path.read_text(encoding="utf-8")
    found = re.search(pattern, text)
    assert found, f"{path} has no {pattern}"
    digit = str((int(found[1][-1]) + 5) % 10)
    path.write_text(text[: found.end(1) - 1] + digit + text[found.end(1) :], encoding="utf-8")


def _output(run: Path, notebook: str, mime: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    path = run / notebook
    whole = json.loads(path.read_text(encoding="utf-8"))
    data = [o["data"] for c in whole["cells"] for o in c.get("outputs", ()) if mime in o.get("data", {})]
    return path, whole, data[-1]


def _write(path: Path, notebook: dict[str, Any]) -> None:
    path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def summary_digit(run: Path) -> None:
    _another_digit(run / _OFFLINE / "mlperf_log_summary.txt", r"99\.90 percentile latency \(ns\)\s+: (\d+)")


def detail_digit(run: Path) -> None:
    _another_digit(run / _OFFLINE / "mlperf_log_detail.txt", r'"result_90.00_percentile_latency_ns", "value": (\d+)')


def throughput_in_both_logs(run: Path) -> None:
    value = re.search(r"Samples per second: (.+)", (run / _OFFLINE / "mlperf_log_summary.txt").read_text())
    assert value
    _text(run / _OFFLINE / "mlperf_log_summary.txt", r"Samples per second: .+", "Samples per second: 99999.5")
    _text(
        run / _OFFLINE / "mlperf_log_detail.txt", f'per_second", "value": {value[1]}', 'per_second", "value": 99999.5'
    )


def trace_digit(run: Path) -> None:
    slowest = re.search(r"Max latency \(ns\)\s+: (\d+)", (run / _OFFLINE / "mlperf_log_summary.txt").read_text())
    assert slowest
    path = run / _OFFLINE / "mlperf_log_trace.json"
    path.write_text(path.read_text().replace(f'"complete_ns":{slowest[1]}', f'"complete_ns":{slowest[1][:-1]}'))


def published_result(run: Path) -> None:
    path, notebook, data = _output(run, "60_report.ipynb", RESULT_MIME)
    data[RESULT_MIME]["tests"][0]["summary"]["metric"]["value"] *= 2
    _write(path, notebook)


def table_in_a_notebook(run: Path) -> None:
    path, notebook, data = _output(run, "60_report.ipynb", "text/html")
    first = next(c for c in notebook["cells"] if c["id"] == "60-05")["outputs"][0]["data"]
    html = "".join(first["text/html"])
    first["text/html"] = html.replace("throughput", "througput", 1)
    assert first["text/html"] != html
    assert data
    _write(path, notebook)


def parameter(run: Path) -> None:
    _json(run / "config.json", lambda c: c["scenarios"]["Offline"].update(batch_size=99))


def quick_run_as_a_full_one(run: Path) -> None:
    _json(run / "config.json", lambda config: config.update(quick=False))


def injected_parameter(run: Path) -> None:
    _text(run / "50_run.ipynb", r'round = \\"v4.1\\"', r'round = \\"v3.0\\"')


def code_in_the_injected_cell(run: Path) -> None:
    _text(run / "50_run.ipynb", r'"quick = True\\n"', r'"quick = True\\n", "import os\\n"')


def swapped_plots(run: Path) -> None:
    plots = run / "plots"
    (plots / "Offline-progress.png").rename(plots / "x.png")
    (plots / "latency-percentiles.png").rename(plots / "Offline-progress.png")
    (plots / "x.png").rename(plots / "latency-percentiles.png")


def swapped_picture(run: Path) -> None:
    path, notebook, data = _output(run, "60_report.ipynb", "image/png")
    data["image/png"] = base64.b64encode((run / "plots" / "Offline-progress.png").read_bytes()).decode()
    _write(path, notebook)


def added_file(run: Path) -> None:
    (run / _OFFLINE / "audit.config").write_text("*.*.min_duration = 1\n")


def removed_notebook(run: Path) -> None:
    (run / "40_build.ipynb").unlink()


def _cells(run: Path, change: Callable[[list[Any]], None]) -> None:
    path = run / "60_report.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook["cells"])
    _write(path, notebook)


def reordered_cell(run: Path) -> None:
    _cells(run, lambda cells: cells.insert(5, cells.pop(7)))


def changed_cell(run: Path) -> None:
    _text(run / "60_report.ipynb", r'"result\.checks\(\)"', '"result.checks() and None"')


def repeated_execution(run: Path) -> None:
    _cells(run, lambda cells: cells[-1].update(execution_count=99))


def hidden_failure(run: Path) -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    _cells(run, lambda cells: cells[-2]["outputs"].append(error))


def result_of_a_stage(run: Path) -> None:
    for name in ("run", "report"):
        _json(run / "stages" / f"{name}.json", lambda s: s["tests"][0]["summary"]["percentiles_ns"].update(p50=1))


def departures_left_out(run: Path) -> None:
    for name in ("run", "report"):
        _json(run / "stages" / f"{name}.json", lambda s: s["tests"][0]["summary"].update(departures=[]))


def comparison_with_published(run: Path) -> None:
    _json(run / "stages" / "report.json", lambda s: s["comparisons"][0]["published"].update(value=1.0))


def response(run: Path) -> None:
    _text(run / "loadgen/Offline/accuracy/mlperf_log_accuracy.json", r'"data" : "[0-9A-F]{8}"', '"data" : "01000000X"')


def right_responses(run: Path) -> None:
    """Every response becomes the label."""
    labels = json.loads((run / "stages" / "setup.json").read_text())["data"]["labels"]
    path = run / "loadgen/Offline/accuracy/mlperf_log_accuracy.json"

    def right(found: re.Match[str]) -> str:
        return f"{found[1]}{labels[int(found[2])].to_bytes(4, 'little').hex().upper()}"

    text = re.sub(r'("qsl_idx" ?: ?(\d+), "data" ?: ?")[0-9A-F]+', right, path.read_text())
    assert text != path.read_text()
    path.write_text(text)


def accuracy_line(run: Path) -> None:
    (run / "loadgen/Offline/accuracy/accuracy.txt").write_text("accuracy=76.457%, good=38228, total=50000\n")


def brand_left_out(run: Path) -> None:
    for path in sorted((run / "stages").glob("*.json")):
        path.write_text(path.read_text().replace("synthetic weights: speed is that of the architecture", "weights"))


def logged_error(run: Path) -> None:
    path = run / _OFFLINE / "mlperf_log_detail.txt"
    lines = path.read_text().splitlines(keepends=True)
    lines[-2] = lines[-2].replace('"is_error": false', '"is_error": true')
    path.write_text("".join(lines))


def other_seed(run: Path) -> None:
    for name in ("summary", "detail"):
        path = run / _OFFLINE / f"mlperf_log_{name}.txt"
        path.write_text(path.read_text().replace("3066443479025735752", "3066443479025735753"))


def machine(run: Path) -> None:
    _json(run / "record" / "system.json", lambda s: s.update(accelerator_model_name="NVIDIA H100"))


def package(run: Path) -> None:
    _json(run / "record" / "packages.json", lambda p: p["mlcommons-loadgen"].update(version="4.1"))


def model_digest(run: Path) -> None:
    rows = json.loads((run / "record" / "artefacts.json").read_text())
    next(row for row in rows if row["what"] == "model")["sha256"] = "0" * 64
    (run / "record" / "artefacts.json").write_text(json.dumps(rows))


def code_of_the_run(run: Path) -> None:
    _json(run / "record" / "code.json", lambda c: c.update(code="0" * 64))


TAMPERINGS: list[tuple[Callable[[Path], None], str, str, str]] = [
    # what, what the seal says of it, the check that finds it when the forger seals again, what that says
    (summary_digit, "performance/mlperf_log_summary.txt", "LoadGen logs", "99.90 percentile latency"),
    (detail_digit, "performance/mlperf_log_detail.txt", "latencies", "result_90.00_percentile_latency_ns"),
    (throughput_in_both_logs, "mlperf_log_detail.txt", "latencies", "result_samples_per_second is 99999.5"),
    (trace_digit, "mlperf_log_trace.json", "latencies", "result_max_latency_ns"),
    (published_result, "60_report.ipynb", "notebook results", "60_report.ipynb"),
    (table_in_a_notebook, "60_report.ipynb", "notebook tables", "table 'Results'"),
    (parameter, "config.json", "parameters", "Offline.batch_size is 99"),
    (quick_run_as_a_full_one, "config.json", "claims", "says 'quick run"),
    (quick_run_as_a_full_one, "config.json", "rules of the round", "min_duration is 300 ms"),
    (injected_parameter, "50_run.ipynb", "notebook parameters", "round is 'v3.0', in config.json 'v4.1'"),
    (code_in_the_injected_cell, "50_run.ipynb", "notebook parameters", "the injected cell holds code"),
    (swapped_plots, "plots/latency-percentiles.png", "plots", "plots/latency-percentiles.png is not of these logs"),
    (swapped_picture, "60_report.ipynb", "notebook pictures", "60_report.ipynb: picture"),
    (added_file, f"{_OFFLINE}/audit.config", "audit.config", "audit.config is there"),
    (removed_notebook, "40_build.ipynb", "notebook execution", "40_build.ipynb is missing"),
    (reordered_cell, "60_report.ipynb", "notebook code", "60_report.ipynb: cell 5"),
    (changed_cell, "60_report.ipynb", "notebook code", "60_report.ipynb: cell 8"),
    (repeated_execution, "60_report.ipynb", "notebook execution", "not every cell was executed, in order"),
    (hidden_failure, "60_report.ipynb", "notebook execution", "a cell failed"),
    (result_of_a_stage, "stages/run.json", "results", "percentiles_ns"),
    (departures_left_out, "stages/run.json", "rules of the round", "The report does not say so"),
    (comparison_with_published, "stages/report.json", "comparison", "stages/report.json"),
    (response, "mlperf_log_accuracy.json", "accuracy", "cut off or damaged"),
    (right_responses, "mlperf_log_accuracy.json", "accuracy", "the log gives 100"),
    (accuracy_line, "accuracy/accuracy.txt", "accuracy", "accuracy.txt is not what the report says"),
    (brand_left_out, "stages/report.json", "claims", "does not say 'synthetic weights'"),
    (logged_error, "mlperf_log_detail.txt", "LoadGen errors", "loadgen/Offline/performance"),
    (other_seed, "mlperf_log_detail.txt", "rules of the round", "qsl_rng_seed is 3066443479025735753"),
    (other_seed, "mlperf_log_detail.txt", "LoadGen settings", "qsl_rng_seed"),
    (machine, "record/system.json", "system", "NVIDIA H100"),
    (package, "record/packages.json", "LoadGen version", "4.1 was installed"),
    (model_digest, "record/artefacts.json", "artefacts", "the model's digest"),
    (code_of_the_run, "record/code.json", "stage keys", "stage setup"),
]


@pytest.mark.parametrize(("tamper", "file", "check", "said"), TAMPERINGS, ids=[f"{t[0].__name__}" for t in TAMPERINGS])
def test_a_tampering_is_found(
    tamper: Callable[[Path], None], file: str, check: str, said: str, copy: Path, made: Any
) -> None:
    tamper(copy)
    failed = verify(copy, [made.key], only=_SEAL).failed
    assert failed
    assert file in " ".join(finding.detail for finding in failed)

    seal(copy, keep_names=True)  # the forger makes a manifest of his own
    verification = verify(copy, only=[*_SEAL[1:], check])
    assert [finding.check for finding in verification.failed] == [check]
    assert said in verification.failed[0].detail


def _only(copy: Path, made: Any, check: str) -> str:
    (finding,) = verify(copy, [made.key], only=[check]).findings
    assert finding.status == "FAIL"
    return finding.detail


def test_a_manifest_in_place_of_a_signed_record_is_found(copy: Path, made: Any) -> None:
    seal(copy, keep_names=True)
    assert "integrity only: nobody has signed" in _only(copy, made, "signatures")


def test_a_seal_by_somebody_else_is_found(copy: Path, made: Any, tmp_path: Path) -> None:
    private, _ = keygen(tmp_path / "forger.pem")
    seal(copy, private, keep_names=True)
    assert "it has not signed" in _only(copy, made, "signatures")


def test_a_forged_signature_is_found(copy: Path, made: Any, tmp_path: Path) -> None:
    original = json.loads((copy / "seal.dsse.json").read_text())
    private, _ = keygen(tmp_path / "forger.pem")
    seal(copy, private, keep_names=True)
    name = original["signatures"][0]["keyid"]
    _json(copy / "seal.dsse.json", lambda e: e["signatures"][0].update(keyid=name))
    assert "its signature is forged" in _only(copy, made, "signatures")


def test_a_signature_of_another_statement_is_found(copy: Path, made: Any) -> None:
    _text(copy / "provenance.json", r'"startedOn": "2', '"startedOn": "1')
    assert "signs something else than provenance.json" in _only(copy, made, "signatures")
    assert "startedOn" in _only(copy, made, "provenance")


def test_a_broken_chain_of_stages_is_found(copy: Path, made: Any) -> None:
    def unlink(statement: Any) -> None:
        statement["predicate"]["buildDefinition"]["internalParameters"]["stages"][3]["previous"] = "0" * 64

    _json(copy / "provenance.json", unlink)
    assert "stage build: previous not as sealed" in _only(copy, made, "chain of stages")


def test_another_runs_logs_are_found(copy: Path, made: Any, small_run: nvkit.RunFolder) -> None:
    shutil.rmtree(copy / _OFFLINE)
    shutil.copytree(small_run.path / _OFFLINE, copy / _OFFLINE)
    assert _OFFLINE in _only(copy, made, "files unchanged")
    seal(copy, keep_names=True)
    found = {finding.check: finding.detail for finding in verify(copy, only=["LoadGen logs", "results"]).failed}
    assert "the log is of" in found["LoadGen logs"]
    assert "run-Offline-performance" in found["results"]


def test_a_file_that_is_no_longer_json_fails_its_checks_and_no_others(copy: Path, made: Any) -> None:
    (copy / "record" / "packages.json").write_text("{")
    failed = verify(copy, [made.key], only=["system", "LoadGen version", "validity"]).failed
    assert {finding.check for finding in failed} == {"system", "LoadGen version"}
    assert "cannot be checked" in failed[0].detail

"""Writes the tree of a submission from runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nvkit.errors import InputError
from nvkit.record.capture import DIFF, FOLDER
from nvkit.record.code import tree_of
from nvkit.record.compliance import ACCURACY, PERFORMANCE
from nvkit.record.mlcommons import Checkout
from nvkit.record.submission_layout import Layout
from nvkit.record.submission_rules import Entry, compliance_tests
from nvkit.record.submission_text import calibration_text, command, measurements, mlperf_conf, readme
from nvkit.results.loadgen_log import DETAIL_FILE, SUMMARY_FILE
from nvkit.results.raw_log import ACCURACY_FILE
from nvkit.store import write_json, write_text

_KEPT = 4096
_LEFT_OUT = b"\n\n...\n\n"
_CODE = ("nvkit", "parameters", "notebooks")
_SCORES = ("baseline_accuracy.txt", "compliance_accuracy.txt")


def system_id(description: Mapping[str, Any], framework: str) -> str:
    """Return a name for a system's files and folders: letters, digits and underscores."""
    names = {"onnxruntime": "ORT", "tensorrt": "TRT"}
    return re.sub(r"[^A-Za-z0-9.]+", "_", f"{description['system_name']} {names.get(framework, framework)}").strip("_.")


def write_systems(layout: Layout, descriptions: Mapping[str, Mapping[str, Any]]) -> None:
    """Write systems/<system>.json of each system."""
    for name, description in descriptions.items():
        write_json(layout.root / "systems" / f"{name}.json", description)


def write_entry(layout: Layout, system: str, entry: Entry, checkout: Checkout | None, brand: Sequence[str]) -> None:
    """Write results, measurements and compliance tests of one benchmark."""
    implementation = f"nvkit-{entry.run.backend}"
    for scenario in entry.scenarios:
        results = layout.results(system, entry.benchmark, scenario)
        tests = {part: entry.run.path / entry.run.tests[scenario, part].logs for part in ("performance", "accuracy")}
        _copy(tests["performance"], results / "performance" / "run_1", (DETAIL_FILE, SUMMARY_FILE))
        _copy(tests["accuracy"], results / "accuracy", (DETAIL_FILE, SUMMARY_FILE, ACCURACY_FILE, "accuracy.txt"))
        truncate(results / "accuracy")
        folder = layout.measurements(system, entry.benchmark, scenario)
        _copy(tests["performance"], folder, ("user.conf",))
        write_json(
            folder / layout.measurements_file(system, implementation, scenario), measurements(entry.run, scenario)
        )
        write_text(folder / "README.md", readme(entry.run, scenario, brand))
        if layout.needs_mlperf_conf:
            write_text(folder / "mlperf.conf", _mlperf_conf(layout.round, entry.benchmark, checkout))
        for test, verified in compliance_tests(entry.run, scenario).items():
            _compliance(entry.run.path / verified.logs, layout.compliance(system, entry.benchmark, scenario, test))
    lines = [f"# {entry.benchmark}, {implementation}", "", "The source is in ../../nvkit. It is run by", ""]
    text = "\n".join([*lines, f"    {command(entry.run)}", ""])
    write_text(layout.code / entry.benchmark / implementation / "README.md", text)


def write_documentation(layout: Layout, entries: Sequence[Entry], brand: Sequence[str]) -> None:
    """Write documentation/calibration.md."""
    text = calibration_text([entry.run for entry in entries], brand)
    write_text(layout.root / "documentation" / "calibration.md", text)


def write_code(layout: Layout, entries: Sequence[Entry]) -> str:
    """Write the source of the nvkit that made the runs; return where it is from, or why it is not there."""
    said = []
    for number, entry in enumerate(entries):
        facts = entry.run.record["code"]
        if any(facts == other.run.record["code"] for other in entries[:number]):
            continue
        target = layout.code / "nvkit" if number == 0 else layout.code / f"nvkit-{number + 1}"
        with TemporaryDirectory(prefix="nvkit-") as empty:
            tree, origin = tree_of(facts, entry.run.path / FOLDER / DIFF, Path(empty))
            if tree is None:
                raise InputError(
                    f"The code that made {entry.run.name} cannot be had: {origin}.",
                    "Submit with the nvkit that ran it.",
                )
            for part in _CODE:
                shutil.copytree(tree / part, target / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        said.append(f"{target.name}: {origin}")
    return "; ".join(said)


def truncate(folder: Path) -> str:
    """Shorten an accuracy log to its two ends and add the digest of the whole to accuracy.txt; return the digest.

    The form is that of MLCommons' truncate_accuracy_log.py. A log of less than 4096 bytes stays as it is.
    """
    log, score = folder / ACCURACY_FILE, folder / "accuracy.txt"
    whole = log.read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    said = score.read_text(encoding="utf-8").rstrip("\n") + "\n" if score.exists() else ""
    write_text(score, f"{said}hash={digest}\n")
    if len(whole) >= _KEPT:
        log.write_bytes(whole[:_KEPT] + _LEFT_OUT + whole[-_KEPT:])
    return digest


def _compliance(logs: Path, folder: Path) -> None:
    _copy(logs, folder / "performance" / "run_1", (DETAIL_FILE, SUMMARY_FILE))
    _copy(logs, folder, (PERFORMANCE,))
    if (logs / ACCURACY).exists():
        _copy(logs, folder, (ACCURACY,))
        scores = tuple(name for name in _SCORES if (logs / name).exists())
        _copy(logs, folder / "accuracy", (ACCURACY_FILE, *scores))
        truncate(folder / "accuracy")


def _mlperf_conf(round: str, benchmark: str, checkout: Checkout | None) -> str:
    if checkout is None:
        return mlperf_conf(round, benchmark)
    return (checkout.path / checkout.find("mlperf.conf", "loadgen/mlperf.conf")).read_text(encoding="utf-8")


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    os.makedirs(target, exist_ok=True)
    for name in names:
        if not (source / name).is_file():
            raise InputError(
                f"There is no {source / name}.", "The record is not whole: 'nvkit verify' says what lacks."
            )
        shutil.copyfile(source / name, target / name)

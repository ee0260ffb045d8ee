"""The auditor's report as an executed notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

from nvkit.notebooks import execute, notebooks_folder


def _report(record: Path, key: Path, folder: Path) -> str:
    executed = folder / "verified.ipynb"
    execute(notebooks_folder() / "80_verify.ipynb", executed, {"record": str(record), "keys": [str(key)]}, cwd=folder)
    cells = nbformat.read(executed, as_version=4).cells
    return "\n".join(
        output.data["text/plain"] for cell in cells for output in cell.get("outputs", []) if "data" in output
    )


def test_the_notebook_renders_the_report_of_a_good_and_of_a_changed_record(
    made: Any, copy: Path, tmp_path: Path
) -> None:
    good = _report(copy, made.key, tmp_path)
    assert "Work performed" in good
    assert "FAIL" not in good
    summary = copy / "loadgen" / "Offline" / "performance" / "mlperf_log_summary.txt"
    summary.write_text(summary.read_text().replace("1", "2", 1))
    assert "FAIL" in _report(copy, made.key, tmp_path)

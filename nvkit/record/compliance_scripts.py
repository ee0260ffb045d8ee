"""MLCommons' own verification of a compliance test, beside nvkit's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nvkit.errors import ExecutionError, InvalidResultError
from nvkit.record.compliance_checks import Check
from nvkit.record.mlcommons import Checkout
from nvkit.results.loadgen_log import DETAIL_FILE, SUMMARY_FILE
from nvkit.results.raw_log import ACCURACY_FILE
from nvkit.store import write_text


def by_script(
    checkout: Checkout,
    script: str,
    test: str,
    reference: Path,
    logs: Path,
    dtype: str,
    ours: Mapping[str, Check],
) -> dict[str, Check]:
    """Run run_verification.py and return its verdicts, texts and all, in place of nvkit's.

    Args:
        checkout: The checkout.
        script: Path of run_verification.py in it.
        test: TEST01, TEST04 or TEST05.
        reference: Folder that holds the logs of performance/ and accuracy/.
        logs: Folder of the compliance test.
        dtype: Type of a response's elements.
        ours: File name to nvkit's own verdict.

    Raises:
        ExecutionError: the script left no verdict.
        InvalidResultError: a verdict is not nvkit's.
    """
    with checkout.desk() as desk:
        (desk / "results").mkdir()
        (desk / "results" / "accuracy").symlink_to(reference / "accuracy")
        _lay_out(reference / "performance", desk / "results" / "performance" / "run_1")
        _lay_out(logs, desk / "logs")
        arguments = ["-r", "results", "-c", "logs", "-o", "out"]
        said = checkout.run(desk, script, [*arguments, *(["--dtype", dtype] if test == "TEST01" else [])])
        found: dict[str, Check] = {}
        for name, own in ours.items():
            written = desk / "out" / test / name
            if not written.is_file():
                last = said.output.strip().splitlines()[-1:]
                raise ExecutionError(f"{script} wrote no {name}: {' '.join(last)}", "Run it by hand to see why.")
            text = written.read_text(encoding="utf-8")
            passed = "TEST PASS" in text
            if passed != own.passed:
                raise InvalidResultError(
                    f"{test}: MLCommons' script says {_last(text)!r}, nvkit says {_last(own.text)!r}.",
                    "Is the checkout of the round's tag? Otherwise this is a defect of nvkit: report it.",
                )
            found[name] = replace(own, text=text)
        return found


def _lay_out(logs: Path, folder: Path) -> None:
    """Lay out the logs of a test for a script, the summary in the words of the LoadGen that the script was written for.

    LoadGen 6 writes "90.0th percentile estimate"; the scripts up to v4.1 look for "90th" and would find no score.
    """
    folder.mkdir(parents=True)
    for name in (DETAIL_FILE, ACCURACY_FILE):
        if (logs / name).exists():
            (folder / name).symlink_to(logs / name)
    summary = (logs / SUMMARY_FILE).read_text(encoding="utf-8")
    write_text(folder / SUMMARY_FILE, re.sub(r"(\d+)\.0th percentile estimate", r"\1th percentile estimate", summary))


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""

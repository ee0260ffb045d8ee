"""Reads the accuracy.txt that NVIDIA's harness writes: the output of MLCommons' accuracy script."""

from __future__ import annotations

import re
from pathlib import Path

from nvkit.benchmarks.base import Accuracy
from nvkit.errors import HarnessError

FILE = "accuracy.txt"
_NUMBER = r"([\d.]+(?:[eE][-+]?\d+)?)"
_LINES = {
    "acc": rf"accuracy={_NUMBER}%",
    "mAP": rf"mAP={_NUMBER}",
    "F1": rf"\{{[\"']exact_match[\"']: [\d.]+, [\"']f1[\"']: {_NUMBER}",
    "DICE": rf"Accuracy:\s*mean\s*=\s*{_NUMBER}",
    "AUC": rf"AUC={_NUMBER}",
    "WER": rf"Word Error Rate:.*, accuracy={_NUMBER}%",
}
"""Metric of the rules to what its script prints at the start of a line; the group is in the unit of the target.

As the submission checker reads them; for WER the target is on the share of words that are right.
"""


def read_score(folder: Path, metric: str, samples: int) -> Accuracy:
    """Read the score of an accuracy run.

    Args:
        folder: Where accuracy.txt lies.
        metric: Name of the metric in the round's rules.
        samples: Samples of the run, for a script that does not print them.

    Raises:
        HarnessError: there is no accuracy.txt, or no line of this metric in it.
    """
    path = folder / FILE
    if not path.is_file():
        raise HarnessError(
            f"The accuracy run left no {FILE} in {folder}: the responses were logged but not scored.",
            "See console.txt beside it for what MLCommons' accuracy script said, mend that and run again.",
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"^{_LINES[metric]}.*$", text, re.MULTILINE)
    if not found:
        words = " ".join(text.split())[-200:] or "it is empty"
        raise HarnessError(f"{path} has no line of the metric {metric}: {words}.", "See console.txt beside it.")
    line = found[0].strip()
    total = re.search(r"\b(?:queries|total)=(\d+)", line)
    queries = re.search(r"\bqueries=(\d+)", line)
    count = int((queries or total)[1]) if (queries or total) else samples  # type: ignore[index]
    return Accuracy(metric, float(found[1]), count, line)

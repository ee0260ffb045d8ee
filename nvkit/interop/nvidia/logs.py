"""Finds the LoadGen logs that NVIDIA's harness has just written and copies them into the run folder.

The releases put them into <log_dir>/<system>/<benchmark>/<scenario>/, audits below build/compliance_logs/. Whatever the
layout, a test is a folder with a detail log, and only one that this very command wrote is taken: its code exits with
0 also when it ran nothing, and then the logs of an earlier run still lie there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from nvkit.errors import HarnessError, LogError, disk_errors
from nvkit.harness.settings import LOADGEN_MODES
from nvkit.results.loadgen_log import DETAIL_FILE, DetailLog, read_detail
from nvkit.store import duration

State = Mapping[Path, tuple[int, int]]
"""File to the time of its last change (ns) and its size."""


def state(folder: Path, pattern: str = "*") -> State:
    """Return the files below a folder whose names match, as they are now."""
    found = {}
    for path in folder.rglob(pattern) if folder.is_dir() else ():
        if path.is_file():
            facts = path.stat()
            found[path] = (facts.st_mtime_ns, facts.st_size)
    return found


def changed(folder: Path, before: State, pattern: str = "*") -> list[Path]:
    """Return the files that are new or different since `before`, sorted.

    Clocks are not compared: that of a container or of a file server may differ from this machine's.
    """
    return sorted(path for path, facts in state(folder, pattern).items() if before.get(path) != facts)


def collect(log_dir: Path, before: State, scenario: str, mode: str, target: Path) -> DetailLog:
    """Copy the logs of the test that was written below `log_dir` since `before`.

    Args:
        log_dir: Where the command was told to write.
        before: `state(log_dir)` from before the command.
        scenario: LoadGen's name of the scenario that was asked for.
        mode: "performance", "accuracy" or "submission"; an audit test is a performance test to LoadGen.
        target: Existing folder that the files are copied into.

    Returns:
        The detail log, complete.

    Raises:
        HarnessError: no log, an old one, a cut off one, that of another test, or more than one.
        DiskFullError: no space for the copy.
    """
    new = changed(log_dir, before)
    details = [path for path in new if path.name == DETAIL_FILE]
    if not details:
        raise HarnessError(
            f"The command ended, but it wrote no LoadGen log below {log_dir}.{_stale(before)}",
            f"{target / 'console.txt'} has what it said.",
        )
    try:
        logs = {path: read_detail(path) for path in details}
    except LogError as error:
        raise HarnessError(error.what, f"The test was cut off; {target / 'console.txt'} has what was said.") from None
    wanted = (scenario, LOADGEN_MODES.get(mode, "PerformanceOnly"))
    right = [path for path, log in logs.items() if (log.scenario, log.mode) == wanted]
    if not right:
        found = ", ".join(f"{log.scenario} {log.mode} ({path.parent})" for path, log in logs.items())
        raise HarnessError(
            f"The new logs are not of {' '.join(wanted)} but of {found}.",
            f"{target / 'console.txt'} has what was run.",
        )
    if len(right) > 1:
        raise HarnessError(
            f"{len(right)} new tests of {' '.join(wanted)} lie below {log_dir}: {', '.join(map(str, right))}.",
            "Another run writes to the same place: wait until it has ended, then run again.",
        )
    with disk_errors(target):
        for path in new:  # an accuracy.txt of an earlier run beside them stays where it is
            if path.parent == right[0].parent:
                shutil.copy2(path, target / path.name)
    return logs[right[0]]


def _stale(before: State) -> str:
    times = [facts[0] for path, facts in before.items() if path.name == DETAIL_FILE]
    if not times:
        return ""
    age = duration(max(0.0, time.time() - max(times) / 1e9))
    return f" {len(times)} of earlier runs lie there, the newest {age} old; they are not taken."

"""Reads LoadGen's detail and summary logs (LoadGen 1.0 and later, so every round from v2.1 on)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nvkit.errors import LogError
from nvkit.results.raw_log import RUN_AGAIN, RawLatencies, locate, read_accuracy, read_trace

__all__ = ["DetailLog", "Entry", "RawLatencies", "read_accuracy", "read_detail", "read_summary", "read_trace"]

DETAIL_FILE = "mlperf_log_detail.txt"
SUMMARY_FILE = "mlperf_log_summary.txt"

_PREFIX = ":::MLLOG "
# LoadGen does not escape the strings of its messages and prints bare nan and inf, so a complete line need not
# be JSON; its fixed order of fields still tells the value from what follows it.
_UNESCAPED = re.compile(
    r'\{"key": "(?P<key>[^"]+)", "value": (?P<value>.*), "time_ms": (?P<time>[\d.]+), "namespace": .*'
    r'"is_error": (?P<error>true|false), "is_warning": (?P<warning>true|false).*\}\}'
)
_BARE_NUMBERS = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


@dataclass(frozen=True)
class Entry:
    """One line of a detail log.

    Attributes:
        key: LoadGen's name of the value, e.g. "result_validity".
        value: Number, string, boolean, list or dictionary.
        time_ms: Milliseconds since the start of the test at which it was logged.
        line: Line number in the file, from 1.
        is_error: Whether LoadGen logged it as an error.
        is_warning: Whether LoadGen logged it as a warning.
    """

    key: str
    value: Any
    time_ms: float
    line: int
    is_error: bool
    is_warning: bool


class DetailLog:
    """A complete mlperf_log_detail.txt.

    Args:
        path: The file, for messages.
        entries: Its lines in order.
    """

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        self.path = path
        self.entries = entries
        self._last = {entry.key: entry.value for entry in entries}

    def get(self, key: str, default: Any = None) -> Any:
        """Return the last value logged under a key, or `default`."""
        return self._last.get(key, default)

    def require(self, key: str) -> Any:
        """Return the last value logged under a key.

        Raises:
            LogError: the log has no such key.
        """
        if key not in self._last:
            raise LogError(
                f"{self.path} has no '{key}' (LoadGen {self.loadgen_version}, {self.scenario}, {self.mode}).",
                "Check that the log is of this scenario and of a performance run.",
            )
        return self._last[key]

    def all(self, key: str) -> list[Any]:
        """Return every value logged under a key, in order."""
        return [entry.value for entry in self.entries if entry.key == key]

    @property
    def errors(self) -> tuple[str, ...]:
        """What LoadGen logged as errors."""
        return tuple(str(entry.value) for entry in self.entries if entry.is_error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What LoadGen logged as warnings."""
        return tuple(str(entry.value) for entry in self.entries if entry.is_warning)

    @property
    def loadgen_version(self) -> str:
        """Version and commit as logged, e.g. "4.1 @ c83565d85d"."""
        return str(self.get("loadgen_version", "unknown"))

    @property
    def scenario(self) -> str:
        """Offline, Server, SingleStream or MultiStream."""
        return str(self.get("effective_scenario", "unknown"))

    @property
    def mode(self) -> str:
        """PerformanceOnly, AccuracyOnly, SubmissionRun or FindPeakPerformance."""
        return str(self.get("effective_test_mode", "unknown"))

    @property
    def has_result(self) -> bool:
        """Whether the test measured performance."""
        return "result_validity" in self._last

    @property
    def sample_count(self) -> int:
        """Samples of the performance test: queries times samples per query."""
        return int(self.require("result_query_count")) * int(self.get("effective_samples_per_query", 1))

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first query to the last completion (to a millisecond), or None if not logged."""
        begin, end = self.get("power_begin"), self.get("power_end")
        return None if begin is None or end is None else (_moment(end) - _moment(begin)).total_seconds()

    @property
    def span(self) -> tuple[float, float]:
        """When the first query was issued and the last completed, seconds since the epoch (to a millisecond).

        An accuracy run, and a submission run, has several parts; these are the ends of all of them together.

        Raises:
            LogError: LoadGen did not log them.
        """
        self.require("power_begin")
        self.require("power_end")
        return _moment(self.all("power_begin")[0]).timestamp(), _moment(self.all("power_end")[-1]).timestamp()


def _moment(text: str) -> datetime:
    """Read a time that LoadGen logged for a power meter; it is in UTC, whatever the machine's time zone."""
    return datetime.strptime(text, "%m-%d-%Y %H:%M:%S.%f").replace(tzinfo=timezone.utc)


def read_detail(folder_or_file: Path) -> DetailLog:
    """Read a detail log.

    Args:
        folder_or_file: The log or the folder that holds it under LoadGen's name.

    Raises:
        LogError: the file is missing, empty, cut off, or not a detail log.
    """
    path = locate(Path(folder_or_file), DETAIL_FILE)
    log = DetailLog(path, tuple(_entries(path)))
    _check_complete(log)
    return log


def read_summary(folder_or_file: Path) -> dict[str, str]:
    """Read the `name : value` lines of a summary log, names and values as LoadGen wrote them.

    An accuracy run's summary holds only how many warnings and errors there were; the dictionary is then empty.

    Raises:
        LogError: the file is missing, empty, cut off, or not a summary.
    """
    path = locate(Path(folder_or_file), SUMMARY_FILE)
    text = path.read_text(encoding="utf-8", errors="replace")
    if "errors encountered" not in text and "error encountered" not in text:
        lines = len(text.splitlines())
        raise LogError(f"{path} ends at line {lines} without LoadGen's count of errors.", RUN_AGAIN)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon and value.strip()}


def _entries(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            if not text.startswith(_PREFIX):
                if number == 1 or not _PREFIX.startswith(text):
                    raise LogError(
                        f"{path}, line {number}: not a line of a LoadGen detail log: {text.strip()[:60]!r}.",
                        f"Give a {DETAIL_FILE} of LoadGen 1.0 or later.",
                    )
                raise LogError(f"{path}, line {number}: the line is cut off.", RUN_AGAIN)
            yield _entry(path, number, text[len(_PREFIX) :].rstrip("\n"))


def _entry(path: Path, number: int, text: str) -> Entry:
    try:
        fields = json.loads(text, strict=False)
        meta = fields["metadata"]
        return Entry(
            fields["key"],
            fields["value"],
            float(fields["time_ms"]),
            number,
            bool(meta["is_error"]),
            bool(meta["is_warning"]),
        )
    except (ValueError, KeyError, TypeError):
        found = _UNESCAPED.fullmatch(text)
    if not found:
        raise LogError(f"{path}, line {number}: the line is cut off or damaged: {text[-60:]!r}.", RUN_AGAIN)
    value = found["value"]
    plain = json.loads(_BARE_NUMBERS[value]) if value in _BARE_NUMBERS else value.strip('"')
    return Entry(
        found["key"], plain, float(found["time"]), number, found["error"] == "true", found["warning"] == "true"
    )


def _check_complete(log: DetailLog) -> None:
    last = log.entries[-1].line if log.entries else 0
    if log.get("effective_test_mode") is None:
        raise LogError(f"{log.path} ends at line {last}, before LoadGen's settings.", RUN_AGAIN)
    if log.mode == "AccuracyOnly":
        total = int(log.get("qsl_reported_total_count", 0))
        loaded = {index for indices in log.all("loaded_qsl_set") for index in indices}
        sets, ends = (len(log.all(key)) for key in ("loaded_qsl_set", "power_end"))
        if len(loaded) < total or ends < sets:
            raise LogError(
                f"{log.path} ends at line {last}, with {len(loaded)} of {total} samples issued"
                f"{' and the last ones not completed' if ends < sets else ''}.",
                RUN_AGAIN,
            )
    elif not log.has_result:
        raise LogError(f"{log.path} ends at line {last} without result_validity.", RUN_AGAIN)

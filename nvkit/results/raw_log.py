"""Reads the per-sample files of LoadGen: the accuracy log and the trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nvkit.errors import LogError

Int64s = npt.NDArray[np.int64]

ACCURACY_FILE = "mlperf_log_accuracy.json"
TRACE_FILE = "mlperf_log_trace.json"

_RESPONSE = re.compile(rb'\{ *"seq_id" *: *\d+, *"qsl_idx" *: *(\d+), *"data" *: *"([0-9A-Fa-f]*)"[^}\n]*\}')
_BEGIN = b'"name":"Sample","cat":"default","ph":"b"'
_SAMPLE = re.compile(
    rb'"name":"Sample","cat":"default","ph":"b","pid":\d+,"id":\d+,"ts":(-?\d+\.\d{3},"args":\{"sample_seq":\d+,'
    rb'"query_seq":\d+,"sample_idx":\d+,"issue_start_ns":-?\d+,"complete_ns":-?\d+)\}'
)
_COLUMNS = 6
# Keeps digits and signs, so that one call of numpy parses all the numbers of a chunk.
_TO_NUMBERS = bytes(c if chr(c) in "0123456789-" else ord(" ") for c in range(256))
_CHUNK = 1 << 25
RUN_AGAIN = "The test was killed or is still running: wait for it, or run it again."


@dataclass(frozen=True)
class RawLatencies:
    """Every sample of a test, in the order of issue; all arrays have shape [samples] and type int64.

    Attributes:
        sample_seq: Sequence number of the sample.
        query_seq: Sequence number of its query.
        sample_idx: Position in the loaded set (not the QSL index).
        scheduled_ns: When the sample was due, from the start of LoadGen's clock.
        issue_delay_ns: How much later than due it was handed to the SUT.
        latency_ns: From due to complete: the latency that LoadGen reports.
    """

    sample_seq: Int64s
    query_seq: Int64s
    sample_idx: Int64s
    scheduled_ns: Int64s
    issue_delay_ns: Int64s
    latency_ns: Int64s

    def last(self, count: int) -> RawLatencies:
        """Return the `count` samples issued last: in a SubmissionRun the performance part follows the accuracy part."""
        arrays = (self.sample_seq, self.query_seq, self.sample_idx, self.scheduled_ns, self.issue_delay_ns)
        return RawLatencies(*(array[-count:] for array in (*arrays, self.latency_ns)))

    @property
    def completed_ns(self) -> Int64s:
        """When each sample was complete, on the same clock as `scheduled_ns`."""
        return self.scheduled_ns + self.latency_ns

    @property
    def query_latency_ns(self) -> Int64s:
        """Latency of each query, shape [queries]: that of its last sample to complete."""
        starts = np.flatnonzero(np.diff(self.query_seq, prepend=self.query_seq[0] - 1))
        return np.maximum.reduceat(self.latency_ns, starts)


def locate(path: Path, name: str) -> Path:
    """Return the log `name` in the folder `path`, or `path` itself if it is a file.

    Raises:
        LogError: there is no such file, or it is empty.
    """
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise LogError(f"There is no LoadGen log {file}.", "Give the folder of one finished LoadGen test.")
    if file.stat().st_size == 0:
        cause = "tracing was off" if name == TRACE_FILE else "the test died before LoadGen wrote to it"
        raise LogError(f"{file} is empty: {cause}.", "Run the test again (with enable_trace for a trace).")
    return file


def read_accuracy(folder_or_file: Path) -> dict[int, bytes]:
    """Read the responses of an accuracy run by QSL index; of a repeated index the first response counts.

    Raises:
        LogError: see `read_responses`.
    """
    responses: dict[int, bytes] = {}
    for index, payload in read_responses(folder_or_file):
        responses.setdefault(index, payload)
    return responses


def read_responses(folder_or_file: Path) -> list[tuple[int, bytes]]:
    """Read all responses of an accuracy log, each with its QSL index, in the order of the log.

    Raises:
        LogError: the file is missing, cut off, truncated for submission, or not an accuracy log.
    """
    path = locate(Path(folder_or_file), ACCURACY_FILE)
    data = path.read_bytes()
    text = data.strip()
    if not text.startswith(b"["):
        raise LogError(f"{path}, line 1: not a LoadGen accuracy log.", f"Give an {ACCURACY_FILE}.")
    if b"\n...\n" in text:
        raise LogError(f"{path} is shortened for submission: its middle is left out.", "Give the full file of the run.")
    found = _RESPONSE.findall(data)
    entries = data.count(b'"qsl_idx"')
    if not text.endswith(b"]") or len(found) != entries:
        lines = data.count(b"\n")
        raise LogError(f"{path} is cut off or damaged; {len(found):,} whole responses, {lines:,} lines.", RUN_AGAIN)
    for index, payload in found:
        if len(payload) % 2:
            raise LogError(f"{path}: the response of sample {int(index)} has half a byte.", RUN_AGAIN)
    return [(int(index), bytes.fromhex(payload.decode())) for index, payload in found]


def read_trace(folder_or_file: Path) -> RawLatencies:
    """Read the latencies of every sample from LoadGen's trace (`LogSettings.enable_trace`).

    Raises:
        LogError: the file is missing, empty (tracing was off), cut off, or not a trace.
    """
    path = locate(Path(folder_or_file), TRACE_FILE)
    parts = []
    with path.open("rb") as stream:
        if not stream.read(64).lstrip().startswith(b'{"traceEvents"'):
            raise LogError(f"{path}, line 1: not a LoadGen trace.", f"Give an {TRACE_FILE}.")
        stream.seek(-min(4096, path.stat().st_size), 2)
        if not re.search(rb'"LastTrace"\}.*\}\s*$', stream.read(), re.DOTALL):
            raise LogError(f"{path} ends before LoadGen's last event.", RUN_AGAIN)
        stream.seek(0)
        for chunk in _whole_lines(stream):
            samples = _SAMPLE.findall(chunk)
            if len(samples) != chunk.count(_BEGIN):
                raise LogError(
                    f"{path}: {chunk.count(_BEGIN) - len(samples)} sample events are not in the known form.",
                    "Use LoadGen 2.1 to 6.x without token latencies.",
                )
            # Timestamps are microseconds with three decimals: without the point they are nanoseconds.
            digits = b" ".join(samples).translate(_TO_NUMBERS, delete=b".")
            parts.append(np.fromstring(digits, dtype=np.int64, sep=" "))
    table = np.concatenate(parts).reshape(-1, _COLUMNS)
    if not len(table):
        raise LogError(f"{path} holds no samples.", "Give the trace of a test that issued queries.")
    table = table[np.argsort(table[:, 1], kind="stable")]
    scheduled, sample_seq, query_seq, sample_idx, issue_delay, latency = np.ascontiguousarray(table.T)
    return RawLatencies(sample_seq, query_seq, sample_idx, scheduled, issue_delay, latency)


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(_CHUNK):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
        rest = data[end:] if end else rest + data
    yield rest

"""Runs one of NVIDIA's commands: live output, all of it on disk, and an error that says what went wrong."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nvkit.errors import DiskFullError, ExecutionError, MissingPackageError, NvkitError, disk_errors
from nvkit.interop.nvidia.commands import Command

_TAIL_LINES = 200
_LINE_BYTES = 16_384
_SHOWN = 3
_SILENT = re.compile(r"did not match any known systems|No registered config for")
"""What every release's code/main.py says when it does nothing and still exits with 0."""
_MISSING = re.compile(r"(?:^|[\s:])(?P<name>[\w./-]+): (?:command not found|not found|No such file or directory)$")
_NOISE = re.compile(r"^\s*$|^make(\[\d+\])?: |^Traceback |^\s+File \"|^\s+[~^]+\s*$")
_INSTALL = {
    "make": "Install it (Debian and Ubuntu: apt install make).",
    "docker": "Install Docker and the NVIDIA Container Toolkit, or run nvkit inside the release's container.",
    "nvidia-docker": "Install Docker and the NVIDIA Container Toolkit, or run nvkit inside the release's container.",
    "nvcc": "Run inside the release's container (--nvidia-command), which has the CUDA toolkit.",
    "cmake": "Run inside the release's container (--nvidia-command), which has it.",
}
_FIXES = (
    (
        r"did not match any known systems|No registered config for",
        "Do setup again (nvkit setup --fresh with the same arguments): it writes what the release lacks.",
    ),
    (r"out of memory|OutOfMemory|CUDA_ERROR_OUT_OF_MEMORY", "Lower --batch-size or --workspace-size."),
    (r"unauthorized|authentication required", "Log in to NVIDIA's registry first: docker login nvcr.io."),
    (r"permission denied.*[Dd]ocker daemon", "Let this user run docker (group docker), then log in again."),
    (r"not a TTY", "This step attaches a terminal to the container: give the line above in a terminal."),
    (r"\.plan does not exist", "Build the engines of these very settings: nvkit build --fresh."),
)


def execute(command: Command, console: Path, failure: type[ExecutionError] = ExecutionError) -> float:
    """Run a command and show its output as it comes; the whole output is appended to `console`.

    An interrupt ends the command and every process that it started before it propagates.

    Args:
        command: What to run, where, and with which environment on top of nvkit's own.
        console: Text file for the output.
        failure: Class of the error of a command that fails.

    Returns:
        Seconds that it took.

    Raises:
        ExecutionError: of class `failure`: the command failed, was killed, or says that it did nothing.
        MissingPackageError: make, docker or another program is not there.
        DiskFullError: the command or nvkit found the disk full.
    """
    started = time.perf_counter()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    silent = ""
    with disk_errors(console):
        console.parent.mkdir(parents=True, exist_ok=True)
        with console.open("ab") as kept, _start(command) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            try:
                kept.write(f"$ {command.line}\n".encode())
                print(f"$ {command.line}", flush=True)
                for line in _lines(child, child.stdout, kept):
                    print(line, flush=True)
                    tail.append(line)
                    silent = silent or (line if _SILENT.search(line) else "")
                code = child.wait()
            except BaseException:
                child.stdin.close()  # the supervisor ends the command's process group
                child.wait()
                raise
    if code == 0 and not silent:
        return time.perf_counter() - started
    raise _failed(command, code, tail, silent, console, failure)


def _start(command: Command) -> subprocess.Popen[bytes]:
    # The supervisor runs as a file: with nvkit's folder on PYTHONPATH, NVIDIA's code would see it too.
    supervisor = Path(__file__).with_name("supervisor.py")
    try:
        return subprocess.Popen(
            [sys.executable, str(supervisor), command.line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=command.cwd,
            env={**os.environ, **command.env},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ExecutionError(f"There is no folder {command.cwd} to run in.", "Check --nvidia-code.") from None


def _lines(child: subprocess.Popen[bytes], output: IO[bytes], kept: IO[bytes]) -> Iterator[str]:
    """Yield complete lines; of a line that redraws itself (a progress bar) only its last state.

    Ends with the command, even if a process that it left in the background holds the pipe open.
    """
    waiting = b""
    while True:
        ready, _, _ = select.select([output], [], [], 0.5)
        if not ready:
            if child.poll() is not None:
                break
            continue
        block = os.read(output.fileno(), 65_536)
        if not block:
            break
        kept.write(block)
        kept.flush()
        *complete, waiting = (waiting + block).split(b"\n")
        for line in complete:
            yield _text(line)
        waiting = waiting[-_LINE_BYTES:]
    if waiting.strip():
        yield _text(waiting)


def _text(line: bytes) -> str:
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    return last[-_LINE_BYTES:].decode("utf-8", errors="replace")


def _failed(
    command: Command, code: int, tail: deque[str], silent: str, console: Path, failure: type[ExecutionError]
) -> NvkitError:
    said = [line.strip() for line in tail if not _NOISE.search(line)][-_SHOWN:]
    text = "\n".join(tail)
    see = f"The whole output is in {console}."
    if "No space left on device" in text:
        return DiskFullError(
            f"{command.what} found the disk full.", f"Free some space and give the command again. {see}"
        )
    missing = [match["name"].rpartition("/")[2] for line in tail if (match := _MISSING.search(line.strip()))]
    if code and (name := next((name for name in missing if name in _INSTALL), "")):
        return MissingPackageError(f"{command.what} needs {name}, which is not there.", f"{_INSTALL[name]} {see}")
    fixes = [fix for pattern, fix in _FIXES if re.search(pattern, text)][:1]
    if not code:
        return failure(f"{command.what} did nothing: {silent.strip()}", " ".join([*fixes, see]))
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    return failure(f"{command.what} {how}: {' | '.join(said) or 'it printed nothing'}", " ".join([*fixes, see]))

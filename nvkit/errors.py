"""Every error that nvkit raises on purpose.

The tree, with the exit code that the command line returns for each branch::

    NvkitError
    +-- InputError                2   something the user gave is wrong
    |   +-- ConfigError               a parameter, name or YAML file
    |   +-- DataError                 a data set, image or sample file
    |   +-- ModelError                an ONNX file
    |   +-- ChecksumError             bytes that are not the expected ones
    |   +-- RangesError               activation ranges or a calibration cache
    |   +-- LogError                  a LoadGen log
    +-- SetupError                3   this machine lacks something
    |   +-- MissingPackageError
    |   +-- BackendUnavailableError   no GPU, driver or library for the backend
    |   +-- DiskFullError
    +-- ExecutionError            4   the work was started and failed
    |   +-- EngineBuildError
    |   +-- HarnessError              the measured child failed, was killed or left no log
    |   +-- NotebookError             a notebook failed or its kernel died
    |   +-- UnfinishedStageError      a result was asked for that is not there yet
    +-- InvalidResultError        5   the run finished, but its result does not count
    +-- VerificationError         6   a record does not hold what it claims

Exit code 0 is success, 1 a defect of nvkit itself (a traceback is shown), 130 an interrupt.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_MANY = 20


class NvkitError(Exception):
    """Base of the tree: what is wrong, with the value, and what to do about it.

    Args:
        what: One or two sentences naming the value that is wrong.
        fix: What the reader should do next.
    """

    exit_code = 4

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} {self.fix}".rstrip()

    def _render_traceback_(self) -> list[str]:
        """Show the message instead of a traceback (IPython calls this in notebooks)."""
        return [f"{type(self).__name__}: {self.what}", *([f"What to do: {self.fix}"] if self.fix else [])]


class InputError(NvkitError):
    """Something the user gave is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """A parameter, a name or a YAML file is wrong."""


class DataError(InputError):
    """A data set, an image or a sample file is wrong."""


class ModelError(InputError):
    """An ONNX file is wrong."""


class ChecksumError(InputError):
    """Bytes are not the expected ones."""


class RangesError(InputError):
    """Activation ranges or a calibration cache are wrong."""


class LogError(InputError):
    """A LoadGen log is missing, incomplete or not one."""


class SetupError(NvkitError):
    """This machine lacks something."""

    exit_code = 3


class MissingPackageError(SetupError):
    """An optional package is not installed."""


class BackendUnavailableError(SetupError):
    """No GPU, driver or library for the backend that was asked for."""


class DiskFullError(SetupError):
    """A file system ran out of space."""


class ExecutionError(NvkitError):
    """The work was started and failed."""

    exit_code = 4


class EngineBuildError(ExecutionError):
    """An engine could not be built or failed its self-check."""


class HarnessError(ExecutionError):
    """The measured child failed, was killed, or left no complete log."""


class NotebookError(ExecutionError):
    """A notebook failed or its kernel died."""


class UnfinishedStageError(ExecutionError):
    """A stage's result was asked for that is not there yet."""


class InvalidResultError(NvkitError):
    """The run finished, but its result does not count."""

    exit_code = 5


class VerificationError(NvkitError):
    """A record does not hold what it claims."""

    exit_code = 6


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence naming the known name nearest to `name`, and all of them unless they are too many to read."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    if len(names) > _MANY:
        return hint.strip() or "'nvkit list' shows what there is."
    return f"{hint}Known: {', '.join(names) or 'none'}."


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an exception means that a file system or quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(where: object) -> Iterator[None]:
    """Turn a full disk inside the block into a `DiskFullError` that names the folder."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"The file system of {error.filename or where} is full; nothing that was finished is lost.",
            "Free some space or choose another place with --outputs, then give the same command again: "
            "it continues with the first unfinished stage.",
        ) from error

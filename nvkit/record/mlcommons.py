"""MLCommons' own scripts, from a checkout of mlcommons/inference that the user points to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nvkit.errors import ConfigError, ExecutionError, MissingPackageError

_TIMEOUT_S = 3600
_LINK = "inference"


@dataclass(frozen=True)
class Said:
    """What a script did.

    Attributes:
        code: Its exit code.
        output: What it printed, both streams.
    """

    code: int
    output: str


class Checkout:
    """A checkout of mlcommons/inference, of the tag of the round.

    Args:
        path: Its folder.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not self.path.is_dir():
            raise ConfigError(
                f"There is no folder {path}.", "Give a checkout of mlcommons/inference, of the tag of the round."
            )

    def find(self, *candidates: str) -> str:
        """Return the first of these files that is in the checkout (paths differ from tag to tag).

        Raises:
            ConfigError: none is.
        """
        for candidate in candidates:
            if (self.path / candidate).is_file():
                return candidate
        raise ConfigError(
            f"{self.path} has no {' or '.join(candidates)}.",
            "Give a checkout of mlcommons/inference, of the tag of the round.",
        )

    @contextmanager
    def desk(self) -> Iterator[Path]:
        """Yield an empty folder in which the checkout is called "inference".

        The scripts build shell commands from their own path and from those that they are given, without quotes: all of
        them are therefore short and relative to this folder.
        """
        with TemporaryDirectory(prefix="nvkit-") as name:
            folder = Path(name)
            (folder / _LINK).symlink_to(self.path, target_is_directory=True)
            yield folder

    def run(self, desk: Path, script: str, arguments: Sequence[str]) -> Said:
        """Run a Python script of the checkout at a desk.

        Raises:
            MissingPackageError: it needs a package that is not installed.
            ExecutionError: it took longer than an hour.
        """
        # The older scripts start "python3": this interpreter, which has what they import, must be the first.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        try:
            done = subprocess.run(
                [sys.executable, f"{_LINK}/{script}", *arguments],
                cwd=desk,
                env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ExecutionError(f"{script} did not end within an hour.", "Run it by hand to see why.") from error
        if "ModuleNotFoundError" in done.stdout:
            missing = done.stdout.rsplit("No module named", 1)[-1].strip().strip("'").splitlines()[0].strip("'")
            raise MissingPackageError(f"{script} needs {missing}.", f"Install it: pip install {missing}.")
        return Said(done.returncode, done.stdout)

"""Published model files: given by path or downloaded, and recognised by their checksum."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import ChecksumError, ModelError, SetupError, is_disk_full
from nvkit.store import Store


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: What the file is called, there or by those who use it.
        url: Where it is.
        md5: Zenodo and MLCommons state no other checksum.
        note: What tells it from others of the same name, e.g. "opset 8".
    """

    name: str
    url: str
    md5: str
    note: str = ""

    @property
    def how_to_get(self) -> str:
        """What a user without the file does."""
        return f"Download it from {self.url} and give its path by --model-path (model_path in a notebook)."


def find_model(settings: Any, wanted: Published, known: Sequence[Published], store: Store) -> tuple[Path, str]:
    """Return the file of `settings.model_path`, or else the downloaded one, and its MD5.

    Args:
        settings: Resolved values.
        wanted: What is downloaded.
        known: All files of MLPerf that the user's file may be.
        store: Where a download is kept.

    Raises:
        ModelError: the user's file is missing.
        ChecksumError: a file that bears a known one's name, or a download, has other bytes.
        SetupError: the download failed.
    """
    if settings.model_path is None:
        return download(wanted, store), wanted.md5
    path = Path(settings.model_path)
    if not path.is_file():
        raise ModelError(f"There is no model file {path}.", wanted.how_to_get)
    md5 = _md5(path)
    same_name = [file for file in known if file.name == path.name]
    if same_name and md5 not in {file.md5 for file in known}:
        expected = " or ".join(f"{file.md5}{f' ({file.note})' if file.note else ''}" for file in same_name)
        raise ChecksumError(
            f"{path} is named as MLPerf's reference file, but its {path.stat().st_size:,} bytes have the MD5 {md5}, "
            f"not {expected}.",
            f"{same_name[0].how_to_get} To use a network of your own, give its file another name.",
        )
    return path, md5


def download(file: Published, store: Store) -> Path:
    """Return a published file in the store, downloading it with a progress bar if it is not there.

    Raises:
        ChecksumError: the bytes that arrived are not the published ones.
        SetupError: the file cannot be had from here.
    """
    import pooch

    def make(folder: Path) -> None:
        pooch.get_logger().setLevel(logging.WARNING)
        try:
            pooch.retrieve(file.url, f"md5:{file.md5}", fname=file.name, path=folder, progressbar=True)
        except ValueError as error:
            raise ChecksumError(
                f"The download of {file.url} does not have the MD5 {file.md5}.", f"Try again. {file.how_to_get}"
            ) from error
        except OSError as error:  # also every error of requests
            if is_disk_full(error):
                raise
            raise SetupError(
                f"{file.url} could not be downloaded ({type(error).__name__}).", file.how_to_get
            ) from error

    artefact = store.get_or_make("models", {"download": file.url, "md5": file.md5}, make)
    return artefact.path / file.name


def _md5(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            md5.update(chunk)
    return md5.hexdigest()

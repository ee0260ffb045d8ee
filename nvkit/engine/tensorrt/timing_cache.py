"""Timing caches: what TensorRT measured of kernels, kept for each GPU and version, so that a further build is short."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from nvkit.engine.tensorrt.flavours import Library
from nvkit.store import replacing

_DIGEST = 32


class TimingCache:
    """The cache file of one GPU and TensorRT version.

    A file is a SHA-256 and TensorRT's bytes, because TensorRT does not promise to notice damage. Builds at the same
    time add to one another: each merges what is there when it saves.

    Args:
        folder: Where the files of all GPUs and versions are.
        library: TensorRT.
        gpu: Name of the GPU and its share, for what is timed on a part of the SMs says nothing of the whole.
    """

    def __init__(self, folder: Path, library: Library, gpu: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu} {library.backend} {library.version}")
        self.path = folder / f"{name}.timing"
        self.notes: list[str] = []
        self._cache: Any = None

    def use(self, config: Any) -> None:
        """Give the config what earlier builds measured."""
        known = self._read()
        self._cache = config.create_timing_cache(known)
        if self._cache is None and known:
            self._set_aside("TensorRT does not take it")
            known = b""
            self._cache = config.create_timing_cache(known)
        if self._cache is not None:
            config.set_timing_cache(self._cache, ignore_mismatch=False)
            self.notes.append(f"timing cache: {len(known):,} bytes of earlier builds" if known else "timing cache: new")

    def save(self, config: Any) -> None:
        """Add what this build measured to the file."""
        if self._cache is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            cache = config.get_timing_cache()
            if others := self._read():
                cache.combine(config.create_timing_cache(others), ignore_mismatch=False)
            content = bytes(cache.serialize())
            with replacing(self.path) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)

    def _read(self) -> bytes:
        try:
            whole = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        if hashlib.sha256(whole[_DIGEST:]).digest() != whole[:_DIGEST]:
            self._set_aside("it is damaged")
            return b""
        return whole[_DIGEST:]

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_suffix(".damaged")
        os.replace(self.path, aside)
        self.notes.append(f"the timing cache was set aside as {aside.name}, {why}; kernels are timed anew")

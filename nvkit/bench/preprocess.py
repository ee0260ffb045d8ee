"""Part "preprocess": nvkit's preprocessing over a plain loop of the same library calls on one core, times the cores."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import nvkit
from nvkit.bench.figures import against_peer, table
from nvkit.benchmarks.base import DataSet, benchmark
from nvkit.benchmarks.threads import single_threaded_opencv
from nvkit.progress import tqdm
from nvkit.store import Store
from nvkit.system import usable_cores
from nvkit.tables import Table

BAR = 0.9
_PAIRS = 3
_IMAGES = 512


def measure(store: Store, repeat: int) -> Table:
    """Compare on generated JPEG files of many sizes, all in the page cache."""
    settings = nvkit.configure("cpu", scenario="Offline", quick=True, overrides={"generated_images": _IMAGES}).shared
    return compare(settings, store, repeat * _PAIRS)


def compare(settings: Any, store: Store, pairs: int) -> Table:
    """Compare on the data set of these settings, `pairs` runs of each in turn."""
    bench = benchmark("resnet50")
    data = bench.dataset(settings, store)
    paths = [data.root / name for name in data.files]
    cores = settings.threads or usable_cores()
    ours, peer = [], []
    plain_loop(paths[: len(paths) // 4])  # reads files and libraries before the clock starts
    with tqdm(total=2 * pairs, desc="bench preprocess", unit="run") as bar:
        for _ in range(pairs):
            peer.append(cores * plain_loop(paths))
            bar.update()
            ours.append(_ours(bench, settings, data))
            bar.update()
    words = (
        f"{len(paths)} generated JPEG files, {settings.input_dtype}, {cores} threads; peer on one core, times {cores}"
    )
    figure = against_peer("preprocessing over a plain loop times cores", "images/s", ours, peer, BAR, words)
    return table("Preprocess: nvkit over the same library calls", [figure])


def plain_loop(paths: Sequence[Path]) -> float:
    """Preprocess each file by the library calls that the reference uses, one after the other; return images/s."""
    means = np.array([123.68, 116.78, 103.94], np.float32)
    rows = np.empty((len(paths), 3, 224, 224), np.float32)
    rows.fill(0)  # the system hands out the memory now, not inside the loop
    with single_threaded_opencv():
        started = time.perf_counter()
        for row, path in zip(rows, paths, strict=True):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
            height, width = image.shape[:2]
            scale = 256 / min(height, width)
            size = (256, int(height * scale)) if height > width else (int(width * scale), 256)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
            crop = np.asarray(image[top : top + 224, left : left + 224], dtype=np.float32)
            row[:] = (crop - means).transpose(2, 0, 1)
        return len(paths) / (time.perf_counter() - started)


def _ours(bench: Any, settings: Any, data: DataSet) -> float:
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
        started = time.perf_counter()
        bench.preprocess(settings, Store(Path(folder)), data)
        return len(data.files) / (time.perf_counter() - started)

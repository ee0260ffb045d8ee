"""The synthetic model: RetinaNet with seeded weights and heads fitted on generated images.

The heads are fitted on the pyramid of the narrowest network that has the whole core (see `weights`). In a wider one
the core is the same, so the heads find the same objects, and building the true size takes no forward pass of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from nvkit.benchmarks.base import Model
from nvkit.benchmarks.convolutions import Parameters
from nvkit.benchmarks.retinanet.annotations import read_annotations
from nvkit.benchmarks.retinanet.fit import fit_heads
from nvkit.benchmarks.retinanet.generate import FIT, generated_folder
from nvkit.benchmarks.retinanet.network import input_specs, output_spec, pyramid_network, retinanet, topology
from nvkit.benchmarks.retinanet.preprocess import preprocess_image
from nvkit.benchmarks.retinanet.tensors import INPUT, SAMPLE_SHAPE, SIDE
from nvkit.benchmarks.retinanet.weights import (
    CORE_WIDTH,
    backbone_weights,
    core_channels,
    head_weights,
    pyramid_weights,
)
from nvkit.benchmarks.retinanet.windows import Annotated
from nvkit.benchmarks.threads import single_threaded_opencv, worker_count
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, replacing

BUILDER_VERSION = 1
"""Changes whenever the same seed and images give another network."""

Levels = list[npt.NDArray[np.float16]]
"""Levels P3 to P7 of one image, [side, side, channels]; hundreds of them are held in memory."""

_FILE = "retinanet_synthetic.onnx"


def synthetic_model(settings: Any, store: Store) -> Model:
    """Build the synthetic model in the store, or find it there."""
    import onnxruntime

    width, count = settings.synthetic_width, settings.generated_fit_images
    images = generated_folder(store, settings.data_seed, {FIT: count}, settings.threads)
    key = {
        "benchmark": "retinanet",
        "builder": BUILDER_VERSION,
        "seed": settings.data_seed,
        "width": width,
        "fit images": images.digest,
        "onnxruntime": onnxruntime.__version__,
    }

    def make(folder: Path) -> None:
        parameters = _parameters(images.path, width, settings.data_seed, settings.threads)
        with replacing(folder / _FILE) as temporary:
            onnx.save_model(retinanet(parameters, width), str(temporary))

    path = store.get_or_make("models", key, make).path / _FILE
    size = "full size" if width == 1.0 else f"{width:g} of the true width"
    return Model(
        path=path,
        digest=file_digest(path),
        synthetic=True,
        description=f"RetinaNet (ResNeXt-50 32x4d, 800 x 800), {size}, seeded weights, heads fitted on {count} "
        "generated images",
        inputs=input_specs(),
        output=output_spec(),
        notes=("synthetic weights: speed is that of the architecture, accuracy says nothing about OpenImages",),
    )


def _parameters(images: Path, width: float, seed: int, threads: int | None) -> Parameters:
    """Fit the heads on the narrow network and return the parameters of the wide one."""
    entries, folder = read_annotations(images / FIT.annotations), images / FIT.folder
    narrow, wide = topology(min(width, CORE_WIDTH)), topology(width)

    known = {**backbone_weights(narrow, seed), **pyramid_weights(narrow, seed)}
    paths = [folder / entry.file_name for entry in entries]
    work = tqdm(
        _run_pyramids(known, min(width, CORE_WIDTH), paths, threads),
        total=len(paths),
        desc="Computing pyramids",
        unit="image",
    )
    annotated = [
        Annotated(levels, entry.corners(SIDE), entry.labels) for levels, entry in zip(work, entries, strict=True)
    ]
    heads = fit_heads(annotated, core_channels(narrow), seed)
    return {
        **backbone_weights(wide, seed),
        **pyramid_weights(wide, seed),
        **head_weights(wide.classification, heads.classification, seed),
        **head_weights(wide.regression, heads.regression, seed),
    }


def _run_pyramids(parameters: Parameters, width: float, paths: Sequence[Path], threads: int | None) -> Iterator[Levels]:
    """Yield the levels of each image, one image on each core."""
    import onnxruntime

    model, names = pyramid_network(parameters, width)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def levels(path: Path) -> Levels:
        sample = np.empty((1, *SAMPLE_SHAPE), np.float32)
        preprocess_image(path, sample[0])
        return [level[0].transpose(1, 2, 0).astype(np.float16) for level in session.run(names, {INPUT: sample})]

    with single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
        yield from pool.map(levels, paths)

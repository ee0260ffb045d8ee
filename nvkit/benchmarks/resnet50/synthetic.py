"""The synthetic model: ResNet-50 v1.5 at full size with seeded weights and a last layer fitted on generated images."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from nvkit.benchmarks.base import Model, TensorSpec
from nvkit.benchmarks.resnet50 import network
from nvkit.benchmarks.resnet50.dataset import read_map
from nvkit.benchmarks.resnet50.fit import fit_last_layer
from nvkit.benchmarks.resnet50.generate import FIT, generated_folder
from nvkit.benchmarks.resnet50.preprocess import preprocess_image
from nvkit.benchmarks.resnet50.tensors import CLASS_OUTPUT, CLASSES, INPUT, SAMPLE_SHAPE
from nvkit.benchmarks.resnet50.weights import seeded_weights
from nvkit.benchmarks.threads import single_threaded_opencv, worker_count
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, replacing, write_json

BUILDER_VERSION = 2
"""Changes whenever the same seed and images give another network."""

_BATCH = 16
_FILE = "resnet50_synthetic.onnx"
Floats = npt.NDArray[np.float32]


def synthetic_model(settings: Any, store: Store) -> Model:
    """Build the synthetic model in the store, or find it there."""
    import onnxruntime

    width = settings.synthetic_width
    images = generated_folder(store, settings.data_seed, {FIT: settings.generated_fit_images}, settings.threads)
    key = {
        "benchmark": "resnet50",
        "builder": BUILDER_VERSION,
        "seed": settings.data_seed,
        "width": width,
        "fit images": images.digest,
        "onnxruntime": onnxruntime.__version__,
    }

    def make(folder: Path) -> None:
        model, left_out = _build(images.path, width, settings.data_seed, settings.threads)
        with replacing(folder / _FILE) as temporary:
            onnx.save_model(model, str(temporary))
        write_json(folder / "fit.json", {"left-out accuracy": left_out})

    path = store.get_or_make("models", key, make).path
    left_out = json.loads((path / "fit.json").read_text(encoding="utf-8"))["left-out accuracy"]
    size = "full size" if width == 1.0 else f"{width:g} of the true width"
    return Model(
        path=path / _FILE,
        digest=file_digest(path / _FILE),
        synthetic=True,
        description=f"ResNet-50 v1.5, {size}, seeded weights, last layer fitted on "
        f"{settings.generated_fit_images} generated images (left-out top-1 {100 * left_out['class']:.1f} %)",
        inputs=(TensorSpec(INPUT, "float32", SAMPLE_SHAPE),),
        output=TensorSpec(CLASS_OUTPUT, "int64", ()),
        notes=("synthetic weights: speed is that of the architecture, accuracy says nothing about ImageNet",),
        background=1,
    )


def _build(images: Path, width: float, seed: int, threads: int | None) -> tuple[onnx.ModelProto, dict[str, float]]:
    entries = read_map(images / FIT.map_name)
    paths = [images / name for name, _ in entries]
    shape = network.topology(width)
    parameters = seeded_weights(shape, _load(paths[:_BATCH], threads), seed)
    nothing = (np.zeros((shape.features, CLASSES), np.float32), np.zeros(CLASSES, np.float32))
    features = _features(network.resnet50(parameters, nothing, width), paths, threads)
    fit = fit_last_layer(features, [label for _, label in entries])
    return network.resnet50(parameters, (fit.kernel, fit.bias), width), fit.left_out


def _load(paths: list[Path], threads: int | None) -> Floats:
    samples = np.empty((len(paths), *SAMPLE_SHAPE), np.float32)
    with single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
        list(pool.map(preprocess_image, paths, samples))
    return samples


def _features(model: onnx.ModelProto, paths: list[Path], threads: int | None) -> Floats:
    """Run the network up to its pooled features, [n, features]."""
    import onnxruntime

    model.graph.output.append(helper.make_tensor_value_info(network.FEATURES, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = worker_count(threads)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = []
    with tqdm(total=len(paths), desc="Fitting the last layer", unit="image") as bar:
        for start in range(0, len(paths), _BATCH):
            batch = _load(paths[start : start + _BATCH], threads)
            parts.append(session.run([network.FEATURES], {INPUT: batch})[0])
            bar.update(len(batch))
    return np.concatenate(parts)

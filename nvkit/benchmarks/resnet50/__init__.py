"""resnet50: ImageNet classification, ResNet-50 v1.5, one response of one int32 class for each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Accuracy, Array, DataSet, Model, SampleSet
from nvkit.benchmarks.resnet50.accuracy import encode_classes, same_class, score_responses
from nvkit.errors import MissingPackageError
from nvkit.store import Store, write_text


class ResNet50:
    """The `Benchmark` of MLPerf's resnet50.

    The parts are imported when they are used, so that a list of benchmarks needs neither OpenCV nor ONNX.
    """

    name = "resnet50"
    response_dtype = "int32"

    def dataset(self, settings: Any, store: Store) -> DataSet:
        """Return the user's ImageNet folder (`settings.data_dir`) or a generated set in its layout.

        Raises:
            DataError: the folder, its map or its files are not as they must be.
        """
        _require_opencv()
        from nvkit.benchmarks.resnet50.dataset import find_dataset

        return find_dataset(settings, store)

    def model(self, settings: Any, store: Store) -> Model:
        """Return the reference file (`settings.model_path` or a download) or the synthetic model.

        Raises:
            ModelError: the file is not a fitting ONNX network.
            ChecksumError: the file is not the one that it says it is.
        """
        if settings.model_path is not None or settings.download_model:
            from nvkit.benchmarks.resnet50.reference import reference_model

            return reference_model(settings, store)
        _require_opencv()
        from nvkit.benchmarks.resnet50.synthetic import synthetic_model

        return synthetic_model(settings, store)

    def preprocess(self, settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
        """Preprocess the images; row i is file i of `without(data, samples.skipped)`.

        Raises:
            DataError: more than `settings.allow_bad_images` files cannot be used.
        """
        _require_opencv()
        from nvkit.benchmarks.resnet50.samples import preprocess_samples

        return preprocess_samples(settings, store, data, calibration=calibration)

    def without(self, data: DataSet, skipped: Iterable[str]) -> DataSet:
        """Return the data set without the files that preprocessing skipped: what `score` must be given."""
        from nvkit.benchmarks.data_files import without

        return without(data, skipped)

    def encode(self, outputs: Array, indices: Sequence[int]) -> Array:
        """Turn class numbers with background into responses of one int32, 0 to 999, shape [n, 1]."""
        return encode_classes(outputs)

    def agree(self, expected: Array, found: Array) -> Array:
        """Tell of each image whether two responses name the same class."""
        return same_class(expected, found)

    def score(self, responses: Mapping[int, bytes], data: DataSet, *, part: bool = False) -> Accuracy:
        """Return top-1 accuracy in percent of the samples in `responses`; file i of `data` has QSL index i."""
        return score_responses(responses, data)

    def reference_command(self, log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
        """Return MLCommons' accuracy-imagenet.py with its arguments, and write the ground truth that it reads."""
        labels = zip(data.files, data.labels, strict=True)
        write_text(work / "val_map.txt", "".join(f"{name} {label}\n" for name, label in labels))
        arguments = ["--mlperf-accuracy-file", str(log), "--imagenet-val-file", str(work / "val_map.txt")]
        script = "vision/classification_and_detection/tools/accuracy-imagenet.py"
        return script, [*arguments, "--dtype", self.response_dtype]


def _require_opencv() -> None:
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"resnet50 reads images with OpenCV, which cannot be imported here: {error}.",
            'Install it: pip install "nvkit[vision]".',
        ) from error


BENCHMARK = ResNet50()

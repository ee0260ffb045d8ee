"""retinanet: object detection on OpenImages, RetinaNet with ResNeXt-50 32x4d, a response of any number of boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Accuracy, Array, DataSet, Model, SampleSet
from nvkit.engine.base import Ragged
from nvkit.errors import MissingPackageError
from nvkit.store import Store


class RetinaNet:
    """The `Benchmark` of MLPerf's retinanet.

    The parts are imported when they are used, so that a list of benchmarks needs neither Pillow nor ONNX.
    """

    name = "retinanet"
    response_dtype = "float32"

    def dataset(self, settings: Any, store: Store) -> DataSet:
        """Return the user's OpenImages folder (`settings.data_dir`) or a generated set in its layout.

        Raises:
            DataError: the folder, its annotations or its images are not as they must be.
        """
        _require_packages()
        from nvkit.benchmarks.retinanet.dataset import find_dataset

        return find_dataset(settings, store)

    def model(self, settings: Any, store: Store) -> Model:
        """Return the reference network (`settings.model_path` or a download) or the synthetic model.

        Raises:
            ModelError: the file is not a fitting ONNX network or PyTorch checkpoint.
            ChecksumError: the file is not the one that it says it is.
        """
        if settings.model_path is not None or settings.download_model:
            from nvkit.benchmarks.retinanet.reference import reference_model

            return reference_model(settings, store)
        _require_packages()
        from nvkit.benchmarks.retinanet.synthetic import synthetic_model

        return synthetic_model(settings, store)

    def preprocess(self, settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
        """Preprocess the images; row i is file i of `without(data, samples.skipped)`.

        Raises:
            DataError: more than `settings.allow_bad_images` files cannot be used.
        """
        _require_packages()
        from nvkit.benchmarks.retinanet.samples import preprocess_samples

        return preprocess_samples(settings, store, data, calibration=calibration)

    def without(self, data: DataSet, skipped: Iterable[str]) -> DataSet:
        """Return the data set without the files that preprocessing skipped: what `score` must be given."""
        from nvkit.benchmarks.data_files import without

        return without(data, skipped)

    def encode(self, outputs: Array, indices: Sequence[int]) -> Ragged:
        """Turn detections into rows of QSL index, ymin, xmin, ymax, xmax, score, label; float32 little-endian."""
        from nvkit.benchmarks.retinanet.responses import encode_detections

        return encode_detections(outputs, indices)

    def agree(self, expected: Ragged, found: Ragged) -> Array:
        """Tell of each sample whether most of the confident detections of both responses are in the other one."""
        from nvkit.benchmarks.retinanet.responses import same_detections

        return same_detections(expected, found)

    def score(self, responses: Mapping[int, bytes], data: DataSet, *, part: bool = False) -> Accuracy:
        """Return mAP in percent over the images in `responses`; file i of `data` has QSL index i."""
        _require_packages()
        from nvkit.benchmarks.retinanet.accuracy import score_responses

        return score_responses(responses, data)

    def reference_command(self, log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
        """Return MLCommons' accuracy-openimages.py with its arguments, and write the annotations that it reads."""
        from nvkit.benchmarks.retinanet.accuracy import reference_command

        return reference_command(log, data, work)


def _require_packages() -> None:
    for package, name in (("cv2", "OpenCV"), ("PIL", "Pillow"), ("pycocotools", "pycocotools")):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingPackageError(
                f"retinanet needs {name}, which cannot be imported here: {error}.",
                'Install it: pip install "nvkit[vision]".',
            ) from error


BENCHMARK = RetinaNet()

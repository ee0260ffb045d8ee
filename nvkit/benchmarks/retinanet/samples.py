"""The preprocessed sample set of retinanet."""

from __future__ import annotations

from typing import Any

import PIL

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.image_samples import Preprocessing, preprocess_images
from nvkit.benchmarks.retinanet.preprocess import PREPROCESSING_VERSION, preprocess_image
from nvkit.benchmarks.retinanet.tensors import INPUT, SAMPLE_SHAPE
from nvkit.store import Store


def preprocess_samples(settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
    """Preprocess the validation or the calibration images of a data set into the store: `images` [n, 3, 800, 800].

    Raises:
        DataError: see `preprocess_images`.
        DiskFullError: there is no room for the samples.
    """
    identity = {"benchmark": "retinanet", "preprocessing": PREPROCESSING_VERSION, "pillow": PIL.__version__}
    how = Preprocessing(INPUT, SAMPLE_SHAPE, preprocess_image, identity)
    return preprocess_images(how, settings, store, data, calibration=calibration)

"""The preprocessed sample set of resnet50."""

from __future__ import annotations

from typing import Any

import cv2

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.image_samples import Preprocessing, preprocess_images
from nvkit.benchmarks.resnet50.preprocess import PREPROCESSING_VERSION, preprocess_image
from nvkit.benchmarks.resnet50.tensors import INPUT, SAMPLE_SHAPE
from nvkit.store import Store


def preprocess_samples(settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
    """Preprocess the validation or the calibration images of a data set into the store.

    Raises:
        DataError: see `preprocess_images`.
        DiskFullError: there is no room for the samples.
    """
    identity = {"preprocessing": PREPROCESSING_VERSION, "opencv": cv2.__version__}
    how = Preprocessing(INPUT, SAMPLE_SHAPE, preprocess_image, identity)
    return preprocess_images(how, settings, store, data, calibration=calibration)

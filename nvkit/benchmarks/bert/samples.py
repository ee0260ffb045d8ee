"""The sample set: the features of all questions as arrays in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.bert.dataset import VOCABULARY, questions_of
from nvkit.benchmarks.bert.features import FEATURES_VERSION, arrays, lengths, make_features
from nvkit.benchmarks.bert.tensors import INPUTS
from nvkit.benchmarks.bert.wordpiece import WordPieces
from nvkit.errors import DataError
from nvkit.store import Store, replacing

_LENGTHS = "lengths"


def preprocess_samples(settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
    """Cut the questions of a data set, or of its calibration part, into features and keep them in the store.

    A long paragraph gives several samples, so there may be more samples than questions.

    Raises:
        DataError: no paragraph holds any token.
    """
    key = {
        "data": data.digest,
        "part": "calibration" if calibration else "validation",
        "features": FEATURES_VERSION,
    }

    def make(folder: Path) -> None:
        questions = questions_of(data, data.calibration if calibration else data.files)
        features = make_features(questions, WordPieces(data.root / VOCABULARY))
        if not features:
            raise DataError(f"No paragraph of {data.root} holds any text.", "Choose another data folder.")
        for name, array in {**arrays(features), _LENGTHS: lengths(features)}.items():
            with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, array)

    folder = store.get_or_make("preprocessed", key, make).path
    paths = {name: folder / f"{name}.npy" for name in (*INPUTS, _LENGTHS)}
    counted = paths.pop(_LENGTHS)
    return SampleSet(paths, len(np.load(counted)), folder.name, lengths=counted)

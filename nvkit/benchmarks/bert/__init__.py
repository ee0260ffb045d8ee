"""bert: question answering on SQuAD v1.1 with BERT-large; a response is the start and end logits of a sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Accuracy, Array, DataSet, Model, SampleSet
from nvkit.engine.base import Ragged
from nvkit.store import Store


class Bert:
    """The `Benchmark` of MLPerf's bert-99 and bert-99.9, which differ in the accuracy that they demand.

    The parts are imported when they are used, so that a list of benchmarks needs neither tokenizers nor ONNX.
    """

    name = "bert"
    response_dtype = "float32"

    def dataset(self, settings: Any, store: Store) -> DataSet:
        """Return the user's SQuAD folder (`settings.data_dir`) or a generated set in its format.

        Raises:
            DataError: the folder or a file is not as it must be.
        """
        from nvkit.benchmarks.bert.dataset import find_dataset

        return find_dataset(settings, store)

    def model(self, settings: Any, store: Store) -> Model:
        """Return the reference file (`settings.model_path` or a download) or the synthetic model.

        Raises:
            ModelError: the file does not hold a BERT for question answering.
            ChecksumError: the file is not the one that it says it is.
        """
        if settings.model_path is not None or settings.download_model:
            from nvkit.benchmarks.bert.reference import reference_model

            return reference_model(settings, store)
        from nvkit.benchmarks.bert.synthetic import synthetic_model

        return synthetic_model(settings, store)

    def preprocess(self, settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
        """Cut the questions into features of at most 384 tokens; a long paragraph gives several.

        Raises:
            DataError: no paragraph holds any text.
        """
        from nvkit.benchmarks.bert.samples import preprocess_samples

        return preprocess_samples(settings, store, data, calibration=calibration)

    def without(self, data: DataSet, skipped: Iterable[str]) -> DataSet:
        """Return the data set without the questions that preprocessing skipped."""
        from nvkit.benchmarks.data_files import without

        return without(data, skipped)

    def encode(self, outputs: Array | Ragged, indices: Sequence[int]) -> Array | Ragged:
        """Turn start and end logits into responses, float32 little-endian [tokens, 2] for each sample."""
        from nvkit.benchmarks.bert.responses import encode_logits

        return encode_logits(outputs)

    def agree(self, expected: Array | Ragged, found: Array | Ragged) -> Array:
        """Tell of each sample whether both responses have their highest start and end logits at the same tokens."""
        from nvkit.benchmarks.bert.responses import same_spans

        return same_spans(expected, found)

    def score(self, responses: Mapping[int, bytes], data: DataSet, *, part: bool = False) -> Accuracy:
        """Return F1 in percent, of all questions or, of a part, of those that were asked."""
        from nvkit.benchmarks.bert.accuracy import score_responses

        return score_responses(responses, data, part=part)

    def reference_command(self, log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
        """Return MLCommons' accuracy-squad.py with its arguments."""
        from nvkit.benchmarks.bert.accuracy import reference_command

        return reference_command(log, data, work)


BENCHMARK = Bert()

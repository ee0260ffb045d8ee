"""The synthetic model: BERT with seeded weights and a last layer fitted on generated questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from nvkit.benchmarks.base import Model
from nvkit.benchmarks.bert.dataset import VOCABULARY
from nvkit.benchmarks.bert.features import Feature, answer_tokens, make_features
from nvkit.benchmarks.bert.fit import fit_last_layer
from nvkit.benchmarks.bert.generate import FIT, generated_folder
from nvkit.benchmarks.bert.network import Floats, Size, bert, bert_large, put_parameter
from nvkit.benchmarks.bert.squad import read_questions
from nvkit.benchmarks.bert.tensors import INPUTS, OUTPUT, input_specs, output_spec
from nvkit.benchmarks.bert.weights import seeded_weights
from nvkit.benchmarks.bert.wordpiece import WordPieces, read_vocabulary
from nvkit.benchmarks.threads import worker_count
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, write_json

BUILDER_VERSION = 1
"""Changes whenever the same seed and questions give another network."""

_FILE = "bert_synthetic.onnx"


def synthetic_model(settings: Any, store: Store) -> Model:
    """Build the synthetic model in the store, or find it there.

    Its vocabulary is that of the generated questions, or as large as the user's where there is one.
    """
    import onnxruntime

    questions = generated_folder(store, settings.data_seed, {FIT: settings.generated_fit_questions})
    vocabularies = [questions.path / VOCABULARY]
    if settings.data_dir is not None:
        vocabularies.append(Path(settings.data_dir) / VOCABULARY)
    size = bert_large(max(len(read_vocabulary(path)) for path in vocabularies), settings.synthetic_width)
    key = {
        "benchmark": "bert",
        "builder": BUILDER_VERSION,
        "seed": settings.data_seed,
        "heads": size.heads,
        "vocabulary": size.vocabulary,
        "fit questions": questions.digest,
        "onnxruntime": onnxruntime.__version__,
    }

    def make(folder: Path) -> None:
        left_out = _build(questions.path, size, settings, folder / _FILE)
        write_json(folder / "fit.json", {"left-out answers": left_out})

    path = store.get_or_make("models", key, make).path
    left_out = json.loads((path / "fit.json").read_text(encoding="utf-8"))["left-out answers"]
    true_size = "full size" if settings.synthetic_width == 1.0 else f"{size.heads} of 16 heads"
    return Model(
        path=path / _FILE,
        digest=file_digest(path / _FILE),
        synthetic=True,
        description=f"BERT-large, {true_size}, seeded weights, last layer fitted on "
        f"{settings.generated_fit_questions} generated questions (left-out answers found: {100 * left_out:.1f} %)",
        inputs=input_specs(),
        output=output_spec(),
        notes=("synthetic weights: speed is that of the architecture, accuracy says nothing about SQuAD",),
        variable=True,
    )


def _build(folder: Path, size: Size, settings: Any, target: Path) -> float:
    """Write the network; return the share of left-out answers that it finds."""
    model = bert(seeded_weights(size, settings.data_seed), size)
    last = f"l{size.layers - 1}/hidden"
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    questions = read_questions(folder / FIT)
    features = make_features(questions, WordPieces(folder / VOCABULARY))
    answers = [answer_tokens(feature, questions[feature.question]) for feature in features]
    taught = [(feature, answer) for feature, answer in zip(features, answers, strict=True) if answer is not None]
    onnx.save_model(model, str(target))
    hidden = _hidden(target, last, [feature for feature, _ in taught], settings.threads)
    fit = fit_last_layer(hidden, [answer for _, answer in taught])
    del model.graph.output[-1]
    put_parameter(model, f"{OUTPUT}/kernel", fit.kernel)
    put_parameter(model, f"{OUTPUT}/bias", fit.bias)
    onnx.save_model(model, str(target))
    return fit.left_out


def _hidden(path: Path, output: str, features: Sequence[Feature], threads: int | None) -> list[Floats]:
    """Run a network up to its last layer, sample by sample without padding, one on each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Read from a file, the network of full size is in memory once less than from a string of bytes.
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(feature: Feature) -> Floats:
        tokens = len(feature.ids)
        context = np.arange(tokens) >= feature.start
        values = dict(zip(INPUTS, (feature.ids, np.ones(tokens), context), strict=True))
        feeds = {name: np.asarray(value, np.int32)[None] for name, value in values.items()}
        (found,) = session.run([output], feeds)
        return np.asarray(found[0], np.float32)

    with ThreadPoolExecutor(worker_count(threads)) as pool:
        work = tqdm(pool.map(run, features), total=len(features), desc="Fitting the last layer", unit="question")
        return list(work)

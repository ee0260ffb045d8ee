"""The synthetic BERT: its weights, its fitted last layer, int8, and responses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from nvkit.benchmarks.base import Benchmark, Model, SampleSet
from nvkit.benchmarks.bert import BENCHMARK
from nvkit.benchmarks.bert.dataset import VOCABULARY
from nvkit.benchmarks.bert.fit import fit_last_layer
from nvkit.benchmarks.bert.network import Size, bert_large, parameter_shapes
from nvkit.benchmarks.bert.vocabulary import pieces
from nvkit.benchmarks.bert.weights import seeded_weights
from nvkit.engine.base import Ragged
from nvkit.quantize import collect, quantize
from nvkit.store import Store


def make_settings(**changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {
        "data_dir": None,
        "data_seed": 3,
        "generated_questions": 32,
        "generated_calibration_questions": 8,
        "generated_fit_questions": 80,
        "model_path": None,
        "download_model": False,
        "synthetic_width": 0.0625,
        "precision": "int8",
        "threads": 2,
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def model(store: Store) -> Model:
    return BENCHMARK.model(make_settings(), store)


def sample(samples: SampleSet, index: int) -> dict[str, np.ndarray]:
    cut = int(np.load(samples.lengths)[index]) if samples.lengths else None
    return {name: array[:, :cut] for name, array in samples.load([index]).items()}


def responses(path: Path, samples: SampleSet) -> Ragged:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = [session.run(["logits"], sample(samples, row))[0][0] for row in range(samples.count)]
    found = BENCHMARK.encode(Ragged(np.concatenate(logits), np.array([len(row) for row in logits])), range(len(logits)))
    assert isinstance(found, Ragged)
    return found


def test_the_fitted_head_finds_answers_and_int8_keeps_them(model: Model, store: Store, tmp_path: Path) -> None:
    data = BENCHMARK.dataset(make_settings(), store)
    samples = BENCHMARK.preprocess(make_settings(), store, data)
    calibration = BENCHMARK.preprocess(make_settings(), store, data, calibration=True)
    batches = (sample(calibration, row) for row in range(calibration.count))
    ranges = collect(model.path, batches, "percentile", total=calibration.count)
    report = quantize(model.path, ranges, tmp_path / "qdq.onnx")
    assert report.layers == {"MatMul": 97}  # 24 layers of 4, and the last one
    found = {"fp32": responses(model.path, samples), "int8": responses(report.path, samples)}
    f1 = {}
    for precision, encoded in found.items():
        rows = {row: values.tobytes() for row, values in enumerate(encoded.rows())}
        f1[precision] = BENCHMARK.score(rows, data).value
    assert f1["fp32"] > 80
    assert f1["int8"] > 0.95 * f1["fp32"]
    assert BENCHMARK.agree(found["fp32"], found["int8"]).mean() > 0.9
    assert (found["fp32"].values != found["int8"].values).any()


def test_the_model_says_what_it_is(model: Model, store: Store) -> None:
    assert model.synthetic
    assert model.variable
    assert model.ranges is None
    assert "1 of 16 heads, seeded weights, last layer fitted on 80 generated questions" in model.description
    assert "says nothing about SQuAD" in model.notes[0]
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*model.inputs, model.output)] == [
        ("input_ids", "int32", (384,)),
        ("input_mask", "int32", (384,)),
        ("segment_ids", "int32", (384,)),
        ("logits", "float32", (384, 2)),
    ]
    assert BENCHMARK.model(make_settings(), store) == model  # from the store


def test_a_users_larger_vocabulary_fits(store: Store, tmp_path: Path) -> None:
    more = [*pieces(), *(f"extra{number}" for number in range(100))]
    (tmp_path / VOCABULARY).write_text("\n".join(more) + "\n", encoding="utf-8")
    model = BENCHMARK.model(make_settings(data_dir=tmp_path, generated_fit_questions=16), store)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    last = np.full((1, 4), len(more) - 1, np.int32)
    (logits,) = session.run(None, {"input_ids": last, "input_mask": last * 0 + 1, "segment_ids": last * 0})
    assert np.isfinite(logits).all()


def test_sizes() -> None:
    full = bert_large(30522)
    assert (full.layers, full.heads, full.hidden, full.inner) == (24, 16, 1024, 4096)
    # 334,094,338 of the encoder and embeddings, as BERT-large without its pooler, and the last layer's 2,050
    assert sum(int(np.prod(shape)) for shape in parameter_shapes(full).values()) == 334_094_338
    assert [bert_large(9, width).heads for width in (0.5, 0.125, 0.01)] == [8, 2, 1]


def test_weights_follow_the_seed_and_have_no_outlier_channels() -> None:
    size = Size(2, 2, 40)
    first, again, other = (dict(seeded_weights(size, seed)) for seed in (1, 1, 2))
    assert {name: value.shape for name, value in first.items()} == parameter_shapes(size)
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["l1/qkv/kernel"] != other["l1/qkv/kernel"]).all()
    assert not np.allclose(first["l0/output/kernel"], first["l1/output/kernel"])
    for name, value in first.items():
        if name.endswith("/kernel") and name != "logits/kernel":
            norms = np.linalg.norm(value, axis=0)
            assert norms.max() < 2 * norms.min(), name


def test_a_last_layer_learns_what_marks_both_ends() -> None:
    rng = np.random.default_rng(0)
    hidden, answers = [], []
    for _ in range(60):
        values = rng.standard_normal((rng.integers(8, 40), 12)).astype(np.float32)
        first, last = sorted(rng.choice(len(values), 2, replace=False))
        values[:, 3] *= 0.2
        values[first, 3] = 5.0  # the start is marked in one channel, the end in another
        values[:, 7] = 50 + 0.1 * values[:, 7]
        values[last, 7] += 3.0
        hidden.append(values)
        answers.append((int(first), int(last)))
    fit = fit_last_layer(hidden, answers)
    assert fit.left_out == 1.0
    assert np.abs(fit.kernel).argmax(axis=0).tolist() == [3, 7]
    logits = hidden[0] @ fit.kernel + fit.bias
    assert logits.argmax(axis=0).tolist() == list(answers[0])
    shuffled = fit_last_layer(hidden, [(0, int(rng.integers(len(values)))) for values in hidden])
    assert shuffled.left_out < 0.5


def test_responses_are_the_logits_of_each_token() -> None:
    lengths = np.array([3, 2])
    logits = np.arange(10, dtype=np.float16).reshape(5, 2)
    found = BENCHMARK.encode(Ragged(logits, lengths), [4, 9])
    assert isinstance(found, Ragged)
    assert [row.tobytes() for row in found.rows()] == [
        np.arange(6, dtype="<f4").tobytes(),
        np.arange(6, 10, dtype="<f4").tobytes(),
    ]
    padded = BENCHMARK.encode(np.zeros((2, 384, 2), np.float16), [0, 1])
    assert isinstance(padded, np.ndarray)
    assert padded.dtype == np.float32


def test_responses_agree_where_both_ends_do() -> None:
    lengths = np.array([3, 2])
    expected = np.array([[0, 1], [5, 2], [1, 9], [4, 4], [3, 3]], np.float32)
    found = expected + np.array([[0.5, 0], [0, 0], [0, 0], [0, 0], [0, 2]], np.float32)
    assert BENCHMARK.agree(Ragged(expected, lengths), Ragged(found, lengths)).tolist() == [True, False]


def test_the_benchmark_is_cheap_to_import() -> None:
    benchmark: Benchmark = BENCHMARK
    assert benchmark.name == "bert"
    code = (
        "import sys, nvkit.benchmarks.bert; "
        "assert not {'tokenizers', 'onnx', 'onnxruntime', 'pooch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Networks of variable length on the CPU's backends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from variable_net import LONGEST, expected, variable_net, variable_samples

from nvkit.benchmarks.base import SampleSet
from nvkit.engine import backend
from nvkit.engine.base import Network, Ragged, infer, joined
from nvkit.errors import DataError
from nvkit.stages.engines import build_engine, run_samples
from nvkit.store import Store


def settings(**changes: Any) -> SimpleNamespace:
    values = {"backend": "onnxruntime", "precision": "fp32", "input_dtype": "int32", "batch_size": 4, "slots": 2}
    return SimpleNamespace(**{**values, "threads": 1, **changes})


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = variable_net(tmp_path_factory.mktemp("net") / "net.onnx")
    return Network(path, None, None, "out", variable=True)


@pytest.fixture
def runner(network: Network, tmp_path: Path) -> Any:
    chosen = backend("onnxruntime")
    report = chosen.build(network, settings(), tmp_path)
    assert report.details["lengths"] == "each batch is cut to its longest sample"
    assert json.loads((tmp_path / "engine.json").read_text(encoding="utf-8"))["variable"] is True
    return chosen.load(tmp_path, settings())


def test_a_batch_is_cut_to_its_longest_sample_and_its_output_has_no_padding(runner: Any) -> None:
    inputs, lengths = variable_samples(20)
    runner.stage(inputs, lengths)
    # Rows that follow one another, scattered ones, one alone, one twice: none of the longest samples among them.
    for slot, rows in enumerate([range(12, 16), [9, 2, 5], [4], np.array([4, 5, 4])]):
        runner.submit(slot % 2, rows)
        found = runner.wait(slot % 2)
        assert found.lengths.tolist() == lengths[list(rows)].tolist()
        padded = max(lengths[list(rows)])
        assert padded < LONGEST
        for row, values in zip(rows, found.rows(), strict=True):
            np.testing.assert_array_equal(values, expected(inputs["ids"][row], lengths[row], padded))


def test_samples_without_lengths_are_refused(runner: Any) -> None:
    with pytest.raises(DataError, match="come without lengths"):
        runner.stage(variable_samples(4)[0])


def test_an_engine_of_one_length_gives_padded_outputs_whatever_the_lengths(network: Network, tmp_path: Path) -> None:
    chosen = backend("onnxruntime")
    chosen.build(replace(network, variable=False), settings(), tmp_path)
    inputs, lengths = variable_samples(6)
    found = infer(chosen.load(tmp_path, settings()), inputs, lengths)
    assert isinstance(found, np.ndarray)
    assert found.shape == (6, LONGEST, 3)
    assert (found[:, :, 2] == LONGEST).all()


def test_whether_lengths_differ_is_part_of_an_engines_key(network: Network, tmp_path: Path) -> None:
    store = Store(tmp_path)
    cut = build_engine(store, network, settings())
    assert build_engine(store, replace(network, variable=False), settings()).digest != cut.digest
    assert build_engine(store, network, settings()).origin.startswith("reused")


@pytest.mark.parametrize("name", ["onnxruntime", "null"])
def test_a_sample_set_runs_through_in_its_order(network: Network, tmp_path: Path, name: str) -> None:
    inputs, lengths = variable_samples(11)
    for part, array in {**inputs, "lengths": lengths}.items():
        np.save(tmp_path / f"{part}.npy", array)
    samples = SampleSet({n: tmp_path / f"{n}.npy" for n in inputs}, 11, "x", lengths=tmp_path / "lengths.npy")
    chosen = settings(backend=name)
    found = run_samples(build_engine(Store(tmp_path), network, chosen), chosen, samples, 10, "test")
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == lengths[:10].tolist()
    assert found.values.dtype == np.float32
    for index, values in enumerate(found.rows()):
        if name == "null":
            assert values.tolist() == np.zeros((lengths[index], 3)).tolist()
        else:
            np.testing.assert_array_equal(values[:, :2], expected(inputs["ids"][index], lengths[index], 0)[:, :2])


def test_batches_are_joined_as_copies() -> None:
    values = np.arange(6.0).reshape(3, 2)
    both = joined([Ragged(values, np.array([1, 2])), Ragged(values[:1], np.array([1]))])
    assert isinstance(both, Ragged)
    values[:] = 0
    assert both.values.tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert both.lengths.tolist() == [1, 2, 1]
    assert [len(rows) for rows in both.rows()] == [1, 2, 1]

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvkit.benchmarks.base import SampleSet
from nvkit.engine.base import Array
from nvkit.harness.qsl import QuerySampleLibrary


class Runner:
    slots, max_batch = 1, 4
    staged: Mapping[str, Array]
    lengths: Array | None

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        self.staged, self.lengths = inputs, lengths

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        raise AssertionError("a QSL runs nothing")

    def wait(self, slot: int) -> Array:
        raise AssertionError("a QSL runs nothing")

    def close(self) -> None:
        raise AssertionError("a QSL closes nothing")


@pytest.fixture
def library(tmp_path: Path) -> tuple[QuerySampleLibrary, Runner]:
    np.save(tmp_path / "a.npy", np.arange(10).reshape(10, 1))
    np.save(tmp_path / "b.npy", 100 + np.arange(10))
    runner = Runner()
    samples = SampleSet({"a": tmp_path / "a.npy", "b": tmp_path / "b.npy"}, 10, "digest")
    return QuerySampleLibrary(samples, runner, 4), runner


def test_samples_are_staged_in_loadgens_order(library: tuple[QuerySampleLibrary, Runner]) -> None:
    qsl, runner = library
    qsl.load([7, 2, 9])
    assert runner.staged["a"].tolist() == [[7], [2], [9]]
    assert runner.staged["b"].tolist() == [107, 102, 109]
    assert all(array.flags.c_contiguous and type(array) is np.ndarray for array in runner.staged.values())
    assert [qsl.row_of[index] for index in (7, 2, 9)] == [0, 1, 2]


def test_lengths_are_staged_with_their_samples(library: tuple[QuerySampleLibrary, Runner], tmp_path: Path) -> None:
    qsl, runner = library
    qsl.load([7, 2])
    assert (qsl.lengths, runner.lengths) == (None, None)
    np.save(tmp_path / "lengths.npy", np.arange(20, 30, dtype=np.int32))
    samples = replace(qsl._samples, lengths=tmp_path / "lengths.npy")
    qsl = QuerySampleLibrary(samples, runner, 4)
    qsl.load([7, 2])
    assert runner.lengths is not None
    assert runner.lengths.tolist() == [27, 22]
    assert qsl.lengths is not None
    assert qsl.lengths.tolist() == list(range(20, 30))


def test_unloaded_and_never_loaded_samples_have_no_row(library: tuple[QuerySampleLibrary, Runner]) -> None:
    qsl, _ = library
    rows = qsl.row_of
    qsl.load([1, 3])
    qsl.unload([1])
    assert rows == [-1, -1, -1, 1, *[-1] * 6]
    qsl.load([5])
    assert rows is qsl.row_of  # the SUT keeps this list
    assert rows[5] == 0


@pytest.mark.parametrize(("wanted", "reported"), [(4, 4), (1024, 10)])
def test_loadgen_is_told_no_more_samples_than_there_are(
    library: tuple[QuerySampleLibrary, Runner], monkeypatch: pytest.MonkeyPatch, wanted: int, reported: int
) -> None:
    import mlperf_loadgen as lg

    made: list[Any] = []
    monkeypatch.setattr(lg, "ConstructQSL", lambda *arguments: made.append(arguments))
    first, runner = library
    qsl = QuerySampleLibrary(first._samples, runner, wanted)
    qsl.construct()
    assert made == [(10, reported, qsl.load, qsl.unload)]

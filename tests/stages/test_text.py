"""The stages on a benchmark whose samples have different lengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import nvkit
from nvkit import stages
from nvkit.results.raw_log import read_accuracy
from nvkit.runs import RunFolder


def _text(run: RunFolder, *names: str) -> str:
    frozen = RunFolder(run.path, run.config, read_only=True)
    return "\n".join(str(table) for name in names for table in getattr(stages, name)(run.config, frozen).tables())


def test_a_run_of_text_says_so(text_run: RunFolder) -> None:
    text = _text(text_run, "setup", "preprocess", "calibrate", "build", "run")
    assert "image" not in text.lower()
    for words in ("arrays are padded", "each batch is cut to its longest sample", "16 entries", "int32", "F1 "):
        assert words in text
    assert "Left out" not in text


def test_responses_have_the_lengths_of_their_samples(text_run: RunFolder) -> None:
    samples = stages.preprocess(text_run.config, text_run).samples
    lengths = samples.lengths_of(range(samples.count))
    assert lengths is not None
    assert len(set(lengths.tolist())) > 3
    for scenario in ("Offline", "SingleStream"):
        responses = read_accuracy(text_run.path / "loadgen" / scenario / "accuracy")
        assert {index: len(data) for index, data in responses.items()} == {
            index: 8 * length for index, length in enumerate(lengths.tolist())
        }


def test_batches_do_not_change_an_answer(text_run: RunFolder) -> None:
    """What a sample is batched with decides only how far it is padded."""
    logs = [text_run.path / "loadgen" / name / "accuracy" for name in ("Offline", "SingleStream")]
    batched, alone = ({i: np.frombuffer(d, "<f4") for i, d in read_accuracy(log).items()} for log in logs)
    for index, logits in batched.items():
        assert np.abs(logits - alone[index]).max() < 0.05 * np.abs(alone[index]).max()


def test_lengths_that_are_gone_are_made_again(text_run: RunFolder) -> None:
    first = stages.preprocess(text_run.config, text_run)
    assert first.samples.lengths is not None
    kept = first.samples.lengths.read_bytes()
    first.samples.lengths.unlink()
    assert not first.usable()
    first.samples.lengths.write_bytes(kept)
    assert first.usable()


def test_the_childs_spec_names_the_lengths(text_run: RunFolder) -> None:
    spec = json.loads((text_run.path / "loadgen" / "Offline" / "performance" / "spec.json").read_text())
    assert Path(spec["samples"]["lengths"]).is_file()


def test_bert_99_9_is_fp32_on_a_cpu_and_has_no_multistream() -> None:
    config = nvkit.configure("cpu", "bert-99.9", quick=True)
    assert set(config.scenarios) == {"Offline", "Server"}
    assert {(s.precision, s.input_dtype) for s in config.scenarios.values()} == {("fp32", "int32")}
    assert set(nvkit.configure("cpu", "bert-99").scenarios) == {"Offline", "Server", "SingleStream"}

from __future__ import annotations

from pathlib import Path

import pytest

from nvkit.errors import ConfigError, ExecutionError, InvalidResultError
from nvkit.record.reference_accuracy import _kind, reference_accuracy

_SCRIPT = """
import argparse, json, struct
parser = argparse.ArgumentParser()
for name in ("--mlperf-accuracy-file", "--imagenet-val-file", "--dtype"):
    parser.add_argument(name, required=True)
args = parser.parse_args()
assert args.dtype == "int32"
labels = [int(line.split()[1]) for line in open(args.imagenet_val_file)]
log = json.load(open(args.mlperf_accuracy_file))
found = {{one["qsl_idx"]: struct.unpack("<i", bytes.fromhex(one["data"]))[0] for one in log}}
good = sum(labels[index] == value for index, value in found.items()) {change}
print("a line before")
print("accuracy={{:.3f}}%, good={{}}, total={{}}".format(100 * good / len(found), good, len(found)) {end})
"""


def _checkout(folder: Path, change: str = "", end: str = "") -> Path:
    script = folder / "vision/classification_and_detection/tools/accuracy-imagenet.py"
    script.parent.mkdir(parents=True)
    script.write_text(_SCRIPT.format(change=change, end=end))
    return folder


def test_the_scripts_output_is_the_accuracy_txt_and_agrees(complied, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = reference_accuracy(complied.config, complied.run, _checkout(tmp_path))
    assert set(result.reference) == {"Offline", "SingleStream"}
    assert result.reference == result.ours
    text = (complied.run.path / "loadgen" / "Offline" / "accuracy" / "accuracy.txt").read_text()
    assert text == f"a line before\n{result.ours['Offline']}\n"
    assert "accuracy-imagenet.py" in str(result)


@pytest.mark.parametrize(
    ("change", "end", "error", "words"),
    [("+ 1", "", InvalidResultError, "nvkit says 'accuracy="), ("", "[:0]", ExecutionError, "no score of Offline")],
)
def test_another_score_or_none_is_an_error(
    complied,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    change: str,
    end: str,
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        reference_accuracy(complied.config, complied.run, _checkout(tmp_path, change, end), fresh=True)


def test_a_folder_that_is_no_checkout_is_refused(complied, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"has no vision/.*accuracy-imagenet\.py"):
        reference_accuracy(complied.config, complied.run, tmp_path, fresh=True)
    with pytest.raises(ConfigError, match="There is no folder"):
        reference_accuracy(complied.config, complied.run, tmp_path / "nowhere")


def test_a_line_of_scores_is_known_by_its_words() -> None:
    assert _kind("accuracy=54.297%, good=139, total=256") == _kind("accuracy=1.0%, good=1, total=100") == "accuracy="
    squad = '{"exact_match": 83.5, "f1": 90.8}'
    assert _kind(squad) == _kind('{"exact_match": 1.0, "f1": 2.0}') != _kind("mAP=37.5%")

"""No host name, user name, home path or secret of the environment is in a record."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from nvkit.places import KIT, Places
from nvkit.record.redact import FILE, redact
from nvkit.record.seal import seal
from nvkit.record.verify import verify

_UUID = "GPU-12345678-abcd-1234-abcd-123456789abc"


def _everything(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): path.read_text("utf-8", "replace") for path in run.rglob("*") if path.is_file()}


def test_a_run_holds_no_name_and_no_path_of_its_machine(made: Any) -> None:
    planted = ["plantedhost", "plantedperson", "s3cr3t-planted-value", str(made.home), str(made.run)]
    planted += [str(KIT), sys.prefix, str(made.run.parents[1])]
    for name, text in _everything(made.run).items():
        for word in planted:
            assert word not in text, f"{name} holds {word}"


def test_what_a_program_printed_is_replaced_too(copy: Path, made: Any) -> None:
    """Names planted where drivers, libraries and tracebacks put them."""
    other = Path("/") / "home" / "other"
    said = f"plantedhost: plantedperson opened {made.home}/x with s3cr3t-planted-value on {_UUID} of {other}/y"
    (copy / "loadgen/Offline/performance/console.txt").write_text(said)
    (copy / "loadgen/Offline/performance/telemetry.jsonl").write_text(json.dumps({"said": said}) + "\n")
    child = copy / "loadgen/Offline/performance/child.json"
    child.write_text(json.dumps(json.loads(child.read_text()) | {"said": {"on": [said]}}))
    notebook = json.loads((copy / "50_run.ipynb").read_text())
    cell = next(c for c in notebook["cells"] if c["cell_type"] == "code")
    cell["outputs"].append({"output_type": "stream", "name": "stderr", "text": [said]})
    (copy / "50_run.ipynb").write_text(json.dumps(notebook))

    sealed = seal(copy)
    assert sealed.replaced
    assert sealed.replaced["$HOST"] == 4
    expected = f"$HOST: $USER opened $HOME/x with $SECRET on $UUID of {other.parent}/$USER/y"
    assert (copy / "loadgen/Offline/performance/console.txt").read_text() == expected
    for name, text in _everything(copy).items():
        for word in ("plantedhost", "plantedperson", "s3cr3t-planted-value", _UUID, str(other)):
            assert word not in text, f"{name} holds {word}"


def test_names_stay_if_asked_to(copy: Path) -> None:
    (copy / "console.txt").write_text("plantedhost")
    (copy / FILE).unlink()
    assert "stay, as asked" in str(seal(copy, keep_names=True))
    assert (copy / "console.txt").read_text() == "plantedhost"
    assert verify(copy, only=["names and paths"]).manual


def test_loadgens_logs_are_told_and_not_altered(copy: Path) -> None:
    path = copy / "loadgen/Offline/performance/mlperf_log_detail.txt"
    text = path.read_text().replace("PyFastSUT", "plantedhost")
    path.write_text(text)
    sealed = seal(copy)
    assert path.read_text() == text
    assert sealed.left == ("loadgen/Offline/performance/mlperf_log_detail.txt holds $HOST",)
    (finding,) = verify(copy, only=["names and paths"]).manual
    assert "holds $HOST" in finding.detail


@pytest.mark.parametrize("name", ["l4", "cpu", "root", "resnet50", "a10"])
def test_a_name_that_means_something_else_stays(copy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: name)
    before = (copy / "config.json").read_text()
    assert "$HOST" in redact(copy)["stays"][0]
    assert (copy / "config.json").read_text() == before


def test_a_name_inside_of_another_is_not_replaced(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "bench")
    (copy / "console.txt").write_text("bench benchmark nvkit-bench bench.")
    redact(copy)
    assert (copy / "console.txt").read_text() == "$HOST benchmark nvkit-bench $HOST."


def test_paths_become_words_and_paths_again(tmp_path: Path) -> None:
    places = Places({"RUN": tmp_path / "out" / "runs" / "a", "STORE": tmp_path / "out" / "store", "OUTPUTS": None})
    value = {"x": [f"{tmp_path}/out/store/models/m.onnx", f"{tmp_path}/out/runs/a"], "n": 1}
    assert places.hide(value) == {"x": ["$STORE/models/m.onnx", "$RUN"], "n": 1}
    assert places.show(places.hide(value)) == value
    other = f"{tmp_path}/out/store2 {tmp_path}/out/store.old costs $STORES"
    assert re.search(r"store2 .*store\.old costs \$STORES", places.hide(other))
    assert places.show("costs $STORE") == "costs $STORE"


def test_a_sealed_run_is_still_recognised_as_finished(made: Any) -> None:
    import nvkit

    given = json.loads((made.run / "60_report.ipynb").read_text())["metadata"]["papermill"]["parameters"]
    config = nvkit.configure("cpu", "resnet50", given["scenario"], quick=True, overrides=given["overrides"])
    run = nvkit.RunFolder(made.run, config, read_only=True)
    assert nvkit.stages.report(config, run).reused
    assert nvkit.stages.setup(config, run).model.path.is_file()

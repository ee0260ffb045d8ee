from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from nvkit.notebooks import STAGES
from nvkit.reproduce import reproduce


def test_the_notebooks_run_nvidias_code(checkout: Path, given: dict[str, Any]) -> None:
    names = {
        "profile": "l4",
        "benchmark": "resnet50",
        "scenario": "Offline",
        "mode": "both",
        "round": "v3.0",
        "quick": True,
        "implementation": "nvidia-original",
    }
    report, folder = reproduce(names, {**given, "offline_expected_qps": 1000}, str(checkout.parents[2] / "outputs"))
    assert report.summaries[0].metric
    assert json.loads((folder / "config.json").read_text())["implementation"] == "nvidia-original"
    texts = {}
    for _, name in STAGES:
        notebook = nbformat.read(folder / name, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        texts[name] = "".join(str(output.get("data", output.get("text", ""))) for output in outputs)
        assert not any(output.output_type == "error" for output in outputs)
    assert "$ make generate_engines" in texts["40_build.ipynb"]
    assert "[I] Result: Offline AccuracyOnly finished" in texts["50_run.ipynb"]
    assert "acc 76.034" in texts["60_report.ipynb"]
    assert texts["60_report.ipynb"].count("image/png") >= 2

"""Part "notebooks": what papermill and a kernel add to each stage of a whole reproduction."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nvkit
from nvkit.bench.figures import against_limit, table
from nvkit.notebooks import STAGES, execute, notebooks_folder
from nvkit.progress import tqdm
from nvkit.runs import open_run
from nvkit.store import Store
from nvkit.tables import Table

BAR_S = 3.0
_NAMES = {
    "profile": "cpu",
    "benchmark": "resnet50",
    "scenario": "Offline,SingleStream",
    "mode": "performance",
    "round": "v4.1",
    "quick": True,
}
_OVERRIDES = {
    "synthetic_width": 0.125,
    "generated_images": 32,
    "generated_calibration_images": 16,
    "generated_fit_images": 64,
    "min_duration": 1000,
}


def measure(store: Store, repeat: int) -> Table:
    """Run every stage's notebook in a fresh outputs folder, so that each stage is really done.

    Overhead is the time of executing the notebook, less the time that the stage itself took.
    """
    overheads: dict[str, list[float]] = {stage: [] for stage, _ in STAGES}
    work: dict[str, list[float]] = {stage: [] for stage, _ in STAGES}
    with tqdm(total=repeat * len(STAGES), desc="bench notebooks", unit="notebook") as bar:
        for _ in range(repeat):
            with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as outputs:
                for stage, wall, own in _reproduction(Path(outputs)):
                    overheads[stage].append(wall - own)
                    work[stage].append(own)
                    bar.update()
    words = "notebook {:.1f} s, stage {:.1f} s; small synthetic model, nothing reused"
    figures = [
        against_limit(
            f"papermill and kernel, {stage}",
            "s",
            values,
            BAR_S,
            words.format(values[-1] + work[stage][-1], work[stage][-1]),
            at_most=True,
        )
        for stage, values in overheads.items()
    ]
    return table("Notebooks: overhead of each stage", figures)


def _reproduction(outputs: Path) -> Iterator[tuple[str, float, float]]:
    """Yield stage, seconds of executing its notebook, and seconds of the stage itself."""
    run = open_run(nvkit.configure(**_NAMES, overrides=_OVERRIDES), outputs)  # type: ignore[arg-type]
    parameters = {**_NAMES, "overrides": _OVERRIDES, "outputs": str(outputs), "run_dir": str(run.path)}
    for stage, notebook in STAGES:
        started = time.perf_counter()
        execute(notebooks_folder() / notebook, run.path / notebook, parameters, cwd=run.path, echo=False)
        wall = time.perf_counter() - started
        yield stage, wall, float(json.loads(run.stage_file(stage).read_text(encoding="utf-8"))["seconds"])

"""MLCommons' reference harness for image classification, run from a checkout of mlcommons/inference."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import HarnessError, InputError, LogError, MissingPackageError
from nvkit.results.loadgen_log import DetailLog, read_detail

_FOLDER = Path("vision/classification_and_detection/python")
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "mlperf_loadgen": "mlcommons-loadgen",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "pycocotools": "pycocotools",
}
# The samples in memory and the fewest queries are nvkit's. LoadGen makes as many SingleStream queries as the target
# latency (ms) lets it expect, and a test that runs out of them fails.
_USER_CONF = """*.*.performance_sample_count_override = {resident}
*.*.min_query_count = 100
*.SingleStream.target_latency = 0.02
"""


def check(checkout: Path) -> None:
    """Check that the reference harness can run here.

    Raises:
        InputError: the folder is not a checkout of mlcommons/inference.
        MissingPackageError: a package that its main.py imports is not installed.
    """
    if not (checkout / _FOLDER / "main.py").is_file():
        raise InputError(
            f"{checkout} is not a checkout of mlcommons/inference: it has no {_FOLDER / 'main.py'}.",
            "git clone https://github.com/mlcommons/inference, and give that folder as --reference.",
        )
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingPackageError(
            f"The reference harness needs {', '.join(missing)}, not installed for {sys.executable}.",
            f"{sys.executable} -m pip install {' '.join(missing)}",
        )


@dataclass(frozen=True)
class ReferenceHarness:
    """Runs main.py of a checkout with this interpreter, on its onnxruntime backend.

    Attributes:
        checkout: Root of the checkout.
        model: ONNX file with the reference model's inputs and outputs.
        data: Folder with images and val_map.txt.
        cache: Where it keeps preprocessed images.
        batch: Its --max-batchsize.
        threads: Its --threads.
        resident: Samples that it keeps in memory.
    """

    checkout: Path
    model: Path
    data: Path
    cache: Path
    batch: int
    threads: int
    resident: int

    def test(self, scenario: str, seconds: int, qps: float, latency_limit_ns: int) -> DetailLog:
        """Run a performance test.

        Args:
            scenario: LoadGen's name of the scenario.
            seconds: Shortest and longest duration.
            qps: Arriving queries/s in Server, expected samples/s in Offline, no meaning in SingleStream.
            latency_limit_ns: In Server.

        Raises:
            HarnessError: it failed.
        """
        with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
            out = Path(folder) / "out"
            conf = Path(folder) / "user.conf"
            conf.write_text(_USER_CONF.format(resident=self.resident), encoding="utf-8")
            command = [
                sys.executable,
                "main.py",
                *("--profile", "resnet50-onnxruntime", "--model", str(self.model.resolve())),
                *("--dataset-path", str(self.data.resolve()), "--cache_dir", str(self.cache.resolve())),
                *("--output", str(out), "--user_conf", str(conf), "--audit_conf", str(Path(folder) / "none")),
                *("--scenario", scenario, "--time", str(seconds), "--qps", str(max(1, round(qps)))),
                *("--max-batchsize", str(self.batch), "--threads", str(self.threads)),
                *("--performance-sample-count", str(self.resident), "--max-latency", str(latency_limit_ns / 1e9)),
            ]
            done = subprocess.run(
                command,
                cwd=self.checkout / _FOLDER,
                env={**os.environ, "USE_GPU": "no"},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            try:
                if done.returncode == 0:
                    return read_detail(out)
                why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            except LogError as error:
                why = error.what
            raise HarnessError(
                f"The reference harness failed in {scenario}: {why}", f"It was started by: {' '.join(command)}"
            )

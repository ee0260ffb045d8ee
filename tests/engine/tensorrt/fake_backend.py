"""A backend whose runner drives the simulated GPU; a test puts it in the place of "null" in the measured child."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from engine.tensorrt.fake_gpu import FakeContext, FakeGpu

from nvkit.engine.tensorrt.runner import TensorRtRunner
from nvkit.engine.tensorrt.slot import Options
from nvkit.engine.tensorrt.tensors import Tensor

INPUT = ("input", "int8", (3, 4, 4))
OUTPUT = Tensor("output", "int32", ())


class FakeBackend:
    """Reads from the environment on how many GPUs, which call fails, and what a sample is if not `INPUT`."""

    def load(self, folder: Path, settings: Any) -> TensorRtRunner:
        asked = json.loads(os.environ["FAKE_GPU"])
        gpus = [FakeGpu(i, fail_at=asked["fail_at"] if i == 0 else {}) for i in range(asked["gpus"])]
        options = Options(settings.batch_size, **asked["options"])
        name, dtype, shape = asked.get("input", INPUT)
        tensor = Tensor(name, dtype, tuple(shape))
        contexts = [[FakeContext(gpu, tensor.row_bytes) for _ in range(options.copy_streams)] for gpu in gpus]
        return TensorRtRunner(gpus, contexts, [tensor], OUTPUT, options)

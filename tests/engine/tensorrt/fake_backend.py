"""A backend whose runner drives the simulated GPU; a test puts it in the place of "null" in the measured child."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from engine.tensorrt.fake_gpu import FakeContext, FakeGpu, FakeLengthContext

from nvkit.engine.tensorrt.flight import Options
from nvkit.engine.tensorrt.packed import Form, Packed, Padded
from nvkit.engine.tensorrt.runner import PackedRunner, TensorRtRunner
from nvkit.engine.tensorrt.tensors import Tensor

INPUT = ("input", "int8", (3, 4, 4))
OUTPUT = Tensor("output", "int32", ())


class FakeBackend:
    """Reads from the environment on how many GPUs, which call fails, and what a sample is if not `INPUT`.

    Samples of different lengths, at most "longest", are packed or padded as "form" says.
    """

    def load(self, folder: Path, settings: Any) -> TensorRtRunner | PackedRunner:
        asked = json.loads(os.environ["FAKE_GPU"])
        gpus = [FakeGpu(i, fail_at=asked["fail_at"] if i == 0 else {}) for i in range(asked["gpus"])]
        options = Options(settings.batch_size, **asked["options"])
        if "form" in asked:
            return length_runner(gpus, asked["form"], asked["longest"], options, asked["longest"])
        name, dtype, shape = asked.get("input", INPUT)
        tensor = Tensor(name, dtype, tuple(shape))
        contexts = [[FakeContext(gpu, tensor.row_bytes) for _ in range(options.copy_streams)] for gpu in gpus]
        return TensorRtRunner(gpus, contexts, [tensor], OUTPUT, options)


def length_runner(gpus: list[FakeGpu], form: str, longest: int, options: Options, graphs_longest: int) -> PackedRunner:
    """Return a runner of samples of different lengths, "packed" in fp16 or "padded" in fp32."""
    packed = form == "packed"
    made: Form = Packed(("input_ids", "segment_ids"), longest)
    if not packed:
        made = Padded(("input_ids", "input_mask", "segment_ids"), longest)
    dtype, shape = ("float16", (2, 1, 1)) if packed else ("float32", (-1, 2))
    contexts = [
        [FakeLengthContext(gpu, packed=packed, dtype=dtype) for _ in range(options.copy_streams)] for gpu in gpus
    ]
    return PackedRunner(gpus, contexts, made, Tensor("logits", dtype, shape), options, graphs_longest)

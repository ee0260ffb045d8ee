"""The peer of part "offline": onnxruntime alone. `python -m nvkit.bench.bare SPEC` prints the samples/s.

It reads the same engine and samples with numpy and onnxruntime and runs batch after batch in a plain loop, one thread
for each slot. Nothing of nvkit runs inside the loop.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class BareSpec:
    """What to run.

    Attributes:
        model: The engine's ONNX file.
        array: The .npy file of the samples, axis 0 the sample.
        resident: Samples read into memory and used in turn.
        total: Samples to run.
        batch: Samples in a batch.
        slots: Threads that run batches, each with a session.
        threads: Threads of a session.
        warm_up_s: Seconds of inference before the clock starts.
    """

    model: str
    array: str
    resident: int
    total: int
    batch: int
    slots: int
    threads: int
    warm_up_s: float

    def to_json(self) -> str:
        """Return what the child reads."""
        return json.dumps(asdict(self))


def samples_per_second(spec: BareSpec) -> float:
    """Run `spec.total` samples and return the rate."""
    import numpy as np
    import onnxruntime

    samples = np.ascontiguousarray(np.load(spec.array, mmap_mode="r")[: spec.resident])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.threads
    sessions = [
        onnxruntime.InferenceSession(spec.model, options, providers=["CPUExecutionProvider"]) for _ in range(spec.slots)
    ]
    name, outputs = sessions[0].get_inputs()[0].name, [sessions[0].get_outputs()[0].name]
    batches = spec.total // spec.batch
    in_memory = spec.resident // spec.batch

    def loop(slot: int, count: int, until: float) -> None:
        session, done = sessions[slot], 0
        while done < count or time.perf_counter() < until:
            start = (slot + done * spec.slots) % in_memory * spec.batch
            session.run(outputs, {name: samples[start : start + spec.batch]})
            done += 1

    def all_slots(count: int, until: float) -> None:
        shares = [count // spec.slots + (slot < count % spec.slots) for slot in range(spec.slots)]
        threads = [threading.Thread(target=loop, args=(slot, share, until)) for slot, share in enumerate(shares)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    all_slots(0, time.perf_counter() + spec.warm_up_s)
    started = time.perf_counter()
    all_slots(batches, 0.0)
    return batches * spec.batch / (time.perf_counter() - started)


if __name__ == "__main__":
    print(samples_per_second(BareSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))

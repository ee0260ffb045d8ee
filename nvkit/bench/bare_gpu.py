"""The peer of part "gpu": the engine alone. `python -m nvkit.bench.bare_gpu SPEC` prints its figures as JSON.

The input lies on the device, the network is a CUDA graph, nothing is copied, and nobody asks for the results: what
is left is the engine. The harness adds LoadGen, batches, gathering of samples and responses.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

_WARM_UP_S = 2.0


@dataclass(frozen=True)
class BareGpuSpec:
    """What to run.

    Attributes:
        engine: Folder of the engine.
        batch: Samples in a batch.
        streams: Batches in flight; 1 measures latency, one batch after the other.
        seconds: How long to measure.
    """

    engine: str
    batch: int
    streams: int
    seconds: float

    def to_json(self) -> str:
        """Return what the child reads."""
        return json.dumps(asdict(self))


def measure(spec: BareGpuSpec) -> dict[str, Any]:
    """Return {"samples_per_second": rate, "latencies_ms": percentile to time of a batch}."""
    import numpy as np

    from nvkit.engine.tensorrt.contexts import open_contexts, open_gpus
    from nvkit.engine.tensorrt.tensors import tensors_of

    folder = Path(spec.engine)
    card = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    (gpu,) = open_gpus("0")
    contexts = open_contexts(gpu, folder, card, spec.streams)
    inputs, output = tensors_of(card)
    streams = [gpu.stream() for _ in contexts]
    events = [gpu.event(spin=spec.streams == 1, timing=False) for _ in contexts]
    graphs = []
    for context, stream in zip(contexts, streams, strict=True):
        for tensor in (*inputs, output):
            context.bind(tensor.name, gpu.allocate(tensor.row_bytes * spec.batch))
        context.set_batch(spec.batch)
        context.enqueue(stream)
        gpu.finish()
        graphs.append(gpu.capture(stream, partial(context.enqueue, stream)))

    def go_on(seconds: float) -> tuple[float, list[float]]:
        begun = time.perf_counter()
        latencies, done, flying = [], 0, [False] * spec.streams
        while time.perf_counter() - begun < seconds:
            for i in range(spec.streams):
                started = time.perf_counter()
                if flying[i]:
                    gpu.synchronize(events[i])
                    done += 1
                gpu.launch(graphs[i], streams[i])
                gpu.record(events[i], streams[i])
                flying[i] = True
                if spec.streams == 1:
                    gpu.synchronize(events[i])
                    flying[i], done = False, done + 1
                    latencies.append(time.perf_counter() - started)
        gpu.finish()
        return (done + sum(flying)) * spec.batch / (time.perf_counter() - begun), latencies

    go_on(_WARM_UP_S)
    rate, latencies = go_on(spec.seconds)
    figures = {p: float(np.percentile(latencies, p)) * 1e3 for p in (50, 90, 99)} if latencies else {}
    return {"samples_per_second": rate, "latencies_ms": figures}


if __name__ == "__main__":
    print(json.dumps(measure(BareGpuSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))

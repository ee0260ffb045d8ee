"""The peer of part "gpu": the engine alone. `python -m nvkit.bench.bare_gpu SPEC` prints its figures as JSON.

Batches of the harness's own samples lie on the device, each has a CUDA graph of the network, nothing is copied, and
nobody asks for the results: what is left is the engine. The harness adds LoadGen, batching, what brings samples to the
device, and responses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nvkit.engine.base import Array

if TYPE_CHECKING:
    from nvkit.engine.tensorrt.cuda import Gpu, Handle
    from nvkit.engine.tensorrt.flight import Context

_WARM_UP_S = 2.0
_BATCHES = 24  # of samples of different lengths: each needs memory, a CUDA graph of BERT-large tens of MB
_SEED = 1


@dataclass(frozen=True)
class BareGpuSpec:
    """What to run.

    Attributes:
        engine: Folder of the engine.
        arrays: Input name to the .npy file of the samples.
        lengths: The .npy file of their lengths, where these differ; else None.
        resident: Samples to take batches from.
        batch: Samples in a batch.
        streams: Batches in flight; 1 measures latency, one batch after the other.
        seconds: How long to measure.
        sorted: Whether batches are of samples of nearly one length, as in Offline.
    """

    engine: str
    arrays: dict[str, str]
    lengths: str | None
    resident: int
    batch: int
    streams: int
    seconds: float
    sorted: bool

    def to_json(self) -> str:
        """Return what the child reads."""
        return json.dumps(asdict(self))


def batches(spec: BareGpuSpec) -> list[list[int]]:
    """Return the samples of each batch.

    Samples of one length make a batch for each stream. Of different lengths they make `_BATCHES`, each sample equally
    often, which are cut from all samples in order of length, the longest first, or in random order.
    """
    if spec.lengths is None:
        return [
            [(n + stream * spec.batch) % spec.resident for n in range(spec.batch)] for stream in range(spec.streams)
        ]
    lengths = np.load(spec.lengths)[: spec.resident]
    count = _BATCHES * spec.batch
    random = np.random.default_rng(_SEED)
    rounds = [random.permutation(spec.resident) for _ in range(-(-count // spec.resident))]
    drawn = np.concatenate(rounds)[:count]
    if spec.sorted:
        drawn = drawn[np.argsort(-lengths[drawn], kind="stable")]
    made: list[list[int]] = drawn.reshape(_BATCHES, spec.batch).tolist()
    return [made[number] for number in random.permutation(_BATCHES)]


def measure(spec: BareGpuSpec) -> dict[str, Any]:
    """Return {"samples_per_second": rate, "latencies_ms": percentile to time of a batch}."""
    from nvkit.engine.tensorrt.contexts import open_contexts, open_gpus

    folder = Path(spec.engine)
    card = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    (gpu,) = open_gpus("0")
    return measure_on(gpu, open_contexts(gpu, folder, card, spec.streams), card, spec)


def measure_on(gpu: Gpu, contexts: list[Context], card: dict[str, Any], spec: BareGpuSpec) -> dict[str, Any]:
    """Do the same with open contexts, one for each stream."""
    from nvkit.engine.tensorrt.packed import form_of

    put = _equal(gpu, card, spec) if form_of(card) is None else _packed(gpu, card, spec)
    streams = [gpu.stream() for _ in contexts]
    events = [gpu.event(spin=spec.streams == 1, timing=False) for _ in contexts]
    graphs: list[list[Handle]] = [[] for _ in contexts]
    count = len(batches(spec))
    for number, rows in enumerate(batches(spec)):
        at = number % spec.streams
        put(contexts[at], rows)
        contexts[at].enqueue(streams[at])  # TensorRT does what a new shape needs in the first call
        gpu.finish()
        graphs[at].append(gpu.capture(streams[at], partial(contexts[at].enqueue, streams[at])))

    def go_on(seconds: float) -> tuple[float, list[float]]:
        begun = time.perf_counter()
        latencies, launched = [], 0
        while time.perf_counter() - begun < seconds or launched % count:  # every batch equally often
            for i in range(spec.streams):
                started = time.perf_counter()
                if launched >= spec.streams > 1:
                    gpu.synchronize(events[i])
                gpu.launch(graphs[i][launched // spec.streams % len(graphs[i])], streams[i])
                gpu.record(events[i], streams[i])
                launched += 1
                if spec.streams == 1:
                    gpu.synchronize(events[i])
                    latencies.append(time.perf_counter() - started)
        gpu.finish()
        return launched * spec.batch / (time.perf_counter() - begun), latencies

    go_on(_WARM_UP_S)
    rate, latencies = go_on(spec.seconds)
    figures = {p: float(np.percentile(latencies, p)) * 1e3 for p in (50, 90, 99)} if latencies else {}
    return {"samples_per_second": rate, "latencies_ms": figures}


def _equal(gpu: Gpu, card: dict[str, Any], spec: BareGpuSpec) -> Callable[[Context, list[int]], None]:
    """Return what puts a batch of samples of one shape onto the device."""
    from nvkit.engine.tensorrt.tensors import tensors_of

    inputs, output = tensors_of(card)
    arrays = {name: np.load(path, mmap_mode="r") for name, path in spec.arrays.items()}

    def put(context: Context, rows: list[int]) -> None:
        for tensor in inputs:
            _bind(gpu, context, tensor.name, tensor.laid_out(arrays[tensor.name][rows]))
        context.bind(output.name, gpu.allocate(output.row_bytes * len(rows)))
        context.set_batch(len(rows))

    return put


def _packed(gpu: Gpu, card: dict[str, Any], spec: BareGpuSpec) -> Callable[[Context, list[int]], None]:
    """Return what puts a batch of samples of different lengths onto the device."""
    from nvkit.engine.tensorrt.packed import CUMULATIVE, Extent, form_of
    from nvkit.engine.tensorrt.packed_slot import Tokens
    from nvkit.engine.tensorrt.tensors import tensors_of

    form, (_, output) = form_of(card), tensors_of(card)
    assert form is not None
    assert spec.lengths is not None
    tokens = Tokens(form)
    arrays = {name: np.load(path, mmap_mode="r")[: spec.resident] for name, path in spec.arrays.items()}
    tokens.stage(arrays, np.load(spec.lengths)[: spec.resident])
    width = int(np.prod([size for size in output.shape if size > 0])) * np.dtype(output.dtype).itemsize

    def put(context: Context, rows: list[int]) -> None:
        parts, lengths = tokens.parts(rows)
        extent = Extent(int(lengths.sum()), len(rows), int(lengths.max()))
        block = np.zeros((len(form.sources), form.rows(extent)), np.int32)
        ends = np.zeros(len(rows) + 1, np.int32)
        form.fill(block, ends, parts, lengths, extent)
        shapes = form.shapes(extent)
        values = {**dict(zip(form.sources, block, strict=True)), CUMULATIVE: ends}
        for name, shape in shapes.items():
            _bind(gpu, context, name, values.get(name, np.zeros(shape, np.int32)))
        context.bind(output.name, gpu.allocate(form.rows(extent) * width))
        context.set_shapes(shapes)

    return put


def _bind(gpu: Gpu, context: Context, name: str, value: Array) -> None:
    address = gpu.allocate(value.nbytes)
    gpu.upload(address, value)
    context.bind(name, address)


if __name__ == "__main__":
    print(json.dumps(measure(BareGpuSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))

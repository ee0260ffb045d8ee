"""Part "lengths": BERT's Offline samples/s with batches of like lengths, over the same engine on padded ones."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import nvkit
from nvkit.bench.children import performance_test
from nvkit.bench.figures import against_peer, table
from nvkit.bench.offline import config_notes
from nvkit.config import RunConfig
from nvkit.engine.cpu import slots_of
from nvkit.progress import tqdm
from nvkit.results.loadgen_log import DetailLog
from nvkit.runs import open_run
from nvkit.store import Store
from nvkit.tables import Table

BAR = 1.5
_PAIRS = 3


def measure(store: Store, repeat: int) -> Table:
    """Compare on the int8 engine of bert-99 of the cpu profile, made by the stages if the store lacks it.

    Raises:
        HarnessError: a child failed.
    """
    config = nvkit.configure("cpu", "bert-99", scenario="Offline", mode="performance", quick=True)
    return compare(config, store, repeat * _PAIRS)


def compare(config: RunConfig, store: Store, pairs: int) -> Table:
    """Compare the Offline test of a configuration with one whose samples all say that they have the greatest length.

    Engine, batch, slots and threads are the same, and so is the harness: only what it knows of lengths differs.

    Args:
        config: With scenario Offline, of a benchmark whose samples have lengths.
        store: Its parent folder is the outputs folder of the run that makes the engine.
        pairs: Runs of each, in turn.
    """
    run = open_run(config, store.root.parent)
    engine = nvkit.stages.build(config, run).engines["Offline"].path
    samples = nvkit.stages.preprocess(config, run).samples
    lengths = samples.lengths_of(range(samples.count))
    assert lengths is not None
    longest = next(iter(samples.open().values())).shape[1]
    settings = config.scenarios["Offline"]
    # Each sample once: then both sides run the same ones, and all of them.
    exact = settings.model_copy(
        update={
            "min_duration": 0,
            "min_query_count": samples.count,
            "performance_sample_count": samples.count,
            "offline_expected_qps": 0.001,
            "trace_samples": 0,
        }
    )

    ours: list[float] = []
    peer: list[float] = []
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
        np.save(Path(folder) / "lengths.npy", np.full_like(lengths, longest))
        padded = replace(samples, lengths=Path(folder) / "lengths.npy")
        with tqdm(total=2 * pairs, desc="bench lengths", unit="run") as bar:
            for _ in range(pairs):
                for rates, given in ((peer, padded), (ours, samples)):
                    rates.append(_rate(performance_test("Offline", exact, engine, given, config.package)))
                    bar.update()
    words = (
        f"{settings.precision}, batch {settings.batch_size}, {slots_of(settings)} slots; {samples.count} samples of "
        f"{lengths.min()} to {lengths.max()} tokens, {lengths.mean():.0f} on average; {pairs} pairs"
    )
    figure = against_peer("Offline, batches of like lengths over padded ones", "samples/s", ours, peer, BAR, words)
    return table("Lengths: what is saved on padding, both on onnxruntime", [figure], config_notes(config))


def _rate(log: DetailLog) -> float:
    return float(log.require("result_samples_per_second"))

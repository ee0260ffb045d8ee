"""Part "offline": Offline samples/s through LoadGen and the SUT, over onnxruntime alone on the same work."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import nvkit
from nvkit.bench.bare import BareSpec
from nvkit.bench.children import performance_test
from nvkit.bench.figures import against_peer, table
from nvkit.config import RunConfig
from nvkit.engine.cpu import slots_of
from nvkit.errors import HarnessError
from nvkit.progress import tqdm
from nvkit.runs import open_run
from nvkit.store import Store
from nvkit.system import usable_cores
from nvkit.tables import Table

BAR = 0.98
_PAIRS = 9  # many short ones: the median of neighbours bears what else a shared machine does
_SECONDS = 4.0


def measure(store: Store, repeat: int) -> Table:
    """Compare on the full-size synthetic ResNet-50 int8 engine, made by the stages if the store lacks it.

    Raises:
        HarnessError: a child failed.
    """
    config = nvkit.configure("cpu", scenario="Offline", mode="performance", quick=True)
    return compare(config, store, repeat * _PAIRS, _SECONDS)


def compare(config: RunConfig, store: Store, pairs: int, seconds: float) -> Table:
    """Compare the Offline test of a configuration with the bare loop at the same batch, slots, threads and samples.

    Args:
        config: With scenario Offline.
        store: Its parent folder is the outputs folder of the run that makes the engine.
        pairs: Runs of each, in turn.
        seconds: Length of a run, about.
    """
    run = open_run(config, store.root.parent)
    engine = nvkit.stages.build(config, run).engines["Offline"].path
    samples = nvkit.stages.preprocess(config, run).samples
    (array,) = samples.arrays.values()
    settings = config.scenarios["Offline"]
    slots, batch = slots_of(settings), settings.batch_size
    bare = BareSpec(
        model=str((engine / "engine.onnx").resolve()),
        array=str(array.resolve()),
        resident=min(settings.performance_sample_count, samples.count),
        total=batch * slots,
        batch=batch,
        slots=slots,
        threads=settings.threads or max(1, usable_cores() // slots),
        warm_up_s=settings.warmup_duration,
    )
    ours, peer = [], []
    with tqdm(total=2 * pairs + 1, desc="bench offline", unit="run") as bar:
        rate = _bare(BareSpec(**{**vars(bare), "total": 4 * batch * slots}))
        # Whole batches on every slot: a last one that only one slot has would cost both sides differently.
        total = max(1, round(rate * seconds / (batch * slots))) * batch * slots
        sized = BareSpec(**{**vars(bare), "total": total})
        exact = settings.model_copy(
            update={"min_duration": 0, "min_query_count": total, "offline_expected_qps": 0.001, "trace_samples": 0}
        )
        bar.update()
        for _ in range(pairs):
            peer.append(_bare(sized))
            bar.update()
            ours.append(float(performance_test("Offline", exact, engine, samples).require("result_samples_per_second")))
            bar.update()
    words = (
        f"{settings.precision}, batch {batch}, {slots} slots of {bare.threads} threads, {total} samples a run, "
        f"{bare.resident} resident; {pairs} pairs"
    )
    figure = against_peer("Offline through LoadGen over bare onnxruntime", "samples/s", ours, peer, BAR, words)
    return table("Offline: the harness over the engine alone", [figure], config_notes(config))


def config_notes(config: RunConfig) -> tuple[str, ...]:
    """Return what a reader must know of the model that was run."""
    width = config.shared.synthetic_width
    size = "full size" if width == 1.0 else f"{width:g} of the true width"
    return (f"{config.title}, {size}, synthetic weights, generated data, profile {config.profile}.",)


def _bare(spec: BareSpec) -> float:
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
        file = Path(folder) / "spec.json"
        file.write_text(spec.to_json(), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "nvkit.bench.bare", str(file)], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HarnessError(
            f"The bare onnxruntime loop failed: {last}", "Run 'nvkit doctor'; is there memory for a second engine?"
        )
    return float(done.stdout)

"""The measured child: `python -m nvkit.harness SPEC` runs one LoadGen test in a process of its own.

It prints one JSON line for each phase and twice a second while the test runs, writes LoadGen's logs and `child.json`
beside the spec, and exits with 0. On an error it writes `error.json` and exits with 4.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_REPORT_S = 0.5


def main(spec_file: Path) -> None:
    """Run the test that the spec describes (see `nvkit.harness.launch.TestSpec`)."""
    folder = spec_file.parent
    _die_with_parent()
    try:
        _run(json.loads(spec_file.read_text(encoding="utf-8")), folder)
    except BaseException as error:
        _fail(folder, error)


def _run(spec: dict[str, Any], folder: Path) -> None:
    import mlperf_loadgen as lg

    from nvkit.benchmarks.base import SampleSet, benchmark
    from nvkit.config.settings import Settings
    from nvkit.engine import backend
    from nvkit.harness.expect import capacity, with_expectations
    from nvkit.harness.launch import AUDIT_FILE
    from nvkit.harness.predict import predict
    from nvkit.harness.qsl import QuerySampleLibrary
    from nvkit.harness.settings import EXPECTATIONS, expectation, log_settings, test_settings
    from nvkit.harness.sut import sut_for
    from nvkit.harness.warmup import warm_up
    from nvkit.results.loadgen_log import read_detail
    from nvkit.store import write_json

    settings = Settings.model_validate(spec["settings"])
    scenario, mode = spec["scenario"], spec["mode"]
    samples = SampleSet(
        {name: Path(path) for name, path in spec["samples"]["arrays"].items()},
        spec["samples"]["count"],
        spec["samples"]["digest"],
        lengths=Path(lengths) if (lengths := spec["samples"]["lengths"]) else None,
    )
    _say(phase="loading the engine")
    runner = backend(settings.backend).load(Path(spec["engine"]), settings)
    encode = benchmark(spec["package"]).encode

    _say(phase="warming up")
    warmed = warm_up(runner, samples, settings.warmup_duration)
    settings = with_expectations(settings, scenario, warmed.batch_s, warmed.batch, runner.slots)
    per_second = capacity(warmed.batch_s, warmed.batch, runner.slots)
    predicted = predict(settings, scenario, mode, samples.count, per_second)
    _say(phase="predicted", expectation=expectation(settings, scenario), **asdict(predicted))

    library = QuerySampleLibrary(samples, runner, settings.performance_sample_count)
    sut = sut_for(scenario, runner, encode, library, settings, lambda error: _fail(folder, error), warmed.batch_s)
    trace = mode != "accuracy" and predicted.samples <= settings.trace_samples
    test = test_settings(settings, scenario, mode, samples.count)
    sut.start()
    handle, qsl = lg.ConstructFastSUT(sut.issue, sut.flush), library.construct()
    started, done = time.perf_counter(), threading.Event()

    def report() -> None:
        while not done.wait(_REPORT_S):
            seconds = time.perf_counter() - started
            _say(phase="testing", completed=sut.completed, seconds=seconds, expected=predicted.samples)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    audit_config = str(folder / AUDIT_FILE)  # never one that happens to lie in a working directory
    lg.StartTestWithLogSettings(handle, qsl, test, log_settings(folder, trace=trace), audit_config)
    seconds = time.perf_counter() - started
    done.set()
    reporter.join()
    sut.stop()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(handle)
    facts = runner.facts()
    runner.close()
    begin, end = read_detail(folder).span
    write_json(
        folder / "child.json",
        {
            "completed": sut.completed,
            "batches": sut.batches,
            "deferred": sut.deferred,
            "seconds": seconds,
            "begin": begin,
            "end": end,
            "warm_up": asdict(warmed),
            "expectations": {key: getattr(settings, key) for key in EXPECTATIONS[scenario]},
            "predicted": asdict(predicted),
            "trace": trace,
            "slots": runner.slots,
            "max_batch": runner.max_batch,
            "runner": facts,
        },
    )


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def _fail(folder: Path, error: BaseException) -> None:
    """Write what went wrong and end the process at once: LoadGen cannot be told to stop waiting."""
    import traceback

    from nvkit.errors import NvkitError

    fix = error.fix if isinstance(error, NvkitError) else ""
    what = error.what if isinstance(error, NvkitError) else f"{type(error).__name__}: {error}"
    traceback.print_exception(error)
    sys.stderr.flush()
    try:
        (folder / "error.json").write_text(json.dumps({"what": what, "fix": fix}), encoding="utf-8")
    finally:
        os._exit(4)


def _die_with_parent() -> None:
    """Ask Linux to end this process when the notebook kernel or the driver that started it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # LoadGen holds the main thread; Python could not react
    main(Path(sys.argv[1]))

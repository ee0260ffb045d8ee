"""Every figure again from the raw logs: latencies, results, the comparison, the plots, the accuracy."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.benchmarks.base import benchmark
from nvkit.errors import DataError
from nvkit.record.findings import Outcome
from nvkit.record.opened import Record
from nvkit.results.loadgen_log import DetailLog, read_detail
from nvkit.results.percentiles import check_against
from nvkit.results.raw_log import TRACE_FILE, RawLatencies, read_accuracy, read_trace
from nvkit.results.summary import summarise
from nvkit.stages.report import comparisons, plots

_DIGITS = 1e-5  # LoadGen prints six
_DRAWING = ("matplotlib", "numpy", "pillow")


def latencies(record: Record) -> Outcome:
    """LoadGen's latencies, percentiles, counts and rates follow from the latency of every sample."""
    problems, manual, checked = [], [], 0
    for test in record.tests:
        folder = record.root / test.logs
        detail = read_detail(folder)
        trace = folder / TRACE_FILE
        if not detail.has_result:
            continue
        if not trace.is_file() or not trace.stat().st_size:
            manual.append(f"{test.logs} has no trace, as long tests have none: its figures rest on LoadGen's word")
            continue
        raw = read_trace(folder)
        rows = check_against(detail, raw)
        checked += len(rows)
        problems += [f"{test.logs}: {r.name} is {r.loadgen}, the trace gives {r.ours}" for r in rows if not r.equal]
        for key, ours in _rates(detail, raw):
            checked += 1
            if abs(float(detail.require(key)) - ours) > _DIGITS * ours:
                problems.append(f"{test.logs}: {key} is {detail.get(key)}, the trace gives {ours:.6g}")
    return Outcome.of(problems, f"{checked} figures recomputed from the traces", manual)


def results(record: Record) -> Outcome:
    """The stored results, which the report shows, are those of the raw logs."""
    problems = []
    for test in record.tests:
        said = test.summary
        rules = record.here.official[said.scenario]
        found = summarise(record.root / test.logs, said.round, said.notes, rules=rules, accuracy=said.accuracy)
        ours, stored = _plain(found.to_json()), _plain(said.to_json())
        problems += [
            f"{test.stage}: {field} is {_short(stored[field])}, the logs give {_short(ours[field])}"
            for field in ours
            if ours[field] != stored[field]
        ]
        if said.round != record.config["round"]:
            problems.append(f"{test.stage}: judged by {said.round}, the parameters say {record.config['round']}")
        if record.stages.get(test.stage) != _plain(test.model_dump(mode="json")):
            problems.append(f"stages/{test.stage}.json is not what stages/run.json says of it")
    if record.stages["report"]["tests"] != record.stages["run"]["tests"]:
        problems.append("stages/report.json reports other tests than stages/run.json")
    return Outcome.of(problems, f"the results of {len(record.tests)} tests are those of their logs")


def comparison(record: Record) -> Outcome:
    """The comparison with published results follows from the results and the published table."""
    tree, where = record.tree
    system = record.results["setup"].system
    framework = getattr(record.results["run"], "framework", "")
    folder = tree / "parameters" if tree else None
    found = comparisons(record.here, system, record.tests, framework, folder)
    same = [_plain(item) for item in found] == [_plain(item) for item in record.results["report"].comparisons]
    if not same and tree is None:
        return Outcome(manual=[f"it is another with this nvkit's table of published results, and {where}"])
    problems = [] if same else ["stages/report.json compares otherwise than its results do"]
    return Outcome.of(problems, f"{len(found)} comparisons with published results")


def pictures(record: Record) -> Outcome:
    """The plots are what the raw logs look like, drawn again."""
    from nvkit.results.plots import save

    folder = record.work / "plots"
    folder.mkdir()
    differing, count = [], 0
    for name, figure in plots(record.root, record.tests, " · ".join(record.results["run"].notes)).items():
        for drawn in save(figure, folder, name):
            count += 1
            there = record.root / "plots" / drawn.name
            if not there.is_file():
                differing.append(f"plots/{drawn.name} is missing")
            elif not _same_picture(drawn, there):
                differing.append(f"plots/{drawn.name} is not of these logs")
    if differing and (others := _drawn_otherwise(record)):
        return Outcome(manual=[f"look at them: drawn here by other {others}, so that {len(differing)} differ"])
    return Outcome.of(differing, f"{count} plots drawn again from the logs are equal")


def accuracy(record: Record) -> Outcome:
    """The accuracy is that of the logged responses, and reaches the target where the run claims one."""
    problems, manual, checked = [], [], 0
    for test in record.tests:
        said = test.summary.accuracy
        if said is None:
            continue
        line = (record.root / test.logs / "accuracy.txt").read_text(encoding="utf-8").splitlines()
        if "line" in said and said["line"] not in line:
            problems.append(f"{test.logs}/accuracy.txt is not what the report says")
        if record.config["implementation"] != "nvkit":
            manual.append(f"{test.logs} was scored by MLCommons' script; run it again on the log")
            continue
        bench, first = benchmark(record.here.package), record.results["setup"]
        data = bench.without(first.data, record.results["preprocess"].samples.skipped)
        try:
            found = bench.score(read_accuracy(record.root / test.logs), data)
        except (DataError, OSError) as error:
            manual.append(f"{test.logs}: not scored again, the data set is not here ({error})")
            continue
        checked += 1
        if (found.metric, found.value, found.count) != (said["metric"], said["value"], said["count"]):
            problems.append(f"{test.logs}: {said['metric']} is {said['value']}, the log gives {found.value}")
        real = not first.data.generated and not first.model.synthetic and not record.config["quick"]
        if real and found.value < record.here.rules.accuracy_target:
            problems.append(f"{test.logs}: {found.value:g} is below the target {record.here.rules.accuracy_target:g}")
    return Outcome.of(problems, f"{checked} accuracy logs scored again", manual)


def _rates(detail: DetailLog, raw: RawLatencies) -> Iterator[tuple[str, float]]:
    """Yield the rates of a test as LoadGen's results.cc defines them, in samples/s."""
    if detail.mode == "SubmissionRun":
        raw = raw.last(detail.sample_count)
    count = len(raw.latency_ns)
    if detail.scenario == "Offline":
        yield "result_samples_per_second", count / (int(raw.latency_ns.max()) / 1e9)
    if detail.scenario == "Server" and count > 1:
        start = int(raw.scheduled_ns[0])
        yield "result_scheduled_samples_per_sec", (count - 1) / ((int(raw.scheduled_ns[-1]) - start) / 1e9)
        done = int(raw.completed_ns[-1])
        yield "result_completed_samples_per_sec", (count - 1) / ((done - start) / 1e9)


def _same_picture(one: Path, other: Path) -> bool:
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix != ".png":
        return False
    from matplotlib.image import imread

    try:
        return bool(np.array_equal(imread(one), imread(other)))
    except (OSError, SyntaxError, ValueError):  # what Pillow raises of a file that is no picture
        return False


def _drawn_otherwise(record: Record) -> str:
    """Say what of the drawing is not as it was where the record was made; empty if all is."""
    here = {name: metadata.version(name) for name in _DRAWING}
    there = {name: record.packages.get(name, {}).get("version") for name in _DRAWING}
    differing = [f"{name} ({there[name]}, here {here[name]})" for name in _DRAWING if here[name] != there[name]]
    machine = record.stages["setup"]["system"]["cpu"]["architecture"]
    if machine != platform.machine():
        differing.append(f"processors ({machine}, here {platform.machine()})")
    if not record.same_code:
        differing.append("nvkit")
    return ", ".join(differing)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda item: getattr(item, "__dict__", str(item))))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

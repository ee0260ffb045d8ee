"""What the GPUs did during a test: power, clocks, temperature, memory, throttling, other processes.

A process of its own asks the driver (nvidia-ml-py) twice a second and writes one JSON line for each GPU, so that the
measured process never pays for it and a crash of either leaves the other's evidence. `judge` says in words what the
figures mean for the result.

    python -m nvkit.telemetry FILE HZ PID    samples until it is terminated; PID and its children are not foreign
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.errors import LogError
from nvkit.tables import Table

FILE_NAME = "telemetry.jsonl"
#: Bits of NVML's clock event reasons (nvml.h, nvmlClocksEventReason*) that slow a GPU down, in words.
THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}
_SHARE = 0.05  # of the test's time; less is start and end
_CLOCK_DROP = 0.95


@dataclass(frozen=True)
class Sample:
    """One GPU at one moment; None where the driver does not say.

    Attributes:
        time: Seconds since the epoch.
        gpu: The driver's number of the GPU.
        power_w: Power drawn, W.
        limit_w: Enforced power limit, W.
        sm_clock_mhz: Clock of the SMs, MHz.
        memory_clock_mhz: Clock of the memory, MHz.
        temperature_c: Temperature of the GPU, degrees Celsius.
        memory_gib: Memory in use, GiB.
        busy_percent: Share of time with a kernel running.
        throttling: Reasons why the clocks are lower than they could be.
        own: Whether a process of this test is on the GPU.
        foreign: Processes on the GPU that are not of this test.
    """

    time: float
    gpu: int
    power_w: float | None
    limit_w: float | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    memory_gib: float | None
    busy_percent: int | None
    throttling: tuple[str, ...]
    own: bool
    foreign: int


@dataclass(frozen=True)
class Telemetry:
    """What the samples of one test say.

    Attributes:
        gpus: The driver's numbers of the GPUs that the test ran on.
        begin: When the first query was issued, seconds since the epoch.
        seconds: Length of the test.
        power_w: Mean power of all of them together, W; None if the driver does not say.
        joules_per_sample: Energy of a sample, J.
        clock_mhz: Median SM clock.
        temperature_c: Highest temperature.
        memory_gib: Most memory in use.
        findings: What a reader must know, each with the command that would mend it; empty if all was well.
    """

    gpus: tuple[int, ...]
    begin: float
    seconds: float
    power_w: float | None
    joules_per_sample: float | None
    clock_mhz: int | None
    temperature_c: int | None
    memory_gib: float | None
    findings: tuple[str, ...]

    def row(self) -> list[Any]:
        """Return the figures as a row under `HEADINGS`."""
        energy = None if self.joules_per_sample is None else float(f"{self.joules_per_sample:.4g}")
        power = None if self.power_w is None else round(self.power_w)
        return [len(self.gpus), power, energy, self.clock_mhz, self.temperature_c, self.memory_gib]


HEADINGS = ["GPUs", "mean W", "J/sample", "SM MHz", "hottest C", "GiB used"]


@contextmanager
def recorded(folder: Path, hz: float) -> Iterator[None]:
    """Sample every GPU into `folder`/telemetry.jsonl while the block runs; 0 Hz samples nothing.

    Telemetry is evidence, not part of the measurement: if it cannot be had (no driver, no nvidia-ml-py), the file is
    not there, and the test runs all the same.
    """
    if hz <= 0:
        yield
        return
    from nvkit.system import python_path

    command = [sys.executable, "-m", "nvkit.telemetry", str(folder.resolve() / FILE_NAME), str(hz), str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, cwd=folder) as sampler:
        try:
            yield
        finally:
            sampler.terminate()


def read(folder: Path) -> list[Sample]:
    """Return the samples of a test's folder in the order of time; empty if nothing was recorded.

    Raises:
        LogError: the file is damaged (a last line that was cut off is left out).
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    samples = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            values = json.loads(line)
            samples.append(Sample(**{**values, "throttling": tuple(values["throttling"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise LogError(f"{path}, line {number}: {error}.", "The record is damaged; run the test again.") from None
    return samples


def judge(samples: Sequence[Sample], begin: float, end: float, queries: int) -> Telemetry | None:
    """Say what the samples between `begin` and `end` (seconds since the epoch) mean; None if there are none.

    Args:
        samples: From `read`.
        begin: When the first query was issued.
        end: When the last response came.
        queries: Samples (LoadGen's sense) that were answered.
    """
    inside = [s for s in samples if begin <= s.time <= end]
    # A driver inside a container need not name processes; then the GPUs that worked are taken for the test's.
    working = sorted({s.gpu for s in inside if s.own} or {s.gpu for s in inside if (s.busy_percent or 0) > 0})
    if not working:
        return None
    mine = {gpu: [s for s in inside if s.gpu == gpu] for gpu in working}
    powers = [_values(found, "power_w") for found in mine.values()]
    power = sum(float(np.mean(values)) for values in powers) if all(powers) else None
    clocks = [value for found in mine.values() for value in _values(found, "sm_clock_mhz")]
    heat = [value for found in mine.values() for value in _values(found, "temperature_c")]
    memory = [value for found in mine.values() for value in _values(found, "memory_gib")]
    seconds = end - begin
    return Telemetry(
        gpus=tuple(working),
        begin=begin,
        seconds=seconds,
        power_w=power,
        joules_per_sample=power * seconds / queries if power is not None and queries else None,
        clock_mhz=int(np.median(clocks)) if clocks else None,
        temperature_c=int(max(heat)) if heat else None,
        memory_gib=round(max(memory), 2) if memory else None,
        findings=tuple(finding for gpu, found in mine.items() for finding in _findings(gpu, found)),
    )


def table(named: Sequence[tuple[str, Telemetry]]) -> Table:
    """Return one row for each test, the findings, and what the energy is and is not."""
    rows = [[name, *telemetry.row()] for name, telemetry in named]
    notes = [f"{name}: {finding}" for name, telemetry in named for finding in telemetry.findings]
    calm = "Nothing slowed the GPUs down: no throttling, steady clocks, no other process."
    energy = "Power and energy are NVML's figures of the GPUs alone; they are not an MLPerf power measurement."
    told = any(telemetry.power_w is not None for _, telemetry in named)
    return Table(["test", *HEADINGS], rows, "GPUs during the tests", [*(notes or [calm]), *([energy] if told else [])])


def _values(samples: Sequence[Sample], key: str) -> list[float]:
    return [value for sample in samples if (value := getattr(sample, key)) is not None]


def _findings(gpu: int, samples: Sequence[Sample]) -> Iterator[str]:
    advice = {
        "power cap": f"a higher limit, if the card allows one: sudo nvidia-smi -i {gpu} -pl WATTS",
        "power brake": "check the power supply and the chassis",
    }
    for reason in THROTTLING.values():
        share = float(np.mean([reason in sample.throttling for sample in samples]))
        if share > _SHARE:
            what = advice.get(
                reason, f"cool it better, or lock a clock that it keeps: sudo nvidia-smi -i {gpu} -lgc MHZ"
            )
            limit = next(iter(_values(samples, "limit_w")), None)
            at = f" of {limit:.0f} W" if reason == "power cap" and limit else ""
            yield f"GPU {gpu} was slowed by its {reason}{at} for {share:.0%} of the test; {what}."
    clocks = _values(samples, "sm_clock_mhz")
    if len(clocks) > 3 and np.quantile(clocks, 0.05) < _CLOCK_DROP * max(clocks):
        low, high = np.quantile(clocks, 0.05), max(clocks)
        yield (
            f"The clock of GPU {gpu} varied from {low:.0f} to {high:.0f} MHz; for equal runs lock it: "
            f"sudo nvidia-smi -i {gpu} -lgc {low:.0f}."
        )
    share = float(np.mean([sample.foreign > 0 for sample in samples]))
    if share > 0:
        yield (
            f"Another process was on GPU {gpu} for {share:.0%} of the test: nvidia-smi names it; end it and run again."
        )


def main(path: Path, hz: float, pid: int) -> None:
    """Sample until terminated; end at once where there is no driver."""
    import pynvml

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    with path.open("w", encoding="utf-8") as file:
        due = time.time()
        while os.getppid() == pid:  # the driver's end is this process's end too
            family = _family(pid)
            for number, handle in enumerate(handles):
                file.write(json.dumps(asdict(_ask(pynvml, number, handle, family))) + "\n")
            file.flush()
            due = max(due + 1 / hz, time.time())
            time.sleep(max(0.0, due - time.time()))


def _ask(pynvml: Any, number: int, handle: Any, family: frozenset[int]) -> Sample:
    def answer(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except pynvml.NVMLError:
            return None

    def scaled(value: float | None, unit: float) -> float | None:
        return None if value is None else round(value / unit, 3)

    memory = answer(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    busy = answer(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    bits = answer(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
    running = answer(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
    return Sample(
        time=time.time(),
        gpu=number,
        power_w=scaled(answer(lambda: pynvml.nvmlDeviceGetPowerUsage(handle)), 1000),
        limit_w=scaled(answer(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)), 1000),
        sm_clock_mhz=answer(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        memory_clock_mhz=answer(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
        temperature_c=answer(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        memory_gib=scaled(memory.used, 2**30) if memory else None,
        busy_percent=busy.gpu if busy else None,
        throttling=tuple(text for bit, text in THROTTLING.items() if bits & bit),
        own=any(process.pid in family for process in running),
        foreign=sum(process.pid not in family for process in running),
    )


def _family(pid: int) -> frozenset[int]:
    import psutil

    try:
        return frozenset({pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))})
    except psutil.Error:
        return frozenset({pid})


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))

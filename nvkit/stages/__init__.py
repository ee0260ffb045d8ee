"""The stages of a reproduction. Each takes the configuration and the run folder and returns its result.

A stage whose result is already in the run folder returns that one, marked as reused; `fresh=True` does it again. A
stage first does those before it that are missing. The same functions serve the notebooks, the command line and the
tests, and both implementations: nvkit's own stages are in the modules beside this one, those of NVIDIA's code in
`nvkit.interop.nvidia.stages`.
"""

from __future__ import annotations

from typing import Any

from nvkit.config import RunConfig
from nvkit.runs import RunFolder
from nvkit.stages.build import BuildResult
from nvkit.stages.build import build as _build
from nvkit.stages.calibrate import CalibrateResult
from nvkit.stages.calibrate import calibrate as _calibrate
from nvkit.stages.preprocess import PreprocessResult
from nvkit.stages.preprocess import preprocess as _preprocess
from nvkit.stages.report import ReportResult
from nvkit.stages.report import report as _report
from nvkit.stages.run import RunResult, TestResult
from nvkit.stages.run import run as _run
from nvkit.stages.setup import SetupResult
from nvkit.stages.setup import setup as _setup

__all__ = [
    "BuildResult",
    "CalibrateResult",
    "PreprocessResult",
    "ReportResult",
    "RunResult",
    "SetupResult",
    "TestResult",
    "build",
    "calibrate",
    "preprocess",
    "report",
    "run",
    "setup",
]


def setup(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> Any:
    """Record the machine and get what the run needs.

    Returns:
        A SetupResult (data set, model); an NvidiaSetupResult (checkout) for implementation nvidia-original.
    """
    return _stage("setup", _setup, config, run, fresh)


def preprocess(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> Any:
    """Turn the files of the data set into arrays.

    Returns:
        A PreprocessResult; a StepsResult (commands) for implementation nvidia-original.
    """
    return _stage("preprocess", _preprocess, config, run, fresh)


def calibrate(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> Any:
    """Find activation ranges, where the engine needs them.

    Returns:
        A CalibrateResult; a StepsResult (commands) for implementation nvidia-original.
    """
    return _stage("calibrate", _calibrate, config, run, fresh)


def build(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> Any:
    """Build the engine of every scenario.

    Returns:
        A BuildResult; an NvidiaBuildResult (plan files) for implementation nvidia-original.
    """
    return _stage("build", _build, config, run, fresh)


def run(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> RunResult:
    """Run the LoadGen tests that are not finished yet (all with `fresh`)."""
    result: RunResult = _stage("run", _run, config, run, fresh)
    return result


def report(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> ReportResult:
    """Compare the results with published ones and draw the plots."""
    result: ReportResult = _stage("report", _report, config, run, fresh)
    return result


def _stage(name: str, own: Any, config: RunConfig, run: RunFolder, fresh: bool) -> Any:
    if config.implementation == "nvidia-original":
        from nvkit.interop.nvidia import stages

        own = getattr(stages, name)
    return own(config, run, fresh=fresh)

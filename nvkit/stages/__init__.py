"""The stages of a reproduction. Each takes the configuration and the run folder and returns its result.

A stage whose result is already in the run folder returns that one, marked as reused; `fresh=True` does it again. A
stage first does those before it that are missing. The same functions serve the notebooks, the command line and the
tests.
"""

from nvkit.stages.build import BuildResult, build
from nvkit.stages.calibrate import CalibrateResult, calibrate
from nvkit.stages.preprocess import PreprocessResult, preprocess
from nvkit.stages.report import ReportResult, report
from nvkit.stages.run import RunResult, TestResult, run
from nvkit.stages.setup import SetupResult, setup

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

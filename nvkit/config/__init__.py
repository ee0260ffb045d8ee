"""YAML files and the user's own values to a frozen `RunConfig` in which every value knows its origin."""

from nvkit.config.files import (
    SCENARIOS,
    BenchmarkFile,
    ProfileFile,
    RoundFile,
    load,
    names,
    parameters_folder,
)
from nvkit.config.resolve import (
    IMPLEMENTATIONS,
    MODES,
    POWER_MODES,
    QUICK_NOTE,
    Origin,
    Rules,
    RunConfig,
    resolve,
)
from nvkit.config.settings import PATHS, Settings

__all__ = [
    "IMPLEMENTATIONS",
    "MODES",
    "PATHS",
    "POWER_MODES",
    "QUICK_NOTE",
    "SCENARIOS",
    "BenchmarkFile",
    "Origin",
    "ProfileFile",
    "RoundFile",
    "Rules",
    "RunConfig",
    "Settings",
    "load",
    "names",
    "parameters_folder",
    "resolve",
]

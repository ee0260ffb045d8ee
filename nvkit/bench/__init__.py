"""`nvkit bench`: nvkit beside what it stands on, as ratios taken side by side in one run.

Each part alternates between nvkit and its peer, so that whatever else the machine does hits both, and gives one table
with a bar for each figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nvkit.errors import ConfigError, nearest
from nvkit.store import Store
from nvkit.tables import Table

PARTS = ("offline", "server", "preprocess", "lengths", "notebooks", "reference", "gpu")
"""Names of the parts; each is a module of this package with a function `measure`."""
_ASKED_FOR = ("reference", "gpu")


def bench(
    reference: Path | None = None,
    only: str = "",
    repeat: int = 1,
    profile: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    benchmark: str = "resnet50",
    scenario: str = "all",
) -> Iterator[Table]:
    """Measure the parts one after the other and give the table of each as soon as it is there.

    Args:
        reference: Checkout of mlcommons/inference; part "reference" is measured only if it is given.
        only: Names of parts, separated by commas; all but "gpu" if empty.
        repeat: How many times each part measures; tables show medians.
        profile: GPU profile of part "gpu".
        overrides: Settings of part "gpu".
        benchmark: Benchmark of part "gpu".
        scenario: Scenarios of part "gpu", by comma.

    Raises:
        ConfigError: an unknown part or benchmark, or "reference" without a checkout.
        InputError: `reference` is not a checkout of mlcommons/inference.
        MissingPackageError: the reference harness needs a package that is not installed.
        HarnessError: a test failed.
    """
    names = [part.strip() for part in only.split(",") if part.strip()] or [
        part for part in PARTS if part not in _ASKED_FOR or (part == "reference" and reference)
    ]
    for name in names:
        if name not in PARTS:
            raise ConfigError(f"There is no part '{name}' of the bench.", nearest(name, PARTS))
    if "reference" in names and reference is None:
        raise ConfigError(
            "Part reference needs MLCommons' harness.", "Give --reference FOLDER, a checkout of mlcommons/inference."
        )
    if (overrides or benchmark != "resnet50" or scenario != "all") and names != ["gpu"]:
        raise ConfigError(
            "Settings, scenario and benchmark belong to part gpu of the bench.",
            "Leave them out, or give nvkit bench gpu.",
        )
    return _tables(names, reference, repeat, profile, overrides, benchmark, scenario)


def _tables(
    names: list[str],
    reference: Path | None,
    repeat: int,
    profile: str,
    overrides: Mapping[str, Any] | None,
    benchmark: str,
    scenario: str,
) -> Iterator[Table]:
    from nvkit.runs import outputs_folder

    store = Store(outputs_folder() / "store")
    for name in names:
        module = import_module(f"nvkit.bench.{name}")
        if name == "reference":
            assert reference is not None
            yield module.measure(store, repeat, reference)
        elif name == "gpu":
            yield from module.measure(store, repeat, profile, overrides, benchmark, scenario)
        else:
            measure: Callable[[Store, int], Table] = module.measure
            yield measure(store, repeat)

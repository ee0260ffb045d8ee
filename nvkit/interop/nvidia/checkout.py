"""A checkout of mlcommons/inference_results_<round>: where NVIDIA's code is, which release, which options it knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import ConfigError, nearest
from nvkit.interop.nvidia.release import Option, make_targets, read_options, release_of

_INSIDE = ("", "closed/NVIDIA")


@dataclass(frozen=True)
class Checkout:
    """NVIDIA's code of one round.

    Attributes:
        root: The closed/NVIDIA folder.
        round: Its release, e.g. "v3.0".
        options: What code/main.py takes on its command line.
        fields: Every field of a benchmark configuration, by name.
        dropped: Names that code/common/arguments.py lists and main.py drops.
        targets: Targets of its Makefiles.
    """

    root: Path
    round: str
    options: frozenset[str]
    fields: Mapping[str, Option]
    dropped: frozenset[str]
    targets: frozenset[str]

    @property
    def number(self) -> tuple[int, ...]:
        """The release as a number that compares, e.g. (3, 0)."""
        return tuple(int(part) for part in re.findall(r"\d+", self.round))

    @property
    def named_batches(self) -> bool:
        """Whether a batch size is given per network, `resnet50:32` (v4.1 and later), not as a number."""
        declared = self.fields.get("gpu_batch_size")
        if declared is not None and declared.type:
            return declared.type.lower().startswith("dict")
        return self.number >= (4, 1)

    def benchmark(self, name: str) -> str:
        """Return the folder name of an nvkit benchmark, e.g. "bert" of "bert-99.9".

        Raises:
            ConfigError: the release does not have it.
        """
        folder = re.sub(r"-99(\.9)?$", "", name)
        known = [p.name for p in (self.root / "configs").glob("*") if p.is_dir() and not p.name.startswith(("_", "."))]
        if folder not in known:
            raise ConfigError(f"NVIDIA's code of {self.round} has no benchmark {folder}.", nearest(folder, known))
        return folder

    def require(self, target: str) -> str:
        """Return a make target that the release has.

        Raises:
            ConfigError: it does not.
        """
        if target not in self.targets:
            raise ConfigError(
                f"NVIDIA's code of {self.round} has no make target '{target}'.", nearest(target, self.targets)
            )
        return target


def open_checkout(path: Path, round: str) -> Checkout:
    """Find NVIDIA's code at `path` and read what its release knows.

    Args:
        path: The root of a clone of mlcommons/inference_results_<round>, or its closed/NVIDIA.
        round: The round that the run is configured for.

    Raises:
        ConfigError: no such code there, another release than `round`, or files that are missing or damaged.
    """
    root = _root(path.expanduser().absolute())
    found = release_of(root)
    if found is None:
        raise ConfigError(
            f"{root} does not say which release it is: neither VERSION nor the heading of README.md names one.",
            f"Clone mlcommons/inference_results_{round} whole.",
        )
    if found != round:
        raise ConfigError(
            f"{root} is NVIDIA's code of {found}; this run is configured for {round}.",
            f"Choose --round {found}, or give a clone of mlcommons/inference_results_{round}.",
        )
    fields, dropped = read_options(root)
    return Checkout(
        root=root,
        round=round,
        options=frozenset(name for name, option in fields.items() if option.command_line),
        fields=fields,
        dropped=dropped,
        targets=make_targets(root),
    )


def _root(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"There is no folder {path}.", "Give a clone of mlcommons/inference_results_<round>.")
    for inside in _INSIDE:
        if (path / inside / "Makefile").is_file() and (path / inside / "code" / "common").is_dir():
            return path / inside
    raise ConfigError(
        f"{path} is not NVIDIA's MLPerf Inference code: it has no closed/NVIDIA with a Makefile and code/common.",
        "Give the root of a clone of mlcommons/inference_results_<round>, or its closed/NVIDIA.",
    )

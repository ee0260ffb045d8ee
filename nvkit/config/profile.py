"""The layers of a GPU profile: what it is based on, NVIDIA's values of the nearest round, its own, its power modes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nvkit.config.files import Loaded, ProfileFile, Section, load
from nvkit.errors import ConfigError

Layer = tuple[str, Loaded, tuple[str, ...], Section]
"""Name of the layer, its file, the path of its section in it, and the section."""

GUESS = "guess"
"""Word in the name of every layer whose values are not of this GPU but of its memory class."""


def profile_layers(name: str, benchmark: str, round: str, parameters: Path | None = None) -> list[Layer]:
    """Return the layers of a profile at full power, later ones winning.

    Raises:
        ConfigError: no such profile, a bad file, or profiles that are based on each other.
    """
    chain = _chain(name, parameters)
    layers: list[Layer] = []
    for profile, source in chain:
        inherited = profile.name != name
        title = f"profile {profile.name}, {GUESS}" if inherited else "profile"
        if chosen := nvidia_round(profile, benchmark, round):
            configured = profile.nvidia[chosen]
            path = ("nvidia", chosen, "benchmarks", benchmark)
            layers.append((f"NVIDIA {chosen} {configured.system}", source, path, configured.benchmarks[benchmark]))
        layers.append((title, source, (), profile))
        layers.append((title, source, ("benchmarks", benchmark), profile.benchmarks.get(benchmark, Section())))
    return layers


def power_layers(
    name: str, benchmark: str, round: str, power: str, parameters: Path | None = None, *, limited: bool = False
) -> Iterator[Layer]:
    """Yield the layers that a power mode puts over the profile's.

    MaxN needs no values: it is the GPU's own default limit.

    Args:
        name: Name of the profile.
        benchmark: Name of the benchmark.
        round: The round.
        power: The power mode.
        parameters: The folder, if not the clone's own.
        limited: Whether the user gives a power limit, so that MaxQ needs none from a file.

    Raises:
        ConfigError: the profile knows nothing of this power mode, or is of no GPU.
    """
    if power == "MaxP":
        return
    profile, source = _chain(name, parameters)[-1]
    found = False
    if power == "MaxQ" and (chosen := nvidia_round(profile, benchmark, round, maxq=True)):
        configured = profile.nvidia[chosen]
        path = ("nvidia", chosen, "maxq", benchmark)
        found = True
        title = f"NVIDIA {chosen} {configured.maxq_system or configured.system} MaxQ"
        yield title, source, path, configured.maxq[benchmark]
    if own := profile.power.get(power):  # type: ignore[call-overload]
        found = True
        yield (f"profile {power}", source, ("power", power), own)
    if profile.device.kind == "gpu" and (power == "MaxN" or limited):
        return
    if not found:
        known = [*profile.power, *(["MaxQ"] if any(r.maxq for r in profile.nvidia.values()) else [])]
        raise ConfigError(
            f"Profile {name} has no {power} values for {benchmark}.",
            f"It has {', '.join(dict.fromkeys(known)) or 'none'}; parameters/README.md says how to add some.",
        )


def nvidia_round(profile: ProfileFile, benchmark: str, round: str, *, maxq: bool = False) -> str | None:
    """Return the round of NVIDIA's values to use: the one asked for, else the nearest before it, else after it."""
    has = [
        r
        for r, configured in profile.nvidia.items()
        if benchmark in (configured.maxq if maxq else configured.benchmarks)
    ]
    before = [r for r in has if _number(r) <= _number(round)]
    return max(before, key=_number) if before else min(has, key=_number, default=None)


def _number(round: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", round))


def _chain(name: str, parameters: Path | None) -> list[tuple[ProfileFile, Loaded]]:
    """Return the profile and what it is based on, the basis first."""
    chain: list[tuple[ProfileFile, Loaded]] = []
    wanted: str | None = name
    while wanted:
        if wanted in (profile.name for profile, _ in chain):
            raise ConfigError(f"Profile {wanted} is based on itself.", "Mend based_on in its file.")
        chain.insert(0, load(ProfileFile, wanted, parameters))
        wanted = chain[0][0].based_on
    return chain

"""What a power mode sets on this machine, value by value, with the commands that set it and put it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nvkit.config import RunConfig
from nvkit.config.files import Device
from nvkit.config.settings import not_applicable
from nvkit.errors import BackendUnavailableError, ConfigError
from nvkit.power import jetson, limits, steps
from nvkit.power.limits import Limits
from nvkit.power.steps import Step
from nvkit.tables import Table

_BOARD = (*jetson.CLOCKS, "orin_num_cores")
_VBOOST = "vboost_slider"


@dataclass(frozen=True)
class PowerPlan:
    """All that a power mode sets for one scenario; nothing at MaxP, unless a limit was given.

    Attributes:
        power: The power mode.
        scenario: The scenario.
        steps: In the order in which to set them.
        sets_itself: NVIDIA's own code sets the Jetson board, in its run.
    """

    power: str
    scenario: str
    steps: tuple[Step, ...] = ()
    sets_itself: bool = False

    def table(self) -> Table:
        """Return the commands that set the mode, and those that put back what is there now."""
        rows = [
            [step.what, step.show(step.wanted), "; ".join(step.commands), "; ".join(step.back)] for step in self.steps
        ]
        return Table(["what", "wanted", "command", "puts it back"], rows, f"What {self.power} sets for {self.scenario}")


def plan(config: RunConfig, scenario: str, *, gpus: Sequence[int] | None = None) -> PowerPlan:
    """Return what the configuration's power mode sets for one of its scenarios; reads the machine, changes nothing.

    Args:
        config: The configuration; its settings power_limit, vboost_slider, soc_*_freq and orin_num_cores count
            where they apply, at MaxP too.
        scenario: One of its scenarios; they may have different limits.
        gpus: Numbers of the GPUs, as in `nvidia-smi -i`; by default those of the setting `devices`, else all that are
            of the profile's product, else all. CUDA_VISIBLE_DEVICES plays no part: CUDA numbers GPUs in its own way.

    Raises:
        ConfigError: the mode has no value here, a value does not belong to this machine, a limit is outside of what
            a GPU takes, a GPU has no limit to set, or there is no such GPU.
        BackendUnavailableError: no GPU or driver answers, or this is no Jetson board.
        MissingPackageError: nvidia-ml-py is not installed.
    """
    settings, power = config.scenarios[scenario], config.power
    if power != "MaxP" and config.device.kind == "cpu":
        raise ConfigError(
            f"Profile {config.profile} has no GPU, so there is nothing for {power} to set.",
            "Choose a GPU's profile, or leave --power out.",
        )
    values = _values(config, scenario)
    board = config.device.form_factor == "soc"
    made: list[Step] = []
    if board and (power == "MaxN" or values.keys() & set(_BOARD)):
        jetson.require_board()
        made += steps.unlimited_board() if power == "MaxN" else steps.board(values)
    elif not board and (power == "MaxN" or "power_limit" in values):
        where = config.origins[scenario]["power_limit"][-1].where if "power_limit" in values else ""
        for found in _chosen(config.device, gpus if gpus is not None else _numbers(settings.devices)):
            made.append(steps.limit(found, values.get("power_limit"), where, required=power != "MaxN"))
            if power == "MaxN":
                made.append(steps.free_clocks(found))
    if _VBOOST in values:
        made.append(steps.vboost(values[_VBOOST]))
    itself = board and power == "MaxQ" and config.implementation == "nvidia-original"
    return PowerPlan(power, scenario, tuple(made), sets_itself=itself)


def _values(config: RunConfig, scenario: str) -> dict[str, Any]:
    """Return the power settings that count here; refuse those that this kind of machine cannot have."""
    settings, board = config.scenarios[scenario], config.device.form_factor == "soc"
    values: dict[str, Any] = {}
    why = "its profile has none"
    for key in ("power_limit", *_BOARD, _VBOOST):
        value = getattr(settings, key)
        if value is None:
            continue
        reason = not_applicable(key, settings.backend, config.benchmark, scenario, config.implementation)
        if not reason:
            values[key] = value
        elif key != _VBOOST:
            why = f"{key}: {reason}"
    for key in values.keys() - {_VBOOST}:
        where = config.origins[scenario][key][-1].where
        if (key in _BOARD) != board:
            whose = "Jetson boards" if key in _BOARD else "GPUs on a card"
            raise ConfigError(
                f"{key} ({where}) belongs to {whose}; {config.profile} is none.", "Leave it out, or choose its profile."
            )
        if board and config.power == "MaxN":
            raise ConfigError(f"{key} ({where}) limits what MaxN sets free.", f"Leave {key} or MaxN out.")
    if config.power == "MaxQ" and not values.keys() - {_VBOOST}:
        raise ConfigError(
            f"MaxQ has no power limit or clock for {config.benchmark} {scenario} on {config.profile}: {why}.",
            "Give one, e.g. --power-limit 200, or choose another scenario.",
        )
    return values


def _numbers(devices: str | None) -> list[int] | None:
    try:
        return [int(number) for number in devices.split(",")] if devices else None
    except ValueError:
        raise ConfigError(
            f"devices = {devices!r} is not a list of GPU numbers.", "Give numbers separated by commas, e.g. 0,1."
        ) from None


def _chosen(device: Device, gpus: Sequence[int] | None) -> list[Limits]:
    with limits.session() as nvml:
        every = {found.gpu: found for found in limits.read(nvml)}
    if not every:
        raise BackendUnavailableError("The NVIDIA driver shows no GPU to this process.", "See what nvidia-smi says.")
    if gpus is not None:
        if unknown := set(gpus) - set(every):
            raise ConfigError(f"There is no GPU {min(unknown)}.", f"This machine has GPU {', '.join(map(str, every))}.")
        return [every[number] for number in gpus]
    # A small card that only drives the display takes no part, and its limit stays as it is.
    names = {name.lower() for name in device.names}
    ids = {pci_id.lower() for pci_id in device.pci_ids}
    alike = [
        found for found in every.values() if found.pci_id in ids or found.name.lower().removeprefix("nvidia ") in names
    ]
    return alike or list(every.values())

"""The single values that a power mode sets: how each is named, set, put back and found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import ConfigError
from nvkit.power import jetson, limits
from nvkit.power.limits import Limits


@dataclass(frozen=True)
class Step:
    """One value that a power mode sets.

    Attributes:
        what: The value in words, e.g. "power limit of GPU 0 (NVIDIA L4)".
        wanted: What it must be; None where the mode only asks for a command.
        unit: Unit of `wanted`.
        commands: What the user gives to set it.
        back: What puts it back to what was found when the plan was made; empty if nothing has to be put back.
        gpu: Number of the GPU whose power limit it is.
        files: Files of a Jetson board that hold it.
        unknowable: Why it cannot be checked; empty if it can.
    """

    what: str
    wanted: float | None = None
    unit: str = ""
    commands: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    gpu: int | None = None
    files: tuple[Path, ...] = ()
    unknowable: str = ""

    def show(self, value: float | None) -> str:
        """Return a value with the unit, "" for None."""
        return "" if value is None else f"{value:.0f} {self.unit}".rstrip()


def limit(found: Limits, wanted: float | None, where: str, *, required: bool) -> Step:
    """Return the step that limits a GPU.

    Args:
        found: The GPU.
        wanted: The limit, W; None for its default.
        where: File or flag that says so.
        required: A GPU whose limit cannot be set is an error, not a step that is not checked.

    Raises:
        ConfigError: the GPU's limit cannot be set, or not to this value.
    """
    what = f"power limit of {found.title}"
    if found.set_w is None or found.least_w is None or found.most_w is None:
        if not required:
            return Step(what, unknowable="the GPU does not let its power limit be set")
        raise ConfigError(
            f"{found.title} does not let its power limit be set, as laptops and virtual GPUs do not; "
            f"{where} wants {wanted:g} W.",
            "Leave power_limit and --power out on this GPU.",
        )
    if wanted is None:
        wanted = found.default_w or found.most_w
    if not found.least_w <= wanted <= found.most_w:
        raise ConfigError(
            f"{found.title} takes a power limit of {found.least_w:g} to {found.most_w:g} W; "
            f"{where} wants {wanted:g} W.",
            "Give a --power-limit within these bounds.",
        )
    commands, back = [limits.limit_command(found.gpu, wanted)], [limits.limit_command(found.gpu, found.set_w)]
    if found.persistent is False:
        commands.insert(0, f"sudo nvidia-smi -i {found.gpu} -pm 1")
        back.append(f"sudo nvidia-smi -i {found.gpu} -pm 0")
    return Step(what, wanted, "W", tuple(commands), tuple(back), gpu=found.gpu)


def free_clocks(found: Limits) -> Step:
    """Return the step that unlocks a GPU's clocks."""
    return Step(
        f"clocks of {found.title} not locked",
        commands=(f"sudo nvidia-smi -i {found.gpu} -rgc",),
        unknowable="the driver does not say whether clocks are locked",
    )


def vboost(value: int) -> Step:
    """Return the step that sets the clock ratio, which NVIDIA's code of v4.1 does around each test."""
    return Step(
        "clock ratio of GPCs and crossbar, all GPUs",
        value,
        commands=(f"sudo nvidia-smi boost-slider --vboost {value}",),
        back=("sudo nvidia-smi boost-slider --vboost 0",),
        unknowable="NVIDIA's code gives this command itself, from v4.1 on; NVML does not know the value",
    )


def board(values: Mapping[str, int]) -> Iterator[Step]:
    """Yield the steps that limit a Jetson board, the cores first: a core that is off has no clock to set."""
    if (count := values.get("orin_num_cores")) is not None:
        yield _cores(count)
    for key, clocks in jetson.CLOCKS.items():
        if key in values:
            yield from (_clock(clock, values[key] * clock.share) for clock in clocks)


def unlimited_board() -> Iterator[Step]:
    """Yield the steps that set a Jetson board free."""
    yield Step(
        "power model 0 of the board, clocks at their highest",
        commands=("sudo jetson_clocks --store", "sudo /usr/sbin/nvpmodel -m 0", "sudo jetson_clocks"),
        back=("sudo jetson_clocks --restore", "sudo /usr/sbin/nvpmodel -m <number that nvpmodel -q gave before>"),
        unknowable="its parts below are",
    )
    yield _cores(jetson.cores())
    if fastest := jetson.fastest_gpu_clock():
        yield _clock(jetson.CLOCKS["soc_gpu_freq"][0], fastest)


def _cores(count: int) -> Step:
    if count > jetson.cores():
        raise ConfigError(f"The board has {jetson.cores()} CPU cores, not {count}.", "Give --orin-num-cores within it.")
    back = jetson.core_commands(jetson.cores("online"))
    return Step("CPU cores that are on", count, "", jetson.core_commands(count), back, files=(jetson.cores_file(),))


def _clock(clock: jetson.Clock, value: float) -> Step:
    files = clock.files()
    before = {path: found for path in files if (found := jetson.value_of(path)) is not None}
    unknowable = "" if before else "only root may read its file" if files else "this JetPack has no file for it"
    if not value:
        unknowable = "0 leaves it to the board"
    back = [command for path, found in before.items() for command in jetson.write_commands((path,), found)]
    commands = jetson.write_commands(files, value)
    return Step(clock.what, value, clock.unit, commands, tuple(back), files=files, unknowable=unknowable)

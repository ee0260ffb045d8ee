"""Which profile this machine runs with: by PCI id, then by name, then by memory class, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from nvkit.config.files import ProfileFile, load, names
from nvkit.gpus import Gpu, ask_driver, gib

CPU = "cpu"
"""Profile of a machine without a GPU that could be used."""

_SLACK = 0.02
# A card sold with N GB has N GiB less what ECC takes (1/16 on GDDR6) and the driver keeps: 22731 MiB of 24, 15109 of
# 16, 7611 of 8, 81559 of 80. In decimal GB that is never less than 0.99 N, so GB are compared, with this slack.

_BRANDS = frozenset({"nvidia", "geforce", "quadro", "tesla", "jetson", "tegra", "nvgpu", "edition", "generation"})
# Words that one driver prints and another leaves out: "Tesla T4" and "NVIDIA T4"; "Orin (nvgpu)" and "Jetson Orin".


@dataclass(frozen=True)
class Detection:
    """The profile of this machine.

    Attributes:
        profile: Name of a file in parameters/gpus/.
        gpus: Names of all GPUs as the driver gives them, in its order.
        count: How many equal GPUs (or MIG slices, one for each GPU) the profile stands for; 0 for the CPU.
        how: "PCI id 10de:2335", "name", "memory class", or why it is the CPU: "no GPU", "no usable GPU".
        notes: Sentences for the user: what is a guess, what was left out, and what to do about it.
    """

    profile: str
    gpus: tuple[str, ...]
    count: int
    how: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Choice:
    profile: ProfileFile | None
    how: str
    notes: tuple[str, ...] = ()


def detect(gpus: Sequence[Gpu] | None = None, parameters: Path | None = None, *, no_gpu_reason: str = "") -> Detection:
    """Choose the profile of this machine, or of the GPUs given.

    A machine can always run: what has no profile of its own takes its memory class, what is smaller than all classes
    takes the CPU, and the notes say so.

    Args:
        gpus: The GPUs to run on; None for all that the driver shows.
        parameters: The folder, if not the clone's own.
        no_gpu_reason: Why `gpus` is empty, if it is.

    Raises:
        ConfigError: a profile's file is wrong.
    """
    if gpus is None:
        driver = ask_driver()
        gpus, no_gpu_reason = driver.gpus, driver.no_gpu_reason
    if not gpus:
        return Detection(CPU, (), 0, "no GPU", (f"The CPU is used: {no_gpu_reason or 'no GPU was given'}.",))
    loaded = (load(ProfileFile, name, parameters)[0] for name in names(ProfileFile, parameters))
    profiles = [profile for profile in loaded if profile.device.kind == "gpu"]
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, gpu in enumerate(gpus):
        groups.setdefault(_likeness(gpu), []).append(index)
    choices = [(indices, _choose(gpus[indices[0]], profiles)) for indices in groups.values()]
    # A small card that only drives the display must not decide, however many there are of it.
    chosen, choice = max(choices, key=lambda pair: (pair[1].profile is not None, len(pair[0])))
    notes = list(choice.notes)
    for indices, other in choices:
        if indices is not chosen:
            notes.append(_left_out(gpus[indices[0]], indices, other))
            notes += other.notes if other.profile is None else ()
    every = tuple(gpu.name for gpu in gpus)
    if choice.profile is None:
        return Detection(CPU, every, 0, "no usable GPU", (*notes, "Until then the CPU is used."))
    return Detection(choice.profile.name, every, len(chosen), choice.how, tuple(notes))


def _likeness(gpu: Gpu) -> tuple[object, ...]:
    """Return what makes GPUs equal: power limits and clocks may differ from card to card."""
    return gpu.name, gpu.pci_id, gpu.memory_gib and round(gpu.memory_gib), gpu.mig, gpu.mig_slices


def _left_out(gpu: Gpu, indices: list[int], choice: _Choice) -> str:
    what = f"{len(indices)} x {gpu.name} differs and is left out"
    if choice.profile is None:
        return f"{what}."
    return f"{what}: --profile {choice.profile.name} --devices {','.join(map(str, indices))} chooses it instead."


def _choose(gpu: Gpu, profiles: Sequence[ProfileFile]) -> _Choice:
    if gpu.mig:
        return _choose_slice(gpu, profiles)
    notes: list[str] = []
    if gpu.unified_memory:
        gpu = replace(gpu, memory_gib=gib(psutil.virtual_memory().total))
        notes.append(f"{gpu.name} has no memory of its own: it shares the machine's {gpu.memory_gib:.1f} GiB.")
    product = _product(gpu, profiles)
    notes += product.notes
    if product.profile is None:
        return _by_memory(gpu, profiles, [*notes, f"No profile knows {_called(gpu)}."])
    sold = product.profile.device.memory_gb
    here = _gigabytes(gpu)
    if sold and here and here < sold * (1 - _SLACK):
        part = (
            f"{_called(gpu)} is a GPU of {sold:g} GB, of which {here:.1f} GB are here (virtual, or a smaller module)."
        )
        return _by_memory(gpu, profiles, [*notes, part])
    return _Choice(product.profile, product.how, tuple(notes))


def _choose_slice(gpu: Gpu, profiles: Sequence[ProfileFile]) -> _Choice:
    if not gpu.mig_slices:
        return _Choice(
            None,
            "memory class",
            (
                f"MIG is on for {gpu.name}, but it has no slice, so that CUDA sees no GPU: make one "
                "(sudo nvidia-smi mig -cgi <profile> -C) or turn MIG off (sudo nvidia-smi -mig 0).",
            ),
        )
    # CUDA gives a process one MIG device, the first that it may see.
    first = gpu.mig_slices[0]
    facts = [
        f"{first.memory_gib:.1f} GiB" if first.memory_gib else "",
        f"{first.multiprocessors} SMs" if first.multiprocessors else "",
    ]
    note = (
        f"MIG is on for {gpu.name}: a process gets one slice, here the first of {len(gpu.mig_slices)} "
        f"({', '.join(filter(None, facts)) or 'of unknown size'}), and its memory decides, not the GPU's."
    )
    return _by_memory(replace(gpu, memory_gib=first.memory_gib), profiles, [note])


def _product(gpu: Gpu, profiles: Sequence[ProfileFile]) -> _Choice:
    """Return the profile of this very product, if there is one.

    A PCI id that stands in several profiles, or whose profile the name contradicts, decides nothing alone: then the
    name does, then the memory, and a note says so.
    """
    words = _words(gpu.name)
    by_id = [p for p in profiles if gpu.pci_id and gpu.pci_id in map(str.lower, p.device.pci_ids)]
    by_name = [p for p in profiles if words in map(_words, p.device.names)]
    named = {p.name for p in by_name}
    both = [p for p in by_id if p.name in named]
    candidates = both or [*by_id, *by_name]
    if not candidates:
        return _Choice(None, "memory class")
    best = min(candidates, key=lambda p: _distance(gpu, p))
    how = f"PCI id {gpu.pci_id}" if best in by_id else "name"
    everyone = list(dict.fromkeys(p.name for p in [*by_id, *candidates]))
    if len(everyone) == 1:
        return _Choice(best, how, () if by_name else (f"{_called(gpu)} has the id of {best.name}, not its name.",))
    alike = [p for p in candidates if _distance(gpu, p) == _distance(gpu, best)]
    decided = "its name" if len(candidates) == 1 else "its memory" if len(alike) == 1 else "only the alphabet"
    others = ", ".join(name for name in everyone if name != best.name)
    return _Choice(
        best, how, (f"{_called(gpu)} also fits {others}; {decided} decides for {best.name} (--profile overrules it).",)
    )


def _by_memory(gpu: Gpu, profiles: Sequence[ProfileFile], notes: Iterable[str]) -> _Choice:
    """Return the largest memory class that fits."""
    classes = {p.device.memory_gb: p for p in profiles if p.device.memory_class and p.device.memory_gb}
    here = _gigabytes(gpu)
    if here is None:
        unknown = f"The driver does not say how much memory {gpu.name} has: choose with --profile."
        return _Choice(None, "memory class", (*notes, unknown))
    fitting = [size for size in classes if size * (1 - _SLACK) <= here]
    if not fitting:
        least = f"smallest memory class has {min(classes):g} GB" if classes else "profiles have no memory class"
        small = (
            f"{gpu.name} has {here:.1f} GB and the {least}: to use it, give --profile custom with values of your "
            "own, a small --batch-size above all."
        )
        return _Choice(None, "memory class", (*notes, small))
    size = max(fitting)
    guess = (
        f"The values of {classes[size].name} are used, largest memory class within {here:.1f} GB: "
        "they are guesses for this GPU."
    )
    return _Choice(classes[size], "memory class", (*notes, guess))


def _words(name: str) -> frozenset[str]:
    """Return what identifies a product, so that "A100-PCIE-80GB" and "NVIDIA A100 80GB PCIe" are the same."""
    return frozenset(re.findall(r"[a-z0-9]+", name.lower())) - _BRANDS


def _called(gpu: Gpu) -> str:
    return f"{gpu.name} ({gpu.pci_id})" if gpu.pci_id else gpu.name


def _gigabytes(gpu: Gpu) -> float | None:
    return gpu.memory_gib * 2**30 / 1e9 if gpu.memory_gib else None


def _distance(gpu: Gpu, profile: ProfileFile) -> float:
    """Return how far the memory is from the product's, as a ratio in either direction; 0 where one is unknown."""
    here, sold = _gigabytes(gpu), profile.device.memory_gb
    return abs(math.log(here / sold)) if here and sold else 0.0

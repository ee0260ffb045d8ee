"""The GPUs that this release knows."""

from enum import Enum


class KnownGPU(Enum):
    """Product names and PCI ids."""

    L4 = ("NVIDIA L4", "27B8")

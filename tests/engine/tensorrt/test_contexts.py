from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nvkit.engine.tensorrt import contexts
from nvkit.engine.tensorrt.contexts import numbers, open_gpus
from nvkit.errors import BackendUnavailableError, ConfigError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal GPUs and another one between them."""
    names = ["NVIDIA L4", "NVIDIA T4", "NVIDIA L4"]
    monkeypatch.setattr(contexts, "gpu_count", lambda: 3)
    monkeypatch.setattr(contexts, "CudaGpu", lambda n: SimpleNamespace(index=n, name=names[n]))


def indices(gpus: Any) -> list[int]:
    return [gpu.index for gpu in gpus]


def test_all_gpus_like_the_first_are_used_or_those_that_are_named(machine: None) -> None:
    assert indices(open_gpus(None)) == [0, 2]
    assert indices(open_gpus("2")) == [2]
    assert indices(open_gpus("2,0")) == [2, 0]


def test_unequal_and_missing_gpus_are_refused(machine: None) -> None:
    with pytest.raises(ConfigError, match="GPU 1 is a NVIDIA T4, GPU 0 a NVIDIA L4"):
        open_gpus("0,1")
    with pytest.raises(BackendUnavailableError, match="no GPU 3 here; CUDA sees 3"):
        open_gpus("0,3")


def test_without_a_gpu_the_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "gpu_count", lambda: 0)
    with pytest.raises(BackendUnavailableError, match="CUDA sees no GPU here"):
        open_gpus(None)


@pytest.mark.parametrize("text", ["all", "0,0", "-1", "0;1", ","])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Give numbers by comma"):
        numbers(text)

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from nvkit.engine.tensorrt import cuda
from nvkit.errors import BackendUnavailableError


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """cuda-python with two GPUs; what is called on which current device comes here."""
    calls: list[tuple[str, int]] = []
    current = threading.local()

    def set_device(index: int) -> tuple[int]:
        current.gpu = index
        calls.append(("set", index))
        return (0,) if index < 2 else (101,)

    def stream(flags: int) -> tuple[int, int]:
        calls.append(("stream", getattr(current, "gpu", 0)))
        return 0, 1

    runtime = ModuleType("runtime")
    runtime.__dict__.update(
        cudaSetDevice=set_device,
        cudaFree=lambda address: (0,),
        cudaGetDeviceProperties=lambda index: (0, SimpleNamespace(name=b"NVIDIA L4\0\0")),
        cudaStreamCreateWithFlags=stream,
        cudaStreamNonBlocking=1,
        cudaGetErrorString=lambda error: (0, b"invalid device ordinal"),
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyDefault=4),
        cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
    )
    driver = ModuleType("driver")
    driver.__dict__.update(cuModuleLoadData=lambda ptx: (0, ptx), cuModuleGetFunction=lambda module, name: (0, name))
    bindings = ModuleType("bindings")
    bindings.__dict__.update(runtime=runtime, driver=driver)
    for name, module in (("cuda", ModuleType("cuda")), ("cuda.bindings", bindings)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda, "_CURRENT", threading.local())
    return calls


def test_a_thread_that_serves_two_gpus_goes_back_to_the_first(devices: list[tuple[str, int]]) -> None:
    first, second = cuda.CudaGpu(0), cuda.CudaGpu(1)
    devices.clear()
    for gpu in (first, first, second, first, second, second):
        gpu.activate()
        gpu.stream()
    assert [index for what, index in devices if what == "stream"] == [0, 0, 1, 0, 1, 1]
    assert [index for what, index in devices if what == "set"] == [0, 1, 0, 1]  # and no call more than is needed


def test_each_thread_has_a_current_gpu_of_its_own(devices: list[tuple[str, int]]) -> None:
    first, second = cuda.CudaGpu(0), cuda.CudaGpu(1)
    second.activate()
    devices.clear()

    def work() -> None:
        second.activate()
        second.stream()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    first.activate()
    assert devices == [("set", 1), ("stream", 1), ("set", 0)]


def test_a_gpu_that_is_not_there_is_named(devices: list[tuple[str, int]]) -> None:
    with pytest.raises(BackendUnavailableError, match="GPU 2 cannot be used: CUDA on GPU 2: invalid device ordinal"):
        cuda.CudaGpu(2)

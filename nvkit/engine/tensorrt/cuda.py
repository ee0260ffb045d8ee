"""What the runner needs of one GPU: memory, streams, events, graphs and kernels. The CUDA seam.

Addresses are plain integers. `CudaGpu` is the real thing; the tests drive the runner on a simulated one. Calls of
cuda-python release the interpreter while they wait.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from importlib import resources
from typing import Any, Protocol

import numpy as np

from nvkit.engine.base import Array
from nvkit.errors import BackendUnavailableError, ExecutionError, HarnessError

Handle = Any
"""A stream, an event, a graph or a kernel: made by a Gpu and only given back to it."""

_SHARED = 48 << 10  # bytes of shared memory that a kernel may use without asking
_PUBLISHING = 256  # threads that copy an output to the host


# The GPU that a thread's calls go to. It belongs to the thread and not to a CudaGpu: another one may have changed it.
_CURRENT = threading.local()


class OutOfDeviceMemoryError(Exception):
    """An allocation on the GPU failed; the argument is the number of bytes."""


class Gpu(Protocol):
    """One GPU. Work on a stream is done in order; streams overlap."""

    index: int

    def activate(self) -> None:
        """Make this the calling thread's GPU."""

    def pinned(self, size: int) -> Array:
        """Return page-locked host memory that the GPU can read, as uint8 [size]; it lives as long as the Gpu."""

    def allocate(self, size: int) -> int:
        """Return the address of new device memory.

        Raises:
            OutOfDeviceMemoryError: there is not so much.
        """

    def free(self, address: int) -> None:
        """Give device memory back."""

    def stream(self) -> Handle:
        """Return a new stream."""

    def event(self, *, spin: bool, timing: bool) -> Handle:
        """Return a new event; a thread that waits for it spins, or sleeps."""

    def upload(self, target: int, source: Array) -> None:
        """Copy host memory to the device and wait for it."""

    def copy(self, target: int, source: int, size: int, stream: Handle) -> None:
        """Copy `size` bytes between any two addresses, on a stream."""

    def gather(self, target: int, parameters: int, rows: int, row_bytes: int, stream: Handle) -> None:
        """Collect rows of staged samples on a stream; gather.cu says what lies at `parameters`."""

    def publish(self, target: int, source: int, size: int, flag: int, stream: Handle) -> None:
        """Copy `size` bytes to page-locked host memory and then set the int32 at `flag` there to 1, on a stream."""

    def kernel(self, source: str, name: str, shared: int) -> Handle:
        """Return a kernel of <source>.ptx that may use so many bytes of dynamic shared memory."""

    def start(
        self,
        kernel: Handle,
        grid: tuple[int, int],
        threads: int,
        shared: int,
        arguments: tuple[int, ...],
        stream: Handle,
    ) -> None:
        """Start a kernel, whose arguments are addresses, on a stream."""

    def record(self, event: Handle, stream: Handle) -> None:
        """Let the event happen when the stream comes to this point."""

    def wait_event(self, stream: Handle, event: Handle) -> None:
        """Let the stream go on only after the event."""

    def synchronize(self, event: Handle) -> None:
        """Wait until the event has happened.

        Raises:
            HarnessError: work before it failed.
        """

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Return the time between two timing events that have happened."""

    def capture(self, stream: Handle, work: Callable[[], None]) -> Handle:
        """Record what `work` puts on the stream as a graph."""

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Put a graph on a stream."""

    def finish(self) -> None:
        """Wait for all work on this GPU."""

    def close(self) -> None:
        """Release everything."""


class CudaGpu:
    """A GPU through cuda-python.

    Raises:
        BackendUnavailableError: there is no such GPU.
    """

    def __init__(self, index: int) -> None:
        from cuda.bindings import driver, runtime

        self.index = index
        self._rt = runtime
        self._driver = driver
        self._pinned: list[int] = []
        self._device: set[int] = set()
        try:
            self.activate()
            self._check(runtime.cudaFree(0))  # makes the context
        except ExecutionError as error:
            raise BackendUnavailableError(f"GPU {index} cannot be used: {error.what}", error.fix) from None
        self.name: str = self._check(runtime.cudaGetDeviceProperties(index)).name.split(b"\0")[0].decode()
        self._to_any = runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._relaxed = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._modules: dict[str, Any] = {}
        self._kernels = {unit: self.kernel("gather", f"gather{unit}", 0) for unit in (16, 4, 1)}
        self._publish = self.kernel("publish", "publish", 0)

    def activate(self) -> None:
        """Make this the calling thread's GPU."""
        if getattr(_CURRENT, "gpu", None) != self.index:
            self._check(self._rt.cudaSetDevice(self.index))
            _CURRENT.gpu = self.index

    def pinned(self, size: int) -> Array:
        """Return page-locked, mapped host memory as uint8 [size]."""
        flags = self._rt.cudaHostAllocPortable | self._rt.cudaHostAllocMapped
        address = int(self._check(self._rt.cudaHostAlloc(size, flags)))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def allocate(self, size: int) -> int:
        """Return the address of new device memory.

        Raises:
            OutOfDeviceMemoryError: there is not so much.
        """
        error, address = self._rt.cudaMalloc(size)
        if error == self._rt.cudaError_t.cudaErrorMemoryAllocation:
            self._rt.cudaGetLastError()
            raise OutOfDeviceMemoryError(size)
        self._check((error,))
        self._device.add(int(address))
        return int(address)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._device.remove(address)
        self._check(self._rt.cudaFree(address))

    def stream(self) -> Handle:
        """Return a new stream that does not wait for the default one."""
        return self._check(self._rt.cudaStreamCreateWithFlags(self._rt.cudaStreamNonBlocking))

    def event(self, *, spin: bool, timing: bool) -> Handle:
        """Return a new event."""
        flags = 0 if spin else self._rt.cudaEventBlockingSync
        return self._check(
            self._rt.cudaEventCreateWithFlags(flags | (0 if timing else self._rt.cudaEventDisableTiming))
        )

    def upload(self, target: int, source: Array) -> None:
        """Copy host memory to the device and wait for it."""
        source = np.ascontiguousarray(source)
        self._check(self._rt.cudaMemcpy(target, source.ctypes.data, source.nbytes, self._to_any))

    def copy(self, target: int, source: int, size: int, stream: Handle) -> None:
        """Copy `size` bytes between any two addresses, on a stream."""
        self._check(self._rt.cudaMemcpyAsync(target, source, size, self._to_any, stream))

    def gather(self, target: int, parameters: int, rows: int, row_bytes: int, stream: Handle) -> None:
        """Collect rows of staged samples on a stream."""
        unit = next(unit for unit in (16, 4, 1) if row_bytes % unit == 0)
        blocks = max(1, min(8, row_bytes // unit // 1024))
        values = ((target, parameters, row_bytes), (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong))
        self._launch(self._kernels[unit], (rows, blocks), 256, 0, values, stream)

    def publish(self, target: int, source: int, size: int, flag: int, stream: Handle) -> None:
        """Copy `size` bytes to page-locked host memory and then set the int32 at `flag` there to 1, on a stream."""
        types = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong, ctypes.c_void_p)
        self._launch(self._publish, (1, 1), _PUBLISHING, 0, ((target, source, size, flag), types), stream)

    def kernel(self, source: str, name: str, shared: int) -> Handle:
        """Return a kernel of a PTX file of this package; the driver compiles the file once."""
        if source not in self._modules:
            ptx = resources.files(__package__).joinpath(f"{source}.ptx").read_bytes()
            self._modules[source] = self._check_driver(self._driver.cuModuleLoadData(ptx + b"\0"))
        found = self._check_driver(self._driver.cuModuleGetFunction(self._modules[source], name.encode()))
        if shared > _SHARED:
            most = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._check_driver(self._driver.cuFuncSetAttribute(found, most, shared))
        return found

    def start(
        self,
        kernel: Handle,
        grid: tuple[int, int],
        threads: int,
        shared: int,
        arguments: tuple[int, ...],
        stream: Handle,
    ) -> None:
        """Start a kernel, whose arguments are addresses, on a stream."""
        self._launch(kernel, grid, threads, shared, (arguments, (ctypes.c_void_p,) * len(arguments)), stream)

    def _launch(
        self, kernel: Handle, grid: tuple[int, int], threads: int, shared: int, values: tuple[Any, Any], stream: Handle
    ) -> None:
        """Start a kernel, whose arguments are `values`: the values and their types."""
        launched = self._driver.cuLaunchKernel(kernel, *grid, 1, threads, 1, 1, shared, int(stream), values, 0)
        self._check_driver(launched)

    def record(self, event: Handle, stream: Handle) -> None:
        """Let the event happen when the stream comes to this point."""
        self._check(self._rt.cudaEventRecord(event, stream))

    def wait_event(self, stream: Handle, event: Handle) -> None:
        """Let the stream go on only after the event."""
        self._check(self._rt.cudaStreamWaitEvent(stream, event, 0))

    def synchronize(self, event: Handle) -> None:
        """Wait until the event has happened.

        Raises:
            HarnessError: work before it failed.
        """
        self._check(self._rt.cudaEventSynchronize(event))

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Return the time between two timing events that have happened."""
        return float(self._check(self._rt.cudaEventElapsedTime(start, end)))

    def capture(self, stream: Handle, work: Callable[[], None]) -> Handle:
        """Record what `work` puts on the stream as a graph."""
        self._check(self._rt.cudaStreamBeginCapture(stream, self._relaxed))
        try:
            work()
        finally:
            ended = self._rt.cudaStreamEndCapture(stream)
        return self._check(self._rt.cudaGraphInstantiate(self._check(ended), 0))

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Put a graph on a stream."""
        self._check(self._rt.cudaGraphLaunch(graph, stream))

    def finish(self) -> None:
        """Wait for all work on this GPU."""
        self.activate()
        self._check(self._rt.cudaDeviceSynchronize())

    def close(self) -> None:
        """Free all memory; streams, events and graphs go with the process."""
        self.activate()
        self._rt.cudaDeviceSynchronize()
        for address in self._device:
            self._rt.cudaFree(address)
        for address in self._pinned:
            self._rt.cudaFreeHost(address)
        self._device, self._pinned = set(), []

    def _check(self, answer: tuple[Any, ...]) -> Any:
        if answer[0] != 0:
            name = getattr(answer[0], "name", str(answer[0]))
            text = self._rt.cudaGetErrorString(answer[0])[1].decode()
            raise HarnessError(
                f"CUDA on GPU {self.index}: {text} ({name}).", "See the console; `nvidia-smi` and dmesg."
            )
        return answer[1] if len(answer) > 1 else None

    def _check_driver(self, answer: tuple[Any, ...]) -> Any:
        if answer[0] != 0:
            name = getattr(answer[0], "name", str(answer[0]))
            raise HarnessError(f"CUDA driver on GPU {self.index}: {name}.", "Is the driver at least 525 (CUDA 12)?")
        return answer[1] if len(answer) > 1 else None


def gpu_count() -> int:
    """Return the number of GPUs that CUDA sees here; 0 without a driver."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return 0
    error, count = runtime.cudaGetDeviceCount()
    return int(count) if error == 0 else 0

"""Plans in GPU memory: which GPUs a run uses, and TensorRT's execution contexts behind the runner's seam."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvkit.engine.tensorrt.cuda import CudaGpu, Gpu, Handle, gpu_count
from nvkit.engine.tensorrt.detector import Detector
from nvkit.engine.tensorrt.flavours import Library, load_library
from nvkit.engine.tensorrt.flight import Context
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError


def open_gpus(devices: str | None) -> list[CudaGpu]:
    """Open the GPUs of a setting such as "0" or "0,1"; None is all that are like the first.

    Raises:
        BackendUnavailableError: there is no GPU, or none of a number.
        ConfigError: the setting is no list of numbers, or the GPUs differ: an engine is for one kind of GPU.
    """
    count = gpu_count()
    if not count:
        raise BackendUnavailableError("CUDA sees no GPU here.", "Install NVIDIA's driver, or choose --profile cpu.")
    wanted = numbers(devices) if devices else list(range(count))
    if missing := [n for n in wanted if n >= count]:
        raise BackendUnavailableError(
            f"There is no GPU {missing[0]} here; CUDA sees {count}.", f"Give --devices of 0 to {count - 1}."
        )
    gpus = [CudaGpu(n) for n in wanted]
    if devices and (other := next((gpu for gpu in gpus if gpu.name != gpus[0].name), None)):
        raise ConfigError(
            f"GPU {other.index} is a {other.name}, GPU {gpus[0].index} a {gpus[0].name}.", "Give --devices of one kind."
        )
    return [gpu for gpu in gpus if gpu.name == gpus[0].name]


def numbers(devices: str) -> list[int]:
    """Read the setting `devices`: numbers by comma.

    Raises:
        ConfigError: it is something else.
    """
    try:
        wanted = [int(part) for part in devices.split(",")]
    except ValueError:
        wanted = []
    if not wanted or len(set(wanted)) < len(wanted) or min(wanted) < 0:
        raise ConfigError(f"devices is '{devices}'.", "Give numbers by comma, each once, e.g. --devices 0,1.")
    return wanted


class TensorRtContext:
    """An execution context on an optimisation profile, which it may share where the engine was built so."""

    def __init__(self, engine: Any, profile: int, inputs: Mapping[str, tuple[int, ...]], stream: Handle) -> None:
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ConfigError(
                "There is not enough GPU memory for another execution context.",
                "Give a smaller --batch-size or fewer --gpu-copy-streams.",
            )
        # The engine must outlive the context, and TensorRT's Python objects do not see to that.
        self._engine = engine
        # Only the first context of an engine has profile 0 by itself.
        if not self._context.set_optimization_profile_async(profile, int(stream)):
            raise EngineBuildError(f"TensorRT gives a context no profile {profile}.", "See the console for its reason.")
        self._inputs = dict(inputs)

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies."""
        self._context.set_tensor_address(name, address)

    def set_batch(self, size: int) -> None:
        """Say how many samples the next batch has."""
        self.set_shapes({name: (size, *shape) for name, shape in self._inputs.items()})

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Say what shapes the inputs of the next batch have."""
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise ConfigError(
                    f"The engine takes no batch whose '{name}' is {list(shape)}.", "Build it with this --batch-size."
                )

    def enqueue(self, stream: Handle) -> None:
        """Put the network on a stream."""
        if not self._context.execute_async_v3(int(stream)):
            raise EngineBuildError("TensorRT refused to start the network.", "See the console for its reason.")


def open_contexts(gpu: Gpu, folder: Path, card: Mapping[str, Any], count: int) -> list[Context]:
    """Load the plan onto a GPU and make `count` contexts, each on its own profile or all on the shared one.

    Raises:
        EngineBuildError: TensorRT refuses the plan.
        ConfigError: it does not fit into the GPU's memory.
    """
    library = load_library(card["backend"])
    if card["plugins"]:
        library.plugins()
    gpu.activate()
    runtime = library.trt.Runtime(library.log)
    engine = runtime.deserialize_cuda_engine((folder / card["plan"]).read_bytes())
    if engine is None:
        raise _refused(library, folder)
    one_shape = not (card["fixed_batch"] or card.get("lengths"))
    shapes = {t["name"]: tuple(t["shape"]) for t in card["inputs"]} if one_shape else {}
    stream = gpu.stream()
    contexts: list[Context] = [
        TensorRtContext(engine, i % engine.num_optimization_profiles, shapes, stream) for i in range(count)
    ]
    if (told := card.get("detection")) is not None:
        contexts = [Detector(context, gpu, folder, told, card["max_batch"]) for context in contexts]
    gpu.finish()
    return contexts


def _refused(library: Library, folder: Path) -> EngineBuildError:
    said = " ".join(library.log.taken())[:500]
    return EngineBuildError(
        f"{library.title} cannot load the engine in {folder}: {said or 'it gives no reason'}.",
        "Build it here: nvkit build --fresh.",
    )

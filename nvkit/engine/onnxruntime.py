"""Backend "onnxruntime": ONNX Runtime on the CPU, always installed.

What was measured (ResNet-50 int8 and a small network, ONNX Runtime 1.31, 2 cores of a Zen 4 server) and decides the
form of this module:

- `session.run` with an output name and arrays costs 9 us a call; rebinding inputs by IO binding 7 to 12 us; OrtValues
  58 us. So arrays go in directly, and a slice of the staged array is an array.
- One session of one thread runs batches of several callers side by side as fast as a session for each. Sessions of
  several threads share a pool badly (70 against 82 images/s), so then each slot has its own.
- Of samples of different lengths, batches cut to their longest one take less than padded ones; see
  `nvkit bench lengths`.
- Without spinning, a session with the cores to itself loses up to a third; where the slots' threads outnumber the
  cores, spinning threads take time from working ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvkit.engine.base import BuildReport, Network
from nvkit.engine.cpu import cpu_identity, slots_of
from nvkit.engine.onnxruntime_runner import OnnxRuntimeRunner
from nvkit.errors import ConfigError, EngineBuildError, disk_errors, nearest
from nvkit.store import write_json
from nvkit.system import usable_cores

if TYPE_CHECKING:
    import onnxruntime

_ENGINE = "engine.onnx"
_CARD = "engine.json"
_PRECISIONS = ("fp32", "int8")


class OnnxRuntimeBackend:
    """Backend "onnxruntime", precisions fp32 and int8."""

    name = "onnxruntime"
    settings = frozenset({"precision", "batch_size", "threads", "slots"})
    scheme: str | None = "uint8"

    def unavailable(self) -> str | None:
        """Return why ONNX Runtime cannot be imported, or None."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return f"ONNX Runtime cannot be imported ({error}): pip install onnxruntime"
        return None

    def cannot_run(self, settings: Any) -> str | None:
        """Return None: what is built here runs here."""
        return None

    def identity(self, settings: Any) -> dict[str, Any]:
        """Return ONNX Runtime's version, this CPU, the precision and the optimisation level.

        The layout that the optimiser chooses depends on the CPU's instructions; batch size and threads are chosen
        at load and are no part of an engine.
        """
        import onnxruntime

        return {
            "backend": self.name,
            "onnxruntime": onnxruntime.__version__,
            **cpu_identity(),
            "precision": _precision(settings),
            "optimisation": "all",
        }

    def build(self, network: Network, settings: Any, folder: Path, cache: Path | None = None) -> BuildReport:
        """Write the network as ONNX Runtime optimises it for this CPU.

        Raises:
            ConfigError: the precision is neither fp32 nor int8.
            ModelError: the ONNX file is not usable, or lacks the output.
            EngineBuildError: there is no quantised network for int8, or ONNX Runtime refuses the network.
        """
        import onnx
        import onnxruntime

        from nvkit.quantize.graph import keep_output, load_model

        source = network.quantized if _precision(settings) == "int8" else network.model
        if source is None:
            raise EngineBuildError(
                "There is no quantised network to build an int8 engine from.", "Run the calibrate stage first."
            )
        model = load_model(source)
        keep_output(model, network.output, source)
        target = folder / _ENGINE
        options = _options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, threads=1)
        options.optimized_model_filepath = str(target)
        with disk_errors(folder):
            try:
                onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise EngineBuildError(
                    f"ONNX Runtime {onnxruntime.__version__} cannot build {source} "
                    f"({source.stat().st_size:,} bytes): {_first_line(error)}.",
                    "Check that the file is whole; an operator that is too new needs a newer onnxruntime.",
                ) from error
            layers = Counter(node.op_type for node in onnx.load(str(target)).graph.node)
            size = target.stat().st_size
            card = {"output": network.output, "variable": network.variable, "bytes": size}
            write_json(folder / _CARD, {**self.identity(settings), **card})
        details: dict[str, Any] = {"engine bytes": size, "nodes before": len(model.graph.node)}
        details["nodes"] = sum(layers.values())
        if network.variable:
            details["lengths"] = "each batch is cut to its longest sample"
        return BuildReport(layers=dict(layers.most_common()), details=details)

    def load(self, folder: Path, settings: Any) -> OnnxRuntimeRunner:
        """Open the engine with `settings.slots` places (0: one on each core) of `settings.threads` threads each.

        Raises:
            ConfigError: the batch size, slots or threads are impossible, or the network has another fixed batch size.
            EngineBuildError: the engine is missing, truncated, or of another CPU or version.
        """
        import onnxruntime

        card = _read_card(folder)
        slots, threads = slots_of(settings), settings.threads
        for key, value in (("batch_size", settings.batch_size), ("slots", slots), ("threads", threads)):
            if value is not None and value < 1:
                raise ConfigError(f"{key} is {value}.", "Give at least 1.")
        threads = threads or max(1, usable_cores() // slots)
        self._check_card(card, folder)
        # The file is optimised already: doing it again would only cost time.
        options = _options(
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, threads, spin=slots * threads <= usable_cores()
        )
        try:
            sessions = [
                onnxruntime.InferenceSession(str(folder / _ENGINE), options, providers=["CPUExecutionProvider"])
                for _ in range(1 if threads == 1 else slots)
            ]
        except Exception as error:
            raise _broken_engine(folder, _first_line(error)) from error
        for value in sessions[0].get_inputs():
            fixed = value.shape[0] if value.shape else None
            if isinstance(fixed, int) and fixed != settings.batch_size:
                raise ConfigError(
                    f"batch_size is {settings.batch_size}, but input '{value.name}' has the fixed batch size {fixed}.",
                    f"Set batch_size to {fixed} or export the network with a free batch axis.",
                )
        variable = card.get("variable", False)
        return OnnxRuntimeRunner(
            sessions * (slots // len(sessions)), card["output"], settings.batch_size, variable=variable
        )

    def _check_card(self, card: Mapping[str, Any], folder: Path) -> None:
        import onnxruntime

        here = {"backend": self.name, "onnxruntime": onnxruntime.__version__, **cpu_identity()}
        for key, value in here.items():
            if card.get(key) != value:
                raise _broken_engine(folder, f"it was built with {key} {card.get(key)}, here it is {value}")
        size = (folder / _ENGINE).stat().st_size if (folder / _ENGINE).is_file() else 0
        if size != card.get("bytes"):
            raise _broken_engine(folder, f"it has {size:,} bytes and not {card.get('bytes', 0):,}")


def _options(level: Any, threads: int, *, spin: bool = True) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return options


def _precision(settings: Any) -> str:
    precision = str(settings.precision)
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"Backend onnxruntime has no precision '{precision}' on a CPU.", nearest(precision, _PRECISIONS)
        )
    return precision


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken_engine(folder, f"{_CARD} cannot be read ({error})") from error
    return card


def _broken_engine(folder: Path, reason: str) -> EngineBuildError:
    path = folder / _ENGINE
    size = f"{path.stat().st_size:,} bytes" if path.is_file() else "missing"
    return EngineBuildError(
        f"{path} ({size}) cannot be used: {reason}.", f"Delete {folder} and run the build stage again."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__

"""The layers of a built engine: from its inspector, or from the build log where the engine cannot be opened here."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Kinds of layer that have weights: TensorRT 8.6's words and those of later ones.
WEIGHTED = re.compile(r"conv|gemm|correlation|matmul|matrix|runtime_fusion", re.IGNORECASE)

_PROFILE = re.compile(r"\[profile [1-9]\d*\]|_myl[1-9]\d*_\d+$")
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*)",
)
_TENSOR = re.compile(r"Datatype: (\w+), Format: ([^{}]*?)\s*}")
_PRECISIONS = {"float": "fp32", "half": "fp16", "bfloat16": "bf16"}
_WORDS = re.compile(r"\b(int8|fp8|fp16|fp32|half|float|bfloat16|int32|int64|bool|int4|fp4|uint8)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: TensorRT's name, made of the names of the ONNX nodes in it.
        type: TensorRT's kind of layer.
        precision: Type of its first input (of its output if it has none), e.g. "int8".
        output: Type of its first output.
        format: Memory layout of its first input.
        tactic: Name of the kernel, where it is told.
    """

    name: str
    type: str
    precision: str
    output: str
    format: str
    tactic: str = ""


def from_inspector(text: str) -> list[Layer]:
    """Read the JSON of TensorRT's engine inspector; layers of further profiles are the same again and left out."""
    layers = []
    for entry in json.loads(text, strict=False).get("Layers", []):
        if isinstance(entry, str):  # a library that was told to keep names only
            layers.append(Layer(entry, "unknown", "unknown", "unknown", ""))
            continue
        inputs, outputs = (entry.get(key) or [] for key in ("Inputs", "Outputs"))
        layers.append(
            _layer(
                entry.get("Name", ""),
                entry.get("LayerType", "unknown"),
                [_format(tensor) for tensor in inputs],
                [_format(tensor) for tensor in outputs],
                entry.get("TacticName", ""),
            )
        )
    return _first_profile(layers)


def from_log(text: str) -> list[Layer]:
    """Read the list of layers that a verbose build log ends with."""
    layers = []
    for line in text.splitlines():
        # Dimensions and strides are lists inside the lists of tensors.
        flat = re.sub(r"\[([-\d,]+)\]", r"(\1)", line)
        if found := _LINE.match(flat):
            inputs, outputs = (_TENSOR.findall(found[key]) for key in ("inputs", "outputs"))
            layers.append(_layer(found["name"], found["type"], inputs, outputs, found["tactic"]))
    return _first_profile(layers)


def summary(layers: list[Layer]) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the number of layers of each type and precision, and what else a reader wants to know of them."""
    counts = Counter(f"{layer.type} {layer.precision}" for layer in layers)
    formats = Counter(layer.format for layer in layers if layer.format)
    precisions = Counter(layer.precision for layer in layers)
    details = {"layers": len(layers), "precisions": dict(precisions), "formats": dict(formats.most_common())}
    return dict(counts.most_common()), details


def to_json(layers: list[Layer], whole: str) -> Mapping[str, Any]:
    """Return what is kept beside an engine: the layers, and what TensorRT itself said of them."""
    return {"layers": [asdict(layer) for layer in layers], "tensorrt": _parsed(whole)}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return text.splitlines()


def _format(tensor: Mapping[str, Any]) -> tuple[str, str]:
    """Return datatype and format; TensorRT 8.6 has both in one sentence."""
    if "Datatype" in tensor:
        return str(tensor["Datatype"]), str(tensor.get("Format", ""))
    sentence = str(tensor.get("Format/Datatype", ""))
    words = _WORDS.findall(sentence)
    return (words[-1] if words else "unknown"), sentence


def _layer(name: str, kind: str, inputs: list[Any], outputs: list[Any], tactic: str) -> Layer:
    precision, layout = (inputs or outputs or [("none", "")])[0]
    return Layer(
        name, kind, _plain(precision), _plain((outputs or [("none", "")])[0][0]), layout.strip(), tactic.strip()
    )


def _plain(precision: str) -> str:
    return _PRECISIONS.get(precision.lower(), precision.lower())


def _first_profile(layers: list[Layer]) -> list[Layer]:
    return [layer for layer in layers if not _PROFILE.search(layer.name)]

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
# TensorRT 8's list of layers: "Layer(kind): name, Tactic: 0x1, a (Int8[-1,64:32,56,56]) -> b (Float[-1,2])".
_OLD_LINE = re.compile(r"^Layer\((?P<type>\w+)\): (?P<name>.*), Tactic: \S+, (?P<inputs>.*) -> (?P<outputs>.*)$")
_OLD_TENSOR = re.compile(r"[\[(](?P<type>Int8|Half|Float|Int32|Bool)[\[(](?P<shape>[-\d,:]*)[\])]")
_UNTOLD = "N/A"  # what TensorRT 8's inspector says of types and layouts where the batch is left open
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


def from_inspector(text: str, log: str = "") -> list[Layer]:
    """Read the JSON of TensorRT's engine inspector; layers of further profiles are the same again and left out.

    Args:
        text: What the inspector says.
        log: The list of layers of the verbose build log, which has the types that TensorRT 8's inspector does not tell.
    """
    layers = []
    typed = _old_types(log)
    for entry in json.loads(text, strict=False).get("Layers", []):
        if isinstance(entry, str):  # a library that was told to keep names only
            layers.append(Layer(entry, "unknown", "unknown", "unknown", ""))
            continue
        name = entry.get("Name", "")
        inputs, outputs = ([_format(tensor) for tensor in entry.get(key) or []] for key in ("Inputs", "Outputs"))
        if any(layout.startswith(_UNTOLD) for _, layout in [*inputs, *outputs]):
            weights = entry.get("Weights") or entry.get("ConvWeights") or {}
            of_weights = str(weights.get("Type", "unknown")) if isinstance(weights, dict) else "unknown"
            inputs, outputs = typed.get(name, ([(of_weights, "")], [("unknown", "")]))
        layers.append(_layer(name, entry.get("LayerType", "unknown"), inputs, outputs, entry.get("TacticName", "")))
    return _first_profile(layers)


def _old_types(log: str) -> dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """Return layer name to type and layout of its inputs and outputs; "64:32" are 64 channels in vectors of 32."""

    def tensors(text: str) -> list[tuple[str, str]]:
        found = []
        for tensor in _OLD_TENSOR.finditer(text):
            vector = re.search(r":(\d+)", tensor["shape"])
            found.append((tensor["type"], f"chw{vector[1]}" if vector else "linear"))
        return found

    lines = (_OLD_LINE.match(line.strip()) for line in log.splitlines())
    return {line["name"]: (tensors(line["inputs"]), tensors(line["outputs"])) for line in lines if line}


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

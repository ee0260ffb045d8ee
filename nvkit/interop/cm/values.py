"""Text of CM to values of nvkit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nvkit.errors import ConfigError

_TRUE = {"yes", "true", "on", "1", "y"}
_FALSE = {"no", "false", "off", "0", "n", ""}
_NS_PER_MS = 1_000_000


def truth(text: str) -> bool:
    """Read yes and no in all spellings of CM.

    Raises:
        ValueError: neither.
    """
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)


def value(text: str, read_as: str, who: str, benchmark: str) -> Any:
    """Read a value.

    Args:
        text: As CM has it.
        read_as: int, float, bool, ms (to ns), batch or text.
        who: The flag, variable or variation that sets it, for the error.
        benchmark: Whose batch size is wanted of "model:N,model2:M".

    Raises:
        ConfigError: the text is not of this kind.
    """
    noun, read = _READERS[read_as]
    try:
        return read(_of_model(text, benchmark) if read_as == "batch" else text)
    except (ValueError, OverflowError):
        raise ConfigError(f"{who}: '{text}' is not {noun}.", f"Give {noun}.") from None


def _whole(text: str) -> int:
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(text) if text.strip().lstrip("+-").isdigit() else int(number)


def _nanoseconds(text: str) -> int:
    return round(float(text) * _NS_PER_MS)


def _of_model(text: str, benchmark: str) -> str:
    """Return N of "model:N", also where several models are separated by comma or ##."""
    if ":" not in text:
        return text
    for entry in text.replace("##", ",").split(","):
        model, _, number = entry.partition(":")
        if model.strip() == benchmark or benchmark.startswith(f"{model.strip()}-"):
            return number
    raise ValueError(text)


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "int": ("a whole number", _whole),
    "float": ("a number", float),
    "bool": ("yes or no", truth),
    "ms": ("a number of milliseconds", _nanoseconds),
    "batch": ("a whole number, or model:number for this benchmark", _whole),
    "text": ("text", str),
}

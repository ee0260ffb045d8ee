"""Callbacks of widgets, of which the notebook would otherwise swallow every exception."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any


def guarded(callback: Callable[[Any], None], shown_in: Any) -> Callable[[Any], None]:
    """Return the callback with its exceptions shown in an HTML widget."""

    def call(event: Any) -> None:
        try:
            callback(event)
        except Exception as error:  # there is no caller that it could reach
            text = html.escape(f"{type(error).__name__}: {error}")
            shown_in.value = f"<span style='color:#b00020'>{text}</span>"

    return call

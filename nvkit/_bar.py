"""The progress bar of a notebook with a person in front of it."""

from __future__ import annotations

from typing import Any

from tqdm.notebook import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """tqdm's widget, whose output is emptied when it is closed.

    tqdm leaves the closed widget in the output: red where the total was not reached, and after a reload of the page
    as "Error displaying widget".
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from IPython.display import display

        super().__init__(*args, **{**kwargs, "display": False})
        self._handle = None if self.disable else display(self.container, display_id=True)

    def close(self) -> None:
        """Close the bar and empty its output; a second call does nothing."""
        super().close()
        if self._handle and not self.leave:
            self._handle.update({"text/plain": ""}, raw=True)
            self._handle = None

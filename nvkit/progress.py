"""Progress bars that suit the place: a widget for a person in a notebook, plain text everywhere else.

`tqdm.auto` draws a widget in every kernel, also in one that papermill drives; there the widget is the only output
and a static page of the executed notebook shows nothing. So a kernel without a person gets the text bar.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any


def person_present() -> bool:
    """Tell whether this is a notebook kernel with a person in front of it.

    A front end such as JupyterLab lets the kernel ask for input; papermill and nbconvert do not.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    kernel = getattr(shell, "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def tqdm(*args: Any, **kwargs: Any) -> Any:
    """Return a tqdm bar; arguments as tqdm's. It disappears when finished unless `leave=True` is given."""
    kwargs.setdefault("leave", False)
    if person_present() and find_spec("ipywidgets"):
        from nvkit._bar import Bar

        return Bar(*args, **kwargs)
    from tqdm.std import tqdm as bar

    kwargs.setdefault("mininterval", 0.5)
    kwargs.setdefault("file", sys.stderr)
    return bar(*args, **kwargs)

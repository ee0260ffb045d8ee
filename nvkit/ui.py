"""What the notebooks show to a person: the form that chooses a run, the panel that starts one, and figures.

Headless, the form and the panel show nothing at all: an executed notebook holds results only. Nothing that matters
lives in a widget; their values are read by the next cell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nvkit.progress import person_present
from nvkit.tables import Table

if TYPE_CHECKING:
    from nvkit.config import RunConfig
    from nvkit.runs import RunFolder, StageResult

_NO_WIDGETS = 'No form: ipywidgets is not installed (pip install -e ".[lab]"). The parameters above hold.'


@dataclass
class Choice:
    """What the form has chosen so far; attributes are the first arguments of `nvkit.configure`."""

    profile: str
    benchmark: str
    scenario: str
    mode: str
    round: str
    quick: bool

    def values(self) -> dict[str, Any]:
        """Return the arguments for `nvkit.configure`."""
        return asdict(self)

    def command(self, settings: Mapping[str, Any] | None = None) -> list[str]:
        """Return the words after `nvkit` that do the same from a shell.

        Args:
            settings: Setting to value, as `overrides` of `nvkit.configure`.
        """
        named = [f"--{key}={getattr(self, key)}" for key in ("profile", "scenario", "mode", "round")]
        others = [f"--{key.replace('_', '-')}={value}" for key, value in (settings or {}).items()]
        return ["run", self.benchmark, *named, *(["--quick"] if self.quick else []), *others]

    def shell_line(self, settings: Mapping[str, Any] | None = None) -> str:
        """Return the equivalent shell line."""
        return shlex.join(["nvkit", *self.command(settings)])


def choose(*, profile: str, benchmark: str, scenario: str, mode: str, round: str, quick: bool) -> Choice:
    """Show a form with these values to a person; the object returned follows it. Headless, it carries the values.

    Raises:
        ConfigError: a name that does not exist, when there is a form to show it in (headless, `nvkit.configure`
            says the same).
    """
    choice = Choice(profile, benchmark, scenario, mode, round, quick)
    if person_present():
        from IPython.display import display

        try:
            from nvkit._form import Form
        except ImportError:
            print(_NO_WIDGETS)
        else:
            display(Form(choice).widget)
    return choice


def live_panel(
    choice: Choice,
    *,
    data_dir: str = "",
    model_path: str = "",
    overrides: Mapping[str, Any] | None = None,
    outputs: str = "",
    fresh: bool = False,
) -> None:
    """Show a person a button that runs the whole reproduction in a child process, its stages and its log.

    Headless, it shows nothing and runs nothing.

    Args:
        choice: What the form chose; read when the button is pressed.
        data_dir: Folder of the real data set, or empty.
        model_path: The reference ONNX file, or empty.
        overrides: Setting to value.
        outputs: Folder of runs/ and store/, or empty for the clone's own.
        fresh: Begin a new run folder even if one is unfinished.
    """
    if not person_present():
        return
    from IPython.display import display

    try:
        from nvkit._panel import Panel
    except ImportError:
        print(_NO_WIDGETS)
        return
    paths = {"data_dir": data_dir, "model_path": model_path}
    settings = {**(overrides or {}), **{key: path for key, path in paths.items() if path}}
    more = [*([f"--outputs={outputs}"] if outputs else []), *(["--fresh"] if fresh else [])]
    display(Panel(lambda: [*choice.command(settings), *more]).widget)


def overview(config: RunConfig, run: RunFolder) -> Table:
    """Return what a notebook is about to work on; the run folder by its name, for records are shared."""
    from nvkit.config import QUICK_NOTE

    rows = [
        ["benchmark", config.title],
        ["profile", config.profile],
        ["round", config.round],
        ["scenarios", ", ".join(config.scenarios)],
        ["run folder", run.path.name],
    ]
    return Table(["this run", ""], rows, notes=[QUICK_NOTE] if config.quick else [])


def show_figures(result: StageResult) -> None:
    """Display every figure of a result as a PNG picture, under the name that its file in plots/ has too."""
    import io
    from base64 import b64encode

    from IPython.display import display

    for name, figure in result.figures().items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=150)
        width = int(figure.get_size_inches()[0] * 96)
        bundle = {"image/png": b64encode(png.getvalue()).decode(), "text/plain": name}
        display(bundle, raw=True, metadata={"image/png": {"width": width, "alt": name}})

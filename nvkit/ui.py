"""What the notebooks show to a person: the form that chooses a run, the panel that starts one, and figures.

Headless, the form and the panel show nothing at all: an executed notebook holds results only. Nothing that matters
lives in a widget; their values are read by the next cell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nvkit.progress import person_present
from nvkit.tables import Table

if TYPE_CHECKING:
    from nvkit.config import RunConfig
    from nvkit.runs import RunFolder, StageResult

_NO_WIDGETS = 'No form: ipywidgets is not installed (pip install -e ".[lab]"). The parameters above hold.'


@dataclass
class Choice:
    """What was given and what the form has changed since; attributes are the arguments of `nvkit.configure`."""

    profile: str
    benchmark: str
    scenario: str
    mode: str
    round: str
    quick: bool
    data_dir: str = ""
    model_path: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    implementation: str = "nvkit"
    power: str = "MaxP"

    def values(self) -> dict[str, Any]:
        """Return the arguments for `nvkit.configure`."""
        return asdict(self)

    def command(self) -> list[str]:
        """Return the words after `nvkit` that do the same, all stages of it, from a shell."""
        named = [f"--{key}={getattr(self, key)}" for key in ("profile", "scenario", "mode", "round")]
        usual = {"implementation": "nvkit", "power": "MaxP"}
        named += [f"--{key}={getattr(self, key)}" for key, value in usual.items() if getattr(self, key) != value]
        paths = {key: getattr(self, key) for key in ("data_dir", "model_path") if getattr(self, key)}
        settings = {**self.overrides, **paths}
        others = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        return ["run", self.benchmark, *named, *(["--quick"] if self.quick else []), *others]

    def shell_line(self) -> str:
        """Return the equivalent shell line."""
        return shlex.join(["nvkit", *self.command()])


def choose(
    profile: str,
    benchmark: str,
    scenario: str,
    mode: str,
    round: str,
    quick: bool,
    data_dir: str = "",
    model_path: str = "",
    overrides: Mapping[str, Any] | None = None,
    implementation: str = "nvkit",
    power: str = "MaxP",
) -> Choice:
    """Show a form with these values to a person; the object returned follows it. Headless, it carries the values.

    Arguments are those of `nvkit.configure`.

    Raises:
        ConfigError: a name or setting that does not exist, when there is a form to show it in (headless,
            `nvkit.configure` says the same).
    """
    own = dict(overrides or {})
    choice = Choice(profile, benchmark, scenario, mode, round, quick, data_dir, model_path, own, implementation, power)
    if person_present():
        from IPython.display import display

        try:
            from nvkit._form import Form
        except ImportError:
            print(_NO_WIDGETS)
        else:
            display(Form(choice).widget)
    return choice


def live_panel(choice: Choice, *, outputs: str = "", fresh: bool = False) -> None:
    """Show a person a button that runs the whole reproduction in a child process, its stages and its log.

    Headless, it shows nothing and runs nothing.

    Args:
        choice: What the form chose; read when the button is pressed.
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
    more = [*([f"--outputs={outputs}"] if outputs else []), *(["--fresh"] if fresh else [])]
    display(Panel(lambda: [*choice.command(), *more]).widget)


def overview(config: RunConfig, run: RunFolder) -> Table:
    """Return what a notebook is about to work on; the run folder by its name, for records are shared."""
    from nvkit.config import QUICK_NOTE

    rows = [
        ["benchmark", config.title],
        ["profile", config.profile],
        ["round", config.round],
        ["implementation", config.implementation],
        ["power mode", config.power],
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

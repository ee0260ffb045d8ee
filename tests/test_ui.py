"""The form and the panel, headless and with a person (who is made up here; widgets work without a front end)."""

from __future__ import annotations

import base64
import html
import sys
import time
from typing import Any

import pytest

from nvkit import ui
from nvkit.config import BenchmarkFile, ProfileFile, RoundFile, names
from nvkit.errors import ConfigError
from nvkit.gpus import Driver
from nvkit.ui import Choice

VALUES: dict[str, Any] = {
    "profile": "cpu",
    "benchmark": "resnet50",
    "scenario": "Offline",
    "mode": "both",
    "round": "v4.1",
    "quick": True,
}
NOTHING_ELSE: dict[str, Any] = {"data_dir": "", "model_path": "", "overrides": {}} | {
    "implementation": "nvkit",
    "power": "MaxP",
}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A person is present; what is displayed comes here."""
    pytest.importorskip("ipywidgets")
    displayed: list[Any] = []
    monkeypatch.setattr("nvkit.ui.person_present", lambda: True)
    monkeypatch.setattr("IPython.display.display", displayed.append)
    return displayed


def test_headless_the_form_shows_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.display.display", lambda *_: pytest.fail("displayed something"))
    choice = ui.choose(**VALUES)
    ui.live_panel(choice)
    assert choice.values() == {**VALUES, **NOTHING_ELSE}
    assert capsys.readouterr() == ("", "")


def test_the_shell_line_does_the_same() -> None:
    choice = Choice(**VALUES, data_dir="my images", overrides={"batch_size": 16})
    assert choice.shell_line() == (
        "nvkit run resnet50 --profile=cpu --scenario=Offline --mode=both --round=v4.1 --quick "
        "--batch-size=16 '--data-dir=my images'"
    )


def test_the_shell_line_names_another_implementation_and_power_mode() -> None:
    choice = Choice(**VALUES, overrides={"nvidia_code": "v3.0"}, implementation="nvidia-original", power="MaxQ")
    assert choice.shell_line() == (
        "nvkit run resnet50 --profile=cpu --scenario=Offline --mode=both --round=v4.1 "
        "--implementation=nvidia-original --power=MaxQ --quick --nvidia-code=v3.0"
    )


def test_without_ipywidgets_a_person_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nvkit.ui.person_present", lambda: True)
    for module in ("ipywidgets", "nvkit._form", "nvkit._panel"):
        monkeypatch.setitem(sys.modules, module, None)
    choice = ui.choose(**VALUES)
    ui.live_panel(choice)
    assert choice.values() == {**VALUES, **NOTHING_ELSE}
    assert capsys.readouterr().out.count("ipywidgets is not installed") == 2


def form(choice: Choice) -> Any:
    from nvkit._form import Form

    return Form(choice)


def test_the_form_offers_what_is_there(shown: list[Any]) -> None:
    choice = ui.choose(**VALUES)
    assert len(shown) == 1
    made = form(choice)
    assert list(made.profile.options) == ["auto", *names(ProfileFile)]
    assert list(made.benchmark.options) == names(BenchmarkFile)
    assert list(made.scenario.options) == ["all", "Offline", "Server", "SingleStream", "MultiStream"]
    assert list(made.round.options) == names(RoundFile)


def test_what_a_round_lacks_is_not_offered_and_explained(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit import _form
    from nvkit.config import load

    def loaded(kind: Any, name: str) -> Any:
        found, yaml = load(kind, name)
        if name == "v3.0":
            datacenter_only = found.benchmarks["resnet50"].model_copy(update={"edge": []})
            found = found.model_copy(update={"benchmarks": {"resnet50": datacenter_only}})
        elif name == "v6.0":
            found = found.model_copy(update={"benchmarks": {}})
        return found, yaml

    monkeypatch.setattr(_form, "load", loaded)
    choice = Choice(**{**VALUES, "scenario": "SingleStream"})
    made = form(choice)
    assert "v6.0" not in made.round.options
    assert "No resnet50 in v6.0." in made.notes.value
    made.round.value = "v3.0"
    assert list(made.scenario.options) == ["all", "Offline", "Server"]
    assert "Round v3.0 has Offline, Server for resnet50" in made.notes.value
    assert (choice.scenario, choice.round) == ("all", "v3.0")


def test_a_change_reaches_the_choice_and_the_shell_line(shown: list[Any]) -> None:
    choice = Choice(**VALUES)
    made = form(choice)
    made.scenario.value = "Server"
    made.quick.value = False
    made.round.value = "v3.0"
    assert choice.values() == {**VALUES, **NOTHING_ELSE, "scenario": "Server", "quick": False, "round": "v3.0"}
    assert f"<code>{choice.shell_line()}</code>" in made.line.value
    assert "Round v3.0" in made.notes.value
    assert made.error.value == ""


def test_several_scenarios_stay_chosen(shown: list[Any]) -> None:
    made = form(Choice(**{**VALUES, "scenario": "Offline,Server"}))
    assert made.scenario.value == "Offline,Server"


def test_a_misspelt_parameter_is_an_error_with_the_right_name(shown: list[Any]) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        ui.choose(**{**VALUES, "benchmark": "resnet5"})


def test_an_error_in_a_callback_is_shown(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = form(Choice(**VALUES))
    monkeypatch.setattr(made, "_scenarios", lambda: 1 / 0)
    made.quick.value = False
    assert "ZeroDivisionError" in made.error.value


def test_a_profile_that_needs_a_gpu_says_what_is_missing(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit import _form
    from nvkit.config import load

    profile, yaml = load(ProfileFile, "cpu")
    gpu = profile.model_copy(update={"device": profile.device.model_copy(update={"kind": "gpu"})})

    def loaded(kind: Any, name: str) -> Any:
        return (gpu, yaml) if kind is ProfileFile else load(kind, name)

    monkeypatch.setattr(_form, "load", loaded)
    monkeypatch.setattr("nvkit.system.ask_driver", lambda: Driver(no_gpu_reason="no NVIDIA driver answers"))
    assert "Profile cpu needs a GPU: no NVIDIA driver answers." in form(Choice(**VALUES)).notes.value


def panel(*command: str) -> Any:
    from nvkit._panel import Panel

    return Panel(lambda: list(command))


def wait_for_end(made: Any) -> None:
    deadline = time.monotonic() + 30
    while made.run.disabled and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not made.run.disabled
    assert made.cancel.disabled


def log_text(made: Any) -> str:
    return html.unescape(made.log.value)


def test_the_panel_runs_a_child_and_shows_its_log(shown: list[Any]) -> None:
    ui.live_panel(Choice(**VALUES))
    assert len(shown) == 1
    made = panel("list", "scenarios")
    made.run.click()
    wait_for_end(made)
    assert "$ nvkit list scenarios\n" in log_text(made)
    assert "MultiStream" in log_text(made)
    assert made.strip.value.endswith(" s done</div>")


def test_the_panel_shows_stages_and_a_failure(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    script = "print('[1/6] setup: setup: finished in 1 s'); print('[2/6] preprocess: 20_preprocess.ipynb'); exit(4)"
    replace_child(monkeypatch, script)
    made = panel("run")
    made.run.click()
    wait_for_end(made)
    assert [made.states[s] for s in ("setup", "preprocess", "calibrate")] == ["done", "failed", "pending"]
    assert "exit code 4" in made.strip.value


def test_the_log_keeps_no_progress_bars(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bars = "for n in (1, 2): print(f'Preprocessing:  {n}0%|# | {n}/10 [00:0{n}<00:08,  1.0image/s]')"
    replace_child(monkeypatch, f"{bars}\nprint('[2/6] preprocess: finished in 9 s')")
    made = panel("run")
    made.run.click()
    wait_for_end(made)
    assert "$ nvkit run\n[2/6] preprocess: finished in 9 s</pre>" in log_text(made)


def test_cancel_interrupts_the_child(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    replace_child(
        monkeypatch,
        "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
        "print('[1/6] setup: 10_setup.ipynb', flush=True)\ntime.sleep(60)",
    )
    made = panel("run")
    made.run.click()
    deadline = time.monotonic() + 30
    while made.states["setup"] != "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    made.cancel.click()
    wait_for_end(made)
    assert made.states["setup"] == "cancelled"
    assert made.strip.value.endswith(" s cancelled</div>")
    assert "what was finished is kept" in log_text(made)


def replace_child(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    from nvkit import _panel

    start = _panel.subprocess.Popen
    monkeypatch.setattr(_panel.subprocess, "Popen", lambda _, **kw: start([sys.executable, "-c", script], **kw))


def test_figures_are_shown_as_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit.results.plot_style import new_figure
    from nvkit.runs import StageResult

    class Plotted(StageResult):
        def figures(self) -> dict[str, Any]:
            return {"one": new_figure("t", "x", "y", "")[0]}

    shown: list[tuple[Any, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    ui.show_figures(Plotted())
    [(data, metadata)] = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "one"
    assert metadata["image/png"] == {"width": 768, "alt": "one"}

"""The names of nvkit that a selection comes to: profile, benchmark, scenario, mode, power, round, stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvkit.config import MODES, SCENARIOS, RoundFile, load, names
from nvkit.config.resolve import POWER_MODES
from nvkit.errors import ConfigError, nearest
from nvkit.interop.cm.data import expanded, raw
from nvkit.interop.cm.select import DEFAULT, Selection
from nvkit.interop.cm.values import value

_RUN_COMMANDS = {"v2.1": "CM_MLPERF_NVIDIA_RUN_COMMAND", "v3.x": "MLPERF_NVIDIA_RUN_COMMAND"}


@dataclass(frozen=True)
class Target:
    """What of nvkit a command asks for.

    Attributes:
        stage: Stage of nvkit, the name of its command.
        run_mode: The script's run mode, as --run-mode of `nvkit run` spells it.
        make_target: Target of NVIDIA's Makefile that is no run mode, or None.
        round_note: Why this round.
    """

    profile: str
    benchmark: str
    scenario: str
    mode: str
    power: str
    round: str
    round_note: str
    stage: str
    run_mode: str
    make_target: str | None = None


def target(selection: Selection, round: str | None, original: bool) -> Target:
    """Return what the selection asks of nvkit.

    Args:
        selection: From `select`.
        round: Round that the command names, or None for the edition's own.
        original: Whether NVIDIA's own code is to be run.

    Raises:
        ConfigError: an unknown name, a combination that cannot be, or a step that only NVIDIA's code has.
    """
    benchmark = _benchmark(selection)
    scenario = _scenario(selection.env["CM_MLPERF_LOADGEN_SCENARIO"])
    chosen, note = (round, "the command names it") if round else _round(selection, benchmark, scenario)
    stage, run_mode, make_target = _step(selection, original)
    return Target(
        profile=profile(selection),
        benchmark=benchmark,
        scenario=scenario,
        mode=_mode(selection.env["CM_MLPERF_LOADGEN_MODE"]),
        power=_power(selection),
        round=chosen,
        round_note=note,
        stage="run" if original else stage,
        run_mode=run_mode,
        make_target=make_target,
    )


def profile(selection: Selection) -> str:
    """Return the profile of the chosen GPU, memory class or device, "auto" if there is none.

    Raises:
        ConfigError: a GPU beside the device cpu, or a connection that the GPU does not have.
    """
    tags = {c.tag for c in selection.chosen}
    gpu, connection = selection.of_group("gpu-name"), selection.of_group("gpu-connection")
    memory = selection.of_group("device-memory")
    if "cpu" in tags and (gpu or memory):
        other = (gpu or memory).tag  # type: ignore[union-attr]
        raise ConfigError(f"_cpu and _{other} exclude each other: {other} is of a GPU.", "Leave one out.")
    if gpu and connection and connection.tag == "sxm" and gpu.tag not in ("a100", "custom"):
        raise ConfigError(f"_sxm and _{gpu.tag} exclude each other: {gpu.tag} has no SXM form.", "Leave _sxm out.")
    for key, name in raw("variations")["profiles"].items():
        if tags.issuperset(key.split(",")):
            return str(name)
    return "auto"


def _benchmark(selection: Selection) -> str:
    model = selection.env["CM_MODEL"]
    models = selection.edition.of_group("model")
    if model not in models:
        raise ConfigError(f"{selection.set_by('CM_MODEL')}: there is no model '{model}'.", nearest(model, models))
    return model


def _scenario(text: str) -> str:
    for name in SCENARIOS:
        if text.lower() == name.lower():
            return name
    raise ConfigError(f"There is no scenario '{text}'.", nearest(text.capitalize(), SCENARIOS))


def _mode(text: str) -> str:
    known = {mode: mode for mode in MODES} | {"PerformanceOnly": "performance", "AccuracyOnly": "accuracy"}
    if text in known:
        return known[text]
    if text == "compliance":
        raise ConfigError("This nvkit has no compliance mode.", "Run mode performance or accuracy.")
    raise ConfigError(f"There is no mode '{text}'.", nearest(text, [*MODES, "compliance"]))


def _power(selection: Selection) -> str:
    asked: dict[str, str] = {}
    for variable, mode in (("N_MAXQ", "MaxQ"), ("N_MAXN", "MaxN")):
        if _asked(selection, expanded(variable)):
            asked[selection.set_by(expanded(variable))] = mode
    if text := selection.env.get(expanded("N_POWER_SETTING"), ""):
        found = next((mode for mode in POWER_MODES if mode.lower() == text.lower()), None)
        if not found:
            raise ConfigError(f"--power_setting: there is no power mode '{text}'.", nearest(text, POWER_MODES))
        asked["power_setting"] = found
    if len(set(asked.values())) > 1:
        raise ConfigError(f"{' and '.join(asked)} ask for different power modes.", "Leave one out.")
    return next(iter(asked.values()), "MaxP")


def _round(selection: Selection, benchmark: str, scenario: str) -> tuple[str, str]:
    """Return the edition's round if it has the benchmark's scenario, else the first later one that has it."""
    edition = selection.edition
    own = load(RoundFile, edition.round)[0]
    if benchmark in own.benchmarks and scenario in own.benchmarks[benchmark].allowed:
        return edition.round, f"edition {edition.name} of the script wraps NVIDIA's code of {edition.round}"
    others = sorted((n for n in names(RoundFile) if n != edition.round), key=_number)
    files = {name: load(RoundFile, name)[0] for name in others}
    having = [n for n, f in files.items() if benchmark in f.benchmarks and scenario in f.benchmarks[benchmark].allowed]
    if having:
        later = [name for name in having if _number(name) > _number(edition.round)]
        return (later or having)[0], f"{edition.round} has no {benchmark} {scenario}"
    rules = [f.benchmarks[benchmark] for f in (own, *files.values()) if benchmark in f.benchmarks]
    allowed = [s for s in SCENARIOS if any(s in rule.allowed for rule in rules)]
    raise ConfigError(f"No round has {scenario} for {benchmark}.", f"It has {', '.join(allowed)}.")


def _number(round: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", round))


def _step(selection: Selection, original: bool) -> tuple[str, str, str | None]:
    """Return stage, run mode and, where it is neither, the make target."""
    variable = _RUN_COMMANDS[selection.edition.name]
    command, known = selection.env[variable], raw("variations")["run_modes"]
    who = selection.set_by(variable)
    if command not in known:
        if not original:
            raise ConfigError(
                f"{who}: '{command}' is a make target of NVIDIA's code only.",
                f"Give --nvidia-code PATH to run NVIDIA's code. {nearest(command, known)}",
            )
        return "run", "run_harness", command
    step = known[command]
    if "stage" not in step and not original:
        raise ConfigError(
            f"{'' if who == DEFAULT else '_'}{command} prepares NVIDIA's own code; nvkit's harness needs no such step.",
            "Give --nvidia-code PATH to run NVIDIA's code.",
        )
    if step["run_mode"] == "run_harness" and _asked(selection, "CM_MLPERF_SKIP_RUN"):
        return "build", "build_engine", None
    return step.get("stage", "run"), step["run_mode"], None


def _asked(selection: Selection, variable: str) -> bool:
    text = selection.env.get(variable, "")
    return bool(text) and bool(value(text, "bool", selection.set_by(variable), ""))

"""The command line: what the notebooks do, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nvkit.errors import ConfigError, InvalidResultError, nearest
from nvkit.record import commands as record_commands

app = typer.Typer(
    help="Reproduce NVIDIA's MLPerf Inference results. Start with: nvkit run resnet50 --profile cpu --quick",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_FREE: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "options_metavar": "[BENCHMARK] [OPTIONS] [SETTINGS]",
    "epilog": "Every setting of 'nvkit list settings' is a flag too, e.g. --batch-size 16 --min-duration 60000.",
}

Benchmark = Annotated[
    str, typer.Option(help="benchmark, see 'nvkit list benchmarks'; may also stand first without the flag")
]
Profile = Annotated[
    str, typer.Option(help="GPU profile, see 'nvkit list profiles'; auto finds the one of this machine")
]
ScenarioName = Annotated[str, typer.Option(help="Offline, Server, SingleStream, MultiStream, several by comma, or all")]
ModeName = Annotated[str, typer.Option(help="performance, accuracy, both (a test each), or submission (one test)")]
Round = Annotated[str, typer.Option(help="MLPerf Inference round whose rules hold, see 'nvkit list rounds'")]
Quick = Annotated[bool, typer.Option("--quick", help="short durations; brands every output as not official")]
Implementation = Annotated[str, typer.Option(help="nvkit, or nvidia-original: NVIDIA's own code (--nvidia-code PATH)")]
Power = Annotated[str, typer.Option(help="MaxP (as the GPU is), MaxQ (least energy) or MaxN (no limit)")]
Outputs = Annotated[str, typer.Option(help="folder of runs/ and store/ (default: outputs/ of the clone)")]
Fresh = Annotated[bool, typer.Option("--fresh", help="a new run folder, even if one is unfinished")]


@app.command(**_FREE)
def run(
    context: typer.Context,
    benchmark: Benchmark = "resnet50",
    profile: Profile = "auto",
    scenario: ScenarioName = "all",
    mode: ModeName = "both",
    round: Round = "v4.1",
    quick: Quick = False,
    implementation: Implementation = "nvkit",
    power: Power = "MaxP",
    outputs: Outputs = "",
    fresh: Fresh = False,
    run_mode: Annotated[
        str,
        typer.Option(
            help="for nvidia-original, one step by itself: prebuild, build, download_model, preprocess_data, "
            "calibrate, build_engine or run_harness"
        ),
    ] = "",
    audit: Annotated[str, typer.Option(help="for nvidia-original: an audit test instead, e.g. TEST01")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be done, and do nothing")] = False,
    require_valid: Annotated[
        bool, typer.Option("--require-valid", help="exit with 5 if a result is INVALID or misses its accuracy target")
    ] = False,
) -> None:
    """Run a whole reproduction: every stage's notebook through papermill, into one run folder.

    The newest unfinished run of the same configuration is continued: finished stages are reused.
    """
    import nvkit
    from nvkit.reproduce import reproduce

    benchmark, overrides = words(context.args, benchmark)
    names: dict[str, Any] = {"profile": profile, "benchmark": benchmark, "scenario": scenario, "mode": mode}
    names |= {"round": round, "quick": quick, "implementation": implementation, "power": power}
    if dry_run:
        from nvkit.dry_run import dry_run as plan

        for table in plan(nvkit.configure(**names, overrides=overrides), run_mode, outputs, fresh=fresh):
            typer.echo(f"{table}\n")
        return
    if run_mode or audit:
        from nvkit.interop.nvidia.stages import on_request

        config = nvkit.configure(**names, overrides=overrides)
        opened = nvkit.open_run(config, outputs)
        typer.echo(str(on_request(config, opened, run_mode or "run_harness", audit=audit or None)))
        typer.echo(f"\nrun folder: {opened.path}")
        return
    result, folder = reproduce(names, overrides, outputs, fresh=fresh)
    typer.echo(f"\n{result.tables()[0]}")
    typer.echo(f"\nrun folder: {folder}\nreport:     {folder / '60_report.ipynb'}")
    if require_valid and (problems := result.problems()):
        raise InvalidResultError(" ".join(problems), f"See {folder / '60_report.ipynb'}.")


def _stage_command(name: str, doc: str) -> None:
    def command(
        context: typer.Context,
        benchmark: Benchmark = "resnet50",
        profile: Profile = "auto",
        scenario: ScenarioName = "all",
        mode: ModeName = "both",
        round: Round = "v4.1",
        quick: Quick = False,
        implementation: Implementation = "nvkit",
        power: Power = "MaxP",
        outputs: Outputs = "",
        fresh: Fresh = False,
    ) -> None:
        import nvkit

        benchmark, overrides = words(context.args, benchmark)
        config = nvkit.configure(
            *(profile, benchmark, scenario, mode, round, quick),
            overrides=overrides,
            implementation=implementation,
            power=power,
        )
        folder = nvkit.open_run(config, outputs)
        typer.echo(str(getattr(nvkit.stages, name)(config, folder, fresh=fresh)))
        typer.echo(f"\nrun folder: {folder.path}")

    command.__doc__ = doc
    app.command(name, **_FREE)(command)


_stage_command("setup", "Find, download or make the data set and the model.")
_stage_command("preprocess", "Preprocess the data set (and what comes before it).")
_stage_command("calibrate", "Find activation ranges and quantise (and what comes before it).")
_stage_command("build", "Build the engines (and what comes before it).")
_stage_command("report", "Report on the newest run of this configuration (and do what is missing).")


@app.command(**_FREE)
def explain(
    context: typer.Context,
    benchmark: Benchmark = "resnet50",
    profile: Profile = "auto",
    scenario: ScenarioName = "all",
    round: Round = "v4.1",
    quick: Quick = False,
    implementation: Implementation = "nvkit",
    power: Power = "MaxP",
    everything: Annotated[bool, typer.Option("--all", help="also show values that nothing sets")] = False,
) -> None:
    """Show every value with the file, key and layer that set it and what it overrode."""
    import nvkit
    from nvkit.config.detect import detect

    benchmark, overrides = words(context.args, benchmark)
    if profile == "auto":
        found = detect()
        profile = found.profile
        typer.echo("\n".join([f"profile {profile}, by {found.how}", *found.notes]) + "\n")
    names: dict[str, Any] = {"profile": profile, "benchmark": benchmark, "scenario": scenario, "round": round}
    config = nvkit.configure(**names, quick=quick, implementation=implementation, power=power, overrides=overrides)
    for name in config.scenarios:
        typer.echo(f"{config.table(name, everything=everything)}\n")


@app.command(**_FREE)
def tune(
    context: typer.Context,
    benchmark: Benchmark = "resnet50",
    profile: Profile = "auto",
    scenario: ScenarioName = "all",
    round: Round = "v4.1",
    quick: Quick = False,
    power: Power = "MaxP",
    outputs: Outputs = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="measure again what is known")] = False,
) -> None:
    """Find the expected rate or latency of each scenario on this machine; runs use what is found."""
    import nvkit
    from nvkit.tuning.tune import tune as measure

    benchmark, overrides = words(context.args, benchmark)
    names: dict[str, Any] = {"profile": profile, "benchmark": benchmark, "scenario": scenario, "round": round}
    config = nvkit.configure(**names, quick=quick, power=power, overrides=overrides)
    folder = nvkit.open_run(config, outputs)
    typer.echo(str(measure(config, folder, fresh=fresh)))
    typer.echo(f"\nrun folder: {folder.path}")


@app.command("from-cm", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def from_cm(
    context: typer.Context,
    run: Annotated[bool, typer.Option("--run", help="run the nvkit command, too")] = False,
    nvidia_code: Annotated[str, typer.Option(help="checkout of NVIDIA's code, to run that as the script did")] = "",
) -> None:
    """Translate a command of the CM script: nvkit from-cm 'cm run script --tags=... --flag=value'."""
    from nvkit.interop.cm.command import from_cm as translated

    if not context.args:
        raise ConfigError("No command was given.", "Give it in quotes: nvkit from-cm 'cm run script --tags=...'.")
    translated(context.args, run=run, nvidia_code=nvidia_code)


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="profiles, benchmarks, scenarios, rounds or settings")] = "",
) -> None:
    """List profiles, benchmarks, scenarios, rounds and settings."""
    from nvkit.catalogue import CATALOGUE

    if what and what not in CATALOGUE:
        raise ConfigError(f"There is no list of '{what}'.", nearest(what, CATALOGUE))
    for name, make in CATALOGUE.items():
        if what == name or (not what and name != "settings"):
            typer.echo(f"{make()}\n")


@app.command()
def doctor(
    outputs: Outputs = "",
    data_dir: Annotated[Path | None, typer.Option(help="folder of the real data set")] = None,
) -> None:
    """Say what this machine has and lacks, and how to get it."""
    from nvkit.doctor import checkup, table
    from nvkit.runs import outputs_folder

    typer.echo(str(table(checkup(Path(outputs) if outputs else outputs_folder(), data_dir))))


@app.command(**_FREE)
def bench(
    context: typer.Context,
    reference: Annotated[
        Path | None, typer.Option(help="checkout of mlcommons/inference, to measure its harness beside ours")
    ] = None,
    only: Annotated[
        str,
        typer.Option(help="offline, server, preprocess, lengths, notebooks, reference, gpu; may also stand first"),
    ] = "",
    repeat: Annotated[int, typer.Option(help="runs of each", min=1)] = 1,
    profile: Profile = "auto",
    benchmark: Annotated[str, typer.Option(help="benchmark of part gpu, see 'nvkit list benchmarks'")] = "resnet50",
    scenario: ScenarioName = "all",
) -> None:
    """Measure nvkit against what it stands on: ratios taken side by side in one run. `nvkit bench gpu` needs a GPU."""
    from nvkit.bench import bench as measure

    only, overrides = words(context.args, only)
    for table in measure(reference, only, repeat, profile, overrides, benchmark, scenario):
        typer.echo(f"{table}\n")


record_commands.register(app, _FREE)


def words(arguments: list[str], benchmark: str) -> tuple[str, dict[str, Any]]:
    """Read `resnet50 --batch-size 16 --min_duration=10 --download-model` as a benchmark and settings.

    Args:
        arguments: What is left of the command line.
        benchmark: The benchmark if none stands there.

    Raises:
        ConfigError: not a flag, a setting that does not exist, or more than one benchmark.
    """
    from nvkit.config import Settings

    known = set(Settings.model_fields)
    values: dict[str, Any] = {}
    named: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            named.append(word)
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if key not in known:
            raise ConfigError(f"There is no flag or setting '{word}'.", nearest(key, known))
        if equals:
            values[key] = value
        elif Settings.model_fields[key].annotation is bool:
            values[key] = True
        elif rest:
            values[key] = rest.pop(0)
        else:
            raise ConfigError(f"{word} needs a value.", f"It is: {Settings.model_fields[key].description}.")
    if len(named) > 1:
        raise ConfigError(f"More than one benchmark was given: {', '.join(named)}.", "Give one.")
    return (named[0] if named else benchmark), values

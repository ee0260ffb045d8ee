"""The command line of the audit record: seal, verify, export, diff, replay, compliance, submission."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nvkit.errors import InvalidResultError

Run = Annotated[Path, typer.Argument(help="run folder")]
Key = Annotated[Path | None, typer.Option(help="private key (default: ~/.config/nvkit/key.pem if it is there)")]
Inference = Annotated[Path | None, typer.Option(help="checkout of mlcommons/inference: its scripts verify and check")]


def register(app: typer.Typer, free: dict[str, Any]) -> None:
    """Add the commands to nvkit's; `free` lets settings be flags."""
    plain: tuple[Callable[..., None], ...] = (keygen, seal, sign, verify, export, diff, submit)
    with_settings: tuple[Callable[..., None], ...] = (replay, comply)
    for command in plain:
        app.command()(command)
    for command in with_settings:
        app.command(**free)(command)
    app.command("reference-accuracy", **free)(reference_accuracy)


def keygen(path: Annotated[Path | None, typer.Argument(help="where the private key goes")] = None) -> None:
    """Make an Ed25519 key pair; runs are then signed when they finish."""
    from nvkit.record.keys import keygen as make

    private, public = make(path)
    typer.echo(f"private key: {private}\npublic key:  {public}  (give this one to who verifies)")


def seal(
    run: Run,
    key: Key = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="leave host name, user name and paths as they are")
    ] = False,
) -> None:
    """Seal a run again, say after compliance tests; `nvkit run` seals by itself."""
    from nvkit.record.keys import default_key
    from nvkit.record.seal import seal as make

    typer.echo(str(make(run, key or default_key(), keep_names=keep_names)))


def sign(run: Run, key: Annotated[Path, typer.Option(help="private key")]) -> None:
    """Add a signature, say an auditor's, to a sealed record."""
    from nvkit.record.seal import sign as add

    typer.echo(f"signed: key {add(run, key)}")


def verify(
    run: Annotated[Path, typer.Argument(help="run folder, or a zip of one")],
    key: Annotated[list[Path] | None, typer.Option(help="public key that must have signed; may be given again")] = None,
    only: Annotated[list[str] | None, typer.Option(help="name of a check; may be given again")] = None,
) -> None:
    """Verify a record: signatures, files, chain, notebooks, logs, figures. Needs no GPU and no network."""
    from nvkit.record.verify import verify as check

    found = check(run, key or (), only=only or ())
    typer.echo(str(found))
    found.require()


def export(
    run: Run, to: Annotated[Path | None, typer.Option(help="folder (default: exports/ beside runs/)")] = None
) -> None:
    """Write a record as one HTML page that needs no network, and as a zip."""
    from nvkit.record.export import export as write

    page, archive = write(run, to)
    typer.echo(f"page: {page}\nzip:  {archive}")


def diff(
    a: Annotated[Path, typer.Argument(help="run folder")],
    b: Annotated[Path, typer.Argument(help="run folder")],
    plots: Annotated[Path | None, typer.Option(help="folder for the overlaid plots, PNG and SVG")] = None,
) -> None:
    """Compare two runs: results, percentiles, parameters, machine, versions."""
    from nvkit.record.diff import diff as compare

    found = compare(a, b)
    typer.echo(str(found))
    if plots:
        from nvkit.results.plot_style import save

        for name, figure in found.figures().items():
            save(figure, plots, name)


def replay(
    context: typer.Context,
    run: Run,
    outputs: Annotated[str, typer.Option(help="folder of runs/ and store/ (default: outputs/ of the clone)")] = "",
    profile: Annotated[str, typer.Option(help="another GPU profile than the record's")] = "",
) -> None:
    """Run what a record says again, here, and compare the two (2 %, MLPerf's convention)."""
    from nvkit.cli import words
    from nvkit.record.replay import replay as again

    _, overrides = words(context.args, "")
    found = again(run, outputs, overrides, profile=profile)
    typer.echo(str(found))
    if not found.reproduced:
        raise InvalidResultError("The record was not reproduced here.", "The table names every difference.")


def comply(
    context: typer.Context,
    run: Run,
    tests: Annotated[str, typer.Option(help="TEST01, TEST04, TEST05; several by comma; default: the round's")] = "",
    inference: Inference = None,
) -> None:
    """Run MLPerf's compliance tests of a run's configuration, verify them, and seal the run again."""
    from nvkit.record.compliance import comply as test

    folder = _opened(run, context)
    found = test(folder.config, folder, tests, inference)
    typer.echo(str(found))
    _seal_again(run)
    if not found.passed:
        raise InvalidResultError("A compliance test did not pass.", "The table says which and why.")


def reference_accuracy(
    context: typer.Context, run: Run, inference: Annotated[Path, typer.Option(help="checkout of mlcommons/inference")]
) -> None:
    """Score the accuracy logs with MLCommons' own script, beside the built-in score, and seal the run again."""
    from nvkit.record.reference_accuracy import reference_accuracy as score

    folder = _opened(run, context)
    typer.echo(str(score(folder.config, folder, inference)))
    _seal_again(run)


def submit(
    runs: Annotated[list[Path], typer.Argument(help="run folders, each of one benchmark")],
    submitter: Annotated[str, typer.Option(help="name of the organisation")],
    round: Annotated[str, typer.Option(help="round of the submission, e.g. v4.1")],
    out: Annotated[Path, typer.Option(help="root of the tree; must not exist yet")],
    test: Annotated[
        bool, typer.Option("--test", help="write it although it is no submission; brands the tree")
    ] = False,
    division: Annotated[str, typer.Option(help="closed or open")] = "closed",
    system_type: Annotated[str, typer.Option(help="datacenter, edge, or datacenter,edge")] = "",
    status: Annotated[str, typer.Option(help="available, preview or rdi")] = "available",
    system: Annotated[str, typer.Option(help="name of the system's files and folders")] = "",
    system_facts: Annotated[
        Path | None, typer.Option(help="JSON of what no program can find out, e.g. cooling")
    ] = None,
    inference: Inference = None,
) -> None:
    """Write a round's submission tree from runs, and let MLCommons' checker judge it."""
    from nvkit.record.submission import submit as write

    found = write(
        list(runs),
        submitter,
        round,
        out,
        test=test,
        division=division,
        system_type=system_type,
        status=status,
        system=system,
        facts=system_facts,
        inference=inference,
    )
    typer.echo(str(found))
    if found.verdict and not found.verdict.passed and not test:
        raise InvalidResultError("The submission checker does not accept the tree.", "The table holds its complaints.")


def _opened(run: Path, context: typer.Context) -> Any:
    """Open a run folder to add to it; paths that sealing replaced may be given again as settings."""
    import nvkit
    from nvkit.cli import words
    from nvkit.record.replay import own_arguments
    from nvkit.record.stored_run import open_stored

    _, overrides = words(context.args, "")
    names, values = own_arguments(open_stored(run), overrides)
    return nvkit.open_run(nvkit.configure(**names, overrides=values), run_dir=run)


def _seal_again(run: Path) -> None:
    from nvkit.record.keys import default_key
    from nvkit.record.seal import seal as make

    typer.echo(str(make(run, default_key())))

"""Executes notebooks from the command line, and is the papermill engine `nvkit`.

papermill's own metadata says "completed" even of cells that a dead kernel never ran, so success is decided here: by
the absence of an exception, the execution counts, and the result that a notebook's last cell publishes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nvkit.errors
from nvkit import RESULT_MIME
from nvkit.errors import ConfigError, NotebookError, NvkitError, disk_errors, nearest
from nvkit.store import replacing

STAGES: tuple[tuple[str, str], ...] = (
    ("setup", "10_setup.ipynb"),
    ("preprocess", "20_preprocess.ipynb"),
    ("calibrate", "30_calibrate.ipynb"),
    ("build", "40_build.ipynb"),
    ("run", "50_run.ipynb"),
    ("report", "60_report.ipynb"),
)
"""Stage and the notebook that does it, in order."""

_AGAIN = "What finished is kept; give the same command again to continue."


def notebooks_folder() -> Path:
    """Return the notebooks/ folder of this clone.

    Raises:
        ConfigError: there is none.
    """
    from nvkit.config import parameters_folder

    folder = parameters_folder().parent / "notebooks"
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}.", "Run nvkit from a clone of its repository.")
    return folder


def execute(source: Path, out: Path, parameters: Mapping[str, Any], *, cwd: Path, echo: bool = True) -> None:
    """Execute a notebook in a kernel of its own; the executed one appears at `out` when all of it has succeeded.

    What a failed one has done so far is kept beside `out` as `<name>.failed.ipynb`.

    Args:
        source: The notebook, without outputs.
        out: Where the executed notebook goes; replaced by one rename.
        parameters: Values for names of the notebook's parameters cell; str, int, float, bool, dict.
        cwd: Working directory of the kernel.
        echo: Show on stderr what cells print, as they print it.

    Raises:
        ConfigError: a parameter that the notebook does not have (the nearest is named).
        NotebookError: the kernel died, a cell raised something that nvkit does not know, or a result is missing.
        NvkitError: the error, of its own class, that nvkit raised in a cell.
        DiskFullError: no space for the notebook.
        KeyboardInterrupt: the kernel and the processes that it started are ended before this propagates.
    """
    _refuse_unknown(source, parameters)
    partial = out.with_name(f".{out.stem}.{os.getpid()}.partial.ipynb")
    failed = out.with_name(f"{out.stem}.failed.ipynb")
    try:
        with disk_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            failed.unlink(missing_ok=True)
            notebook = _papermill(source, partial, failed, parameters, cwd, echo)
            _require_result(notebook, source.name, failed)
            _write(notebook, out, source.name)
    except BaseException:
        with suppress(OSError):
            os.replace(partial, failed)
        raise
    partial.unlink(missing_ok=True)


def unknown_parameter(name: str, known: list[str], notebook: str) -> ConfigError:
    """Return the error for a parameter that a notebook does not have."""
    return ConfigError(f"{notebook} has no parameter '{name}'.", nearest(name, known))


def _refuse_unknown(source: Path, parameters: Mapping[str, Any]) -> None:
    papermill = _papermill_module()
    if not source.is_file():
        raise ConfigError(f"There is no notebook {source}.", f"The notebooks are in {notebooks_folder()}.")
    known = list(papermill.inspect_notebook(_literal(source)))
    for name in parameters:
        if name not in known:
            raise unknown_parameter(name, known, source.name)


def _papermill(source: Path, partial: Path, failed: Path, parameters: Mapping[str, Any], cwd: Path, echo: bool) -> Any:
    papermill = _papermill_module()
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import papermill_engines

    from nvkit._echo import Echo

    papermill_engines.register("nvkit", ENGINE)  # also where nvkit runs without being installed
    shown = Echo() if echo else None
    try:
        return papermill.execute_notebook(
            _literal(source),
            _literal(partial),
            dict(parameters),
            engine_name="nvkit",
            progress_bar=False,
            stdout_file=shown.stdout if shown else None,
            stderr_file=shown.stderr if shown else None,
            resources={"metadata": {"path": str(cwd)}},
        )
    except papermill.PapermillExecutionError as error:
        raise _raised_in_cell(error, source.name, failed) from None
    except DeadKernelError:
        raise NotebookError(
            f"The kernel of {source.name} was killed or crashed. The system kills it when memory runs out (see dmesg).",
            _AGAIN,
        ) from None
    except RuntimeError as error:  # nbclient's word for a kernel that does not start
        raise NotebookError(f"The kernel of {source.name} did not work: {error}.", _AGAIN) from error
    finally:
        if shown:
            shown.close()


def _raised_in_cell(error: Any, notebook: str, failed: Path) -> BaseException:
    """Return the exception of a cell in this process: nvkit's own errors keep their class, and so their exit code."""
    if error.ename == "KeyboardInterrupt":
        return KeyboardInterrupt()
    kind = getattr(nvkit.errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, NvkitError):
        what, *fix = (line.partition(": ")[2] for line in error.traceback)
        return kind(what, " ".join(fix))
    return NotebookError(
        f"{notebook} failed in cell [{error.exec_count}]: {error.ename}: {error.evalue}.",
        f"The whole traceback is in {failed}.",
    )


def _require_result(notebook: Any, name: str, failed: Path) -> None:
    """Check that every code cell ran, once and in order, and that the last one published a result.

    Raises:
        NotebookError: it is not so.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        raise NotebookError(f"Not every cell of {name} was executed, in order.", f"See {failed}.")
    if not any(RESULT_MIME in output.get("data", {}) for output in cells[-1].outputs):
        raise NotebookError(f"The last cell of {name} published no result.", f"See {failed}.")


def _write(notebook: Any, out: Path, source_name: str) -> None:
    import nbformat

    notebook.metadata.papermill.update(input_path=source_name, output_path=out.name)
    with replacing(out) as temporary:
        nbformat.write(notebook, str(temporary))


def _literal(path: Path) -> str:
    """Return a path in which papermill, which formats paths with the parameters, finds nothing to format."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _papermill_module() -> Any:
    """Import papermill without a grammar of IRIs.

    jsonschema, which nbformat brings in, parses that grammar if its package is there (JupyterLab installs it): 1.0 of
    the 1.5 seconds that the import takes, for a check that no notebook needs.
    """
    grammar = "rfc3987_syntax"
    unwanted = grammar not in sys.modules
    if unwanted:
        sys.modules[grammar] = None  # type: ignore[assignment]  # importing it is an ImportError, which jsonschema expects
    try:
        import papermill
    finally:
        if unwanted:
            del sys.modules[grammar]
    return papermill


class _Engine:
    """The papermill engine, imported when it is used: papermill reads its entry points while it is half imported."""

    def __getattr__(self, name: str) -> Any:
        from nvkit._papermill import NvkitEngine

        return getattr(NvkitEngine, name)


ENGINE = _Engine()
"""What the entry point `papermill.engine` names."""

"""The papermill engine: kernels over IPC, with this Python, in a folder given, and a file that claims no more than ran.

Only `nvkit.notebooks` imports this module (see its `__getattr__`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

import click
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine
from papermill.iorw import papermill_io
from papermill.utils import find_first_tagged_cell_index
from traitlets import Unicode

from nvkit.notebooks import unknown_parameter
from nvkit.system import python_path

_SOCKET_PATH = 107  # bytes that Linux allows; a socket is called <folder>/k-<number>
_IOPUB_S = 120  # outputs may lag behind on a machine that is busy with a benchmark
_SHUTDOWN_S = 10.0
_WIDGET = {"application/vnd.jupyter.widget-view+json"}

_log = logging.getLogger("nvkit.notebooks")
_log.addHandler(logging.NullHandler())


class NvkitEngine(Engine):  # type: ignore[misc]  # papermill has no types
    """Engine for `papermill --engine nvkit` and `nvkit run`.

    The kernel is the Python that runs this, whatever the notebook's kernelspec points at. Its working directory is
    the notebook's own folder, or that of papermill's `--cwd`, or `resources["metadata"]["path"]`.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **kwargs: Any) -> Any:
        """Execute a notebook into which papermill has injected the parameters; arguments as papermill's Engine.

        Raises:
            ConfigError: a parameter that the notebook does not have; from papermill's command line click.UsageError.
        """
        _forget_earlier_runs(nb)
        _refuse_unknown(nb, kwargs.get("input_path"))
        return super().execute_notebook(nb, kernel_name, **kwargs)

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        input_path: Any = None,
        resources: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        """Execute the cells; arguments as papermill's NBClientEngine, and nbclient's `resources`.

        Raises:
            DeadKernelError: the kernel was killed or crashed.
            RuntimeError: the kernel did not start.
        """
        folder = _short_folder()
        console = (folder / "console.txt").open("w+", encoding="utf-8", errors="replace")
        try:
            client = _Client(
                nb_man,
                folder=str(folder),
                kernel_name=kernel_name,
                log=_log,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
                startup_timeout=start_timeout,
                timeout=execution_timeout,
                iopub_timeout=_IOPUB_S,
                coalesce_streams=True,
                resources=resources or {"metadata": {"path": _kernel_folder(input_path)}},
            )
            return client.execute(stdout=console, stderr=console)
        except DeadKernelError:
            _claim_no_success(nb_man, last_words=_tail(console))
            raise
        except BaseException:
            _claim_no_success(nb_man)
            raise
        finally:
            _close_loop()
            console.close()
            shutil.rmtree(folder, ignore_errors=True)


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    folder = Unicode()

    def create_kernel_manager(self) -> Any:
        """Return a manager whose kernel talks through Unix sockets: TCP ports race between parallel notebooks."""
        folder = Path(self.folder)
        self.km = AsyncKernelManager(
            transport="ipc",
            ip=str(folder / "k"),
            connection_file=str(folder / "kernel.json"),
            kernel_spec_manager=_ThisPython(),
            shutdown_wait_time=_SHUTDOWN_S,
        )
        return self.km

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        """Execute a cell; note any failure in its metadata, as papermill does only for an exception in the cell."""
        try:
            return super().execute_cell(cell, cell_index, **kwargs)
        except CellExecutionError:
            raise
        except BaseException:
            self.nb_man.cell_exception(self.nb.cells[cell_index], cell_index=cell_index)
            raise
        finally:
            _drop_blank_outputs(self.nb.cells[cell_index])

    def set_widgets_metadata(self) -> None:
        """Keep no state of widgets: nobody is there to see them, and nothing that matters lives in one."""


class _ThisPython(KernelSpecManager):  # type: ignore[misc]
    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return a kernelspec of the running interpreter (without frozen modules, of which debugpy would warn)."""
        python_arguments = ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []
        return KernelSpec(**get_kernel_dict(python_arguments=python_arguments), env={"PYTHONPATH": python_path()})


def _forget_earlier_runs(nb: Any) -> None:
    """Drop what an earlier execution left in the metadata and papermill does not clear."""
    kept = {key: nb.metadata.papermill.get(key) for key in ("version", "input_path", "output_path")}
    injected = find_first_tagged_cell_index(nb, "injected-parameters") >= 0
    kept["parameters"] = nb.metadata.papermill.get("parameters", {}) if injected else {}
    nb.metadata.papermill.clear()
    nb.metadata.papermill.update(kept)
    nb.metadata.pop("widgets", None)


def _refuse_unknown(nb: Any, input_path: Any) -> None:
    from papermill.inspection import _infer_parameters  # the public inspect_notebook takes only a file

    known = [parameter.name for parameter in _infer_parameters(nb)]
    name = Path(input_path).name if isinstance(input_path, str) else "This notebook"
    for parameter in nb.metadata.papermill["parameters"]:
        if parameter not in known and not parameter.startswith("PAPERMILL_"):
            error = unknown_parameter(parameter, known, name)
            if click.get_current_context(silent=True):
                raise click.UsageError(str(error))
            raise error


def _kernel_folder(input_path: Any) -> str:
    """Return the folder that papermill's --cwd named (papermill is in it now), else the notebook's own."""
    here = os.getcwd()
    caller = getattr(papermill_io.get_handler("local"), "_cwd", None) or here
    if here != caller or not isinstance(input_path, str) or not os.path.isfile(input_path):
        return here
    return os.path.dirname(os.path.abspath(input_path))


def _short_folder() -> Path:
    """Return a new private folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="nvkit-"))
    if len(os.fsencode(folder / "k-99")) > _SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="nvkit-", dir="/tmp"))
    return folder


def _claim_no_success(nb_man: Any, last_words: str = "") -> None:
    """Mark the first cell that did not finish as failed, so that papermill leaves it and those behind it alone."""
    nb_man.nb.metadata.papermill["exception"] = True
    for cell in nb_man.nb.cells:
        if cell.metadata.papermill["status"] != nb_man.COMPLETED:
            nb_man.cell_exception(cell)
            if last_words and cell.cell_type == "code":
                cell.outputs.append(new_output("stream", name="stderr", text=last_words))
            return


def _tail(console: TextIO) -> str:
    """Return the last lines that the kernel's process printed itself, where a crash leaves its message."""
    console.seek(0)
    return "".join(console.readlines()[-20:])


def _close_loop() -> None:
    """End the event loop that nbclient had made for this thread, with what an interrupt has left waiting in it.

    In a process that runs a loop of its own, such as a notebook kernel, nbclient works in another thread.
    """
    loop = ensure_event_loop()
    if loop.is_running():
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    asyncio.set_event_loop(None)


def _drop_blank_outputs(cell: Any) -> None:
    """Remove what a reader would see as nothing: the spaces that a finished progress bar leaves, and widgets."""
    if "outputs" in cell:
        cell.outputs = [
            output
            for output in cell.outputs
            if not (output.output_type == "stream" and not output.text.strip())
            and not _WIDGET & output.get("data", {}).keys()
        ]

"""The engine and `execute` against tiny notebooks made here; the kit's own are executed end to end elsewhere."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

import nvkit
from nvkit._echo import Echo
from nvkit.errors import ConfigError, DataError, NotebookError
from nvkit.notebooks import ENGINE, execute

PARAMETERS = 'word: str = "none"\nvalues: dict = {}'
RESULT = (
    "from IPython.display import display\n"
    f"display({{'{nvkit.RESULT_MIME}': {{'stage': 'x'}}, 'text/plain': 'x'}}, raw=True)"
)
ROOT = Path(nvkit.__file__).parents[1]


def notebook(folder: Path, *cells: str, name: str = "tiny.ipynb", result: str = RESULT) -> Path:
    """Write a notebook with a parameters cell, the cells given, and a last cell."""
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    code = [nbformat.v4.new_code_cell(cell) for cell in (*cells, *([result] if result else []))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=[parameters, *code], metadata={"kernelspec": kernel})
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, folder / name)
    return folder / name


def outputs_text(path: Path) -> str:
    found = nbformat.read(path, as_version=4)
    return "".join(o.get("text", "") for cell in found.cells for o in cell.get("outputs", []))


@pytest.fixture(autouse=True)
def sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the engine makes those of its kernels' sockets."""
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_parameters_working_directory_and_interpreter(
    tmp_path: Path, sockets: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    show = "import os, sys\nprint(word, values, os.getcwd(), sys.executable)"
    widget = "from IPython.display import display\nimport ipywidgets\ndisplay(ipywidgets.IntSlider())"
    bar = "sys.stderr.write('\\r 50%')\nsys.stderr.write('\\r100%')\nsys.stderr.write('\\r     \\r');"
    source = notebook(tmp_path / "{braces}", show, bar, widget)
    (tmp_path / "work").mkdir()
    out = tmp_path / "out" / "tiny.ipynb"
    execute(source, out, {"word": "hello", "values": {"a": 1}}, cwd=tmp_path / "work")
    line = f"hello {{'a': 1}} {tmp_path / 'work'} {sys.executable}\n"
    assert outputs_text(out) == line, "what the bar leaves is no output"
    assert line in capfd.readouterr().err, "what cells print is shown as they run"
    assert os.listdir(out.parent) == ["tiny.ipynb"]
    assert os.listdir(sockets) == []
    executed = nbformat.read(out, as_version=4)
    assert [len(cell.outputs) for cell in executed.cells] == [0, 0, 1, 0, 0, 1]
    assert "widgets" not in executed.metadata
    metadata = executed.metadata.papermill
    assert (metadata.input_path, metadata.output_path) == ("tiny.ipynb", "tiny.ipynb"), "records name no paths"


def test_notebooks_in_one_folder_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cells = ("import time\nfor i in range(20):\n    time.sleep(0.02)\n    print(word, i)",)
    source = notebook(tmp_path, *cells)
    outs = [tmp_path / f"{word}.ipynb" for word in ("left", "right")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda out: execute(source, out, {"word": out.stem}, cwd=tmp_path, echo=False), outs))
    for out in outs:
        assert outputs_text(out) == "".join(f"{out.stem} {i}\n" for i in range(20))
    assert capfd.readouterr().err == ""


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path: Path) -> None:
    source = notebook(tmp_path, "open('ran', 'w').close()")
    with pytest.raises(ConfigError, match="Did you mean 'word'"):
        execute(source, tmp_path / "out.ipynb", {"wrod": "x"}, cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["tiny.ipynb"]


def test_a_missing_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no notebook .*absent\.ipynb"):
        execute(tmp_path / "absent.ipynb", tmp_path / "out.ipynb", {}, cwd=tmp_path)


def test_an_error_of_nvkit_keeps_its_class_and_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cell = "from nvkit.errors import DataError\nraise DataError('The folder x: is empty.', 'Give another: y.')"
    source = notebook(tmp_path, cell)
    with pytest.raises(DataError) as caught:
        execute(source, tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert (caught.value.what, caught.value.fix) == ("The folder x: is empty.", "Give another: y.")
    assert sorted(os.listdir(tmp_path)) == ["out.failed.ipynb", "tiny.ipynb"]
    assert "Traceback" not in (tmp_path / "out.failed.ipynb").read_text()
    assert capfd.readouterr().err == ""
    notebook(tmp_path)
    execute(source, tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["out.ipynb", "tiny.ipynb"], "success clears what failed before"


def test_another_exception_names_the_cell_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"cell \[2\]: ZeroDivisionError: division by zero.*out\.failed\.ipynb"):
        execute(notebook(tmp_path, "1 / 0"), tmp_path / "out.ipynb", {}, cwd=tmp_path)


def test_a_notebook_without_a_result_did_not_succeed(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="published no result"):
        execute(notebook(tmp_path, "x = 1", result=""), tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_killed_kernel_is_an_error_and_claims_no_success(
    tmp_path: Path, sockets: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kill = "import os, signal\nprint('before')\nos.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(NotebookError, match=r"kernel of tiny\.ipynb was killed"):
        execute(notebook(tmp_path, kill, "print('never')"), tmp_path / "out.ipynb", {}, cwd=tmp_path, echo=False)
    assert capfd.readouterr().err == ""
    assert sorted(os.listdir(tmp_path)) == ["out.failed.ipynb", "tiny.ipynb"]
    written = nbformat.read(tmp_path / "out.failed.ipynb", as_version=4)
    states = [cell.metadata.papermill.status for cell in written.cells]
    assert states == ["completed", "failed", "pending", "pending"]
    assert written.metadata.papermill.exception is True
    assert os.listdir(sockets) == []


def test_an_interrupt_ends_the_kernel_and_its_children(tmp_path: Path) -> None:
    cell = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "child.wait()"
    )
    source = notebook(tmp_path, cell, "print('never')")
    code = (
        "import sys; from pathlib import Path; from nvkit.notebooks import execute\n"
        "execute(Path(sys.argv[1]), Path(sys.argv[2]), {}, cwd=Path(sys.argv[3]))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out.ipynb"), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    driver.send_signal(signal.SIGINT)
    _, stderr = driver.communicate(timeout=30)
    assert driver.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert stderr.count("Traceback") == 1, stderr
    assert "pending" not in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    states = [c["metadata"]["papermill"]["status"] for c in _cells(tmp_path / "out.failed.ipynb")]
    assert states == ["completed", "failed", "pending", "pending"]


def _cells(path: Path) -> list[dict[str, dict[str, dict[str, str]]]]:
    return list(json.loads(path.read_text())["cells"])


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment in which the entry point is found as after an installation."""
    card = tmp_path / "site" / "nvkit-0.dist-info"
    card.mkdir(parents=True)
    (card / "METADATA").write_text("Metadata-Version: 2.1\nName: nvkit\nVersion: 0\n")
    (card / "entry_points.txt").write_text("[papermill.engine]\nnvkit = nvkit.notebooks:ENGINE\n")
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path}


def papermill(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--engine", "nvkit", "--no-progress-bar", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_papermills_own_command_line(tmp_path: Path, installed: dict[str, str]) -> None:
    notebook(tmp_path / "books", "import os\nprint(word, os.getcwd())")
    done = papermill(installed, tmp_path, "books/tiny.ipynb", "out.ipynb", "-p", "word", "hi")
    assert done.returncode == 0, done.stderr
    assert outputs_text(tmp_path / "out.ipynb") == f"hi {tmp_path / 'books'}\n"

    done = papermill(installed, tmp_path, "books/tiny.ipynb", "bad.ipynb", "-p", "wrod", "hi")
    assert done.returncode == 2
    assert "Did you mean 'word'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bad.ipynb").exists()


def test_papermills_cwd_and_a_stale_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from papermill import execute_notebook
    from papermill.engines import papermill_engines

    papermill_engines.register("nvkit", ENGINE)
    source = notebook(tmp_path / "books", "import os\nprint(word, os.getcwd())")
    stale = nbformat.read(source, as_version=4)
    stale.metadata["papermill"] = {"parameters": {"word": "old", "gone": 1}, "exception": True, "environment": {}}
    nbformat.write(stale, source)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    execute_notebook("books/tiny.ipynb", "out.ipynb", cwd="work", engine_name="nvkit", progress_bar=False)
    assert outputs_text(tmp_path / "out.ipynb") == f"none {tmp_path / 'work'}\n"
    metadata = nbformat.read(tmp_path / "out.ipynb", as_version=4).metadata.papermill
    assert metadata.parameters == {}
    assert metadata.exception is None
    assert "environment" not in metadata


@pytest.mark.parametrize("first", ["nvkit.notebooks", "nvkit._papermill", "papermill"])
def test_either_package_may_be_imported_first(installed: dict[str, str], first: str) -> None:
    code = f"import {first}\nfrom nvkit.notebooks import ENGINE\nimport papermill.engines as e\n"
    code += "assert e.papermill_engines.get_engine('nvkit') is ENGINE"
    subprocess.run([sys.executable, "-c", code], env=installed, check=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def echoed(target: io.StringIO) -> str:
    """Return what a bar in stderr and lines in stdout become when they arrive in turns, as from a kernel."""
    echo = Echo(target)
    echo.stdout.write("one\ntw")
    echo.stdout.write("o\n")
    echo.stderr.write("\r 10%")
    echo.stderr.write("\r    ")
    echo.stdout.write("three\n")
    echo.stderr.write("\r")
    echo.stdout.write("four")
    echo.stderr.write("\r 99%")
    echo.close()
    return target.getvalue()


def test_echo_to_a_file_is_whole_lines() -> None:
    assert echoed(io.StringIO()) == "one\ntwo\nthree\nfour\n"


def test_echo_to_a_terminal_moves_bars_and_clears_them() -> None:
    erase = "\r\x1b[K"
    assert echoed(Terminal()) == f"one\ntwo\n\r 10%\r    {erase}three\n\r{erase}four\r 99%\n{erase}"


def test_sockets_have_short_paths(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit._papermill import _short_folder

    deep = sockets / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    made = _short_folder()
    made.rmdir()
    assert len(str(made)) < 40
    assert os.listdir(deep) == []

"""The files around the package: pins, entry points, package data, Makefile, and what must not be in them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest on Python 3.10

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONDA_NAMES = {"opencv": "opencv-python-headless", "matplotlib-base": "matplotlib"}

IMPORT_ALL = """
import importlib, pkgutil, sys
BLOCKED = {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda", "pynvml"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import nvkit
names = [module.name for module in pkgutil.walk_packages(nvkit.__path__, "nvkit.")]
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
print(len(names), "modules", file=sys.stderr)
"""


def split_pin(requirement: str) -> tuple[str, frozenset[str]]:
    """Return a normalised name and its version specifiers."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(.*)", requirement)
    assert match, requirement
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    return CONDA_NAMES.get(name, name), frozenset(match[2].replace(" ", "").split(","))


def project_files() -> Iterator[Path]:
    """Yield the project's own files; neither git's, nor those of a virtual environment, a cache or a run."""
    left_out = {"outputs", "build", "dist", "__pycache__"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in left_out
            and (not name.startswith(".") or name == ".ci")
            and not name.endswith(".egg-info")
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        yield from (Path(folder) / name for name in files)


def test_conda_and_pip_pin_the_same() -> None:
    entries = YAML(typ="safe").load(ROOT / "environment.yml")["dependencies"]
    from_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    conda = dict(split_pin(entry) for entry in [*entries, *from_pip] if isinstance(entry, str) and entry != "-e .")
    wanted = [
        *PROJECT["dependencies"],
        *(pin for e in ("text", "vision", "lab") for pin in PROJECT["optional-dependencies"][e]),
    ]

    assert conda.pop("python") == frozenset([PROJECT["requires-python"]])
    assert conda.pop("pip") == frozenset([""])
    assert conda == dict(map(split_pin, wanted))
    assert from_pip[-1] == "-e ."


def test_entry_points_lead_to_what_their_group_calls() -> None:
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    for group, entries in groups.items():
        for name, value in entries.items():
            loaded = importlib.metadata.EntryPoint(name, value, group).load()
            called = {"papermill.engine": "execute_notebook"}.get(group, "__call__")
            assert callable(getattr(loaded, called)), (group, name)


def test_every_module_imports_without_gpu_packages() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""
    assert int(done.stderr.split()[-2]) > 10


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ["onnx", "onnxruntime", "cv2", "matplotlib.pyplot", "papermill", "pycocotools", "tokenizers"]
    code = f"import sys, nvkit.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_and_their_data_are_installed() -> None:
    package = ROOT / "nvkit"
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == ["nvkit*"]

    files = {path for path in project_files() if path.is_relative_to(package)}
    assert {path.parent for path in files} == {path.parent for path in files if path.name == "__init__.py"}
    data = {path.relative_to(package) for path in files if path.suffix not in (".py", ".pyc")}
    covered = {path.relative_to(package) for glob in setuptools["package-data"]["nvkit"] for path in package.glob(glob)}
    assert data <= covered


def test_no_file_names_a_place_on_a_developers_machine() -> None:
    place = re.compile(r"(?<![\w.$~{}/-])/(?:work|home|root|Users)/\w|/tmp/[v]\b")
    found = []
    for path in project_files():
        if "data" in path.relative_to(ROOT).parts:  # other people's published logs
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in place.finditer(text)]
    assert found == []


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return a path where a test writes a python3 of its own."""
    return tmp_path / "python3"


def make(python: Path, target: str = "demo") -> subprocess.CompletedProcess[str]:
    """Run make in the project with this Python and a virtual environment beside it."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-C", str(ROOT), "--no-print-directory", target]
    variables = [f"PYTHON={python}", f"VENV={python.parent / 'venv'}"]
    return subprocess.run([*command, *variables], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(
    ("script", "advice"),
    [
        ("", "sudo apt install python3 python3-venv"),
        ('case "$2" in *version_info*) exit 1;; esac', "older than 3.10"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "sudo apt install python3-venv"),
    ],
    ids=["absent", "old", "without ensurepip"],
)
def test_a_python_that_will_not_do_gives_one_line(python: Path, script: str, advice: str) -> None:
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    done = make(python)

    assert done.returncode != 0
    assert (done.stdout + done.stderr).count("\n") == 1
    assert advice in done.stderr
    assert not (python.parent / "venv").exists()


def test_an_installation_that_fails_is_tried_again(python: Path) -> None:
    # This "python -m venv" makes an environment whose pip answers --version and cannot install.
    inner = '#!/bin/sh\ncase "$*" in *--version*) exit 0;; esac\necho "no route to host" >&2\nexit 1\n'
    python.write_text(
        '#!/bin/sh\ncase "$2" in venv) mkdir -p "$3/bin"; '
        f"printf '%s' '{inner}' > \"$3/bin/python\"; chmod +x \"$3/bin/python\";; esac\n"
    )
    python.chmod(0o755)
    for _ in range(2):
        done = make(python)
        assert done.returncode != 0
        assert "no route to host" in done.stderr
        assert "nvkit: the installation failed" in done.stderr
        assert not list((python.parent / "venv").glob(".installed*"))


def test_help_is_the_default_and_lists_every_target() -> None:
    done = make(Path("python3"), "help")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    assert ".DEFAULT_GOAL := help" in makefile
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "help", "demo", "lab", "bench", "test", "test-gpu", "lint", "clean",
    ]  # fmt: skip
    assert set(phony.split()[1:]) == {line.split()[1] for line in done.stdout.splitlines()}

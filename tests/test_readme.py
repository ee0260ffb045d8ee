"""Every command of the README is run, as it stands there but for smaller sizes and places of the test's own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import SMALL

import nvkit
from nvkit.system import python_path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line.strip()
]
_SMALL = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
_HARMLESS = {"demo": None, "test": "--version", "lab": "--version", "bench": "--help"}


def test_the_readme_says_the_two_commands_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert README.index("make demo") < README.index("## ")


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"^\| `([^`]+)` \|", README, re.M):
        assert path.startswith("outputs/") or (ROOT / path).exists() or (ROOT / "nvkit" / path).exists(), path


def test_the_exit_codes_are_those_of_the_errors() -> None:
    from nvkit import errors

    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    kinds = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.NvkitError)
    ]
    assert codes == {0, 1, 130} | {kind.exit_code for kind in kinds}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small_run: nvkit.RunFolder) -> Path:
    """A home folder with an ImageNet-like folder and a reference-like model, as the README's examples name them."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "imagenet").mkdir()
    rng = np.random.default_rng(0)
    names = [f"ILSVRC2012_val_{n:08}.JPEG" for n in range(1, 17)]
    for name in names:
        cv2.imwrite(str(folder / "imagenet" / name), rng.integers(0, 255, (260, 300, 3), np.uint8))
    (folder / "imagenet" / "val_map.txt").write_text("".join(f"{name} 65\n" for name in names))
    model = next((small_run.store.root / "models").glob("*/resnet50_synthetic.onnx"))
    shutil.copy(model, folder / "my_resnet50.onnx")
    return folder


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_works(command: str, tmp_path: Path, home: Path, outputs: Path) -> None:
    if "--download-model" in command:
        _check_download(command, tmp_path)
        return
    words = shlex.split(command)
    if words[0] == "make":
        words = _make(words, outputs)
    else:
        tool = Path(words[0]).name
        words = [sys.executable, "-m", tool, *(_local(word, home) for word in words[1:])]
        if tool == "papermill":
            words = [str(tmp_path / w) if w == "executed.ipynb" else w for w in words]
            words += ["-p", "outputs", str(outputs), "-y", f"overrides: {SMALL}"]
        elif words[3] in ("run", "tune"):
            words += [f"--outputs={outputs}", *(flag for flag in _SMALL if flag.split("=")[0] not in command)]
            if words[3] == "tune":  # shorter tests than the latency limit of a quick run would say nothing of a rate
                words.append("--min-duration=1500")
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if "papermill" in command:
        assert "application/vnd.nvkit.result+json" in (tmp_path / "executed.ipynb").read_text()


def _local(word: str, home: Path) -> str:
    return word.replace("~/imagenet", f"{home}/imagenet").replace("~/resnet50_v1.onnx", f"{home}/my_resnet50.onnx")


def _make(words: list[str], outputs: Path) -> list[str]:
    """Run the target in the environment of this test, which is taken as installed."""
    target = words[1]
    harmless = _HARMLESS[target]
    arguments = harmless if harmless else " ".join([f"--outputs={outputs}", *_SMALL])
    venv = sys.prefix
    stamps = [word for stamp in (".installed", ".installed-dev") for word in ("-o", f"{venv}/{stamp}")]
    return [*words, f"VENV={venv}", f"ARGS={arguments}", *stamps]


def _check_download(command: str, tmp_path: Path) -> None:
    """The download itself needs a network: here it has none, and its failure is a message."""
    words = [sys.executable, "-m", "nvkit", *shlex.split(command)[1:], f"--outputs={tmp_path}", *_SMALL]
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    env = {**os.environ, "PYTHONPATH": python_path(), **nowhere}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode in (2, 3), done.stderr
    assert "--model-path" in done.stderr
    assert "Traceback" not in done.stderr

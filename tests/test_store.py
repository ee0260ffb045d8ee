from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvkit.errors import DiskFullError
from nvkit.store import Store, digest_of, duration, replacing, write_json
from nvkit.system import python_path


def test_a_digest_does_not_depend_on_key_order() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_an_artefact_is_made_once_and_named_as_reused(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "x").write_text("made")

    first = Store(tmp_path).get_or_make("things", {"k": 1}, make)
    second = Store(tmp_path).get_or_make("things", {"k": 1}, make)
    assert len(calls) == 1
    assert (first.reused, second.reused) == (False, True)
    assert first.origin() == "made now"
    assert second.origin().startswith("reused, made ")
    assert (second.path / "x").read_text() == "made"
    assert Store(tmp_path).get_or_make("things", {"k": 2}, make).path != first.path


def test_a_failed_make_leaves_no_artefact_and_a_resumable_one_its_work(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("1")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        store.get_or_make("things", {}, fail, resumable=True)
    assert store.find("things", {}) is None

    seen = []

    def resume(folder: Path) -> None:
        seen.append((folder / "half").exists())

    store.get_or_make("things", {}, resume, resumable=True)
    assert seen == [True]


def test_an_interrupted_make_starts_from_nothing_unless_resumable(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.get_or_make("things", {}, _interrupted)
    assert store.get_or_make("things", {}, _finds_nothing).reused is False


def _interrupted(folder: Path) -> None:
    (folder / "half").write_text("1")
    raise KeyboardInterrupt


def _finds_nothing(folder: Path) -> None:
    assert list(folder.iterdir()) == []


_SLOW = """
import sys, time
from pathlib import Path
from nvkit.store import Store

def make(folder):
    time.sleep(0.5)
    (folder / "by").write_text("one")

print(Store(Path(sys.argv[1])).get_or_make("engines", {"engine": 1}, make).reused)
"""


def test_two_processes_build_one_engine_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SLOW, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": python_path()}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in both) == ["False", "True"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def broken() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        broken()
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder  # type: ignore[misc]
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(tiny_disk: Path) -> None:
    store = Store(tiny_disk / "store")
    kept = store.get_or_make("things", {"k": 1}, lambda folder: write_json(folder / "x", 1))

    def too_much(folder: Path) -> None:
        (folder / "big").write_bytes(bytes(1 << 20))

    with pytest.raises(DiskFullError, match=str(tiny_disk)):
        store.get_or_make("things", {"k": 2}, too_much)
    assert store.find("things", {"k": 2}) is None
    assert store.find("things", {"k": 1}) is not None
    assert (kept.path / "x").read_text() == "1\n"


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (119, "119 s"), (180, "3 minutes"), (2e5, "2 days")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from nvkit.errors import DiskFullError, EngineBuildError, ExecutionError, HarnessError, MissingPackageError
from nvkit.interop.nvidia.commands import Command
from nvkit.interop.nvidia.execute import execute


def _command(line: str, cwd: Path, **env: str) -> Command:
    return Command(line, cwd, env, None, None, None, "the step")


def test_output_is_live_kept_whole_and_errors_of_both_streams_are_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = tmp_path / "new folder" / "console.txt"
    line = "echo one; echo $WORD >&2; printf 'begun 1%%\\rbegun 99%%\\n'; pwd"
    seconds = execute(_command(line, tmp_path, WORD="two"), console)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"$ {line}"
    assert shown[1:] == ["one", "two", "begun 99%", str(tmp_path)]
    assert b"begun 1%\rbegun 99%" in console.read_bytes()
    assert 0 < seconds < 60


def test_consoles_of_several_commands_follow_each_other(tmp_path: Path) -> None:
    for word in ("first", "second"):
        execute(_command(f"echo {word}", tmp_path), tmp_path / "console.txt")
    assert (tmp_path / "console.txt").read_text() == "$ echo first\nfirst\n$ echo second\nsecond\n"


@pytest.mark.parametrize("kind", [HarnessError, EngineBuildError])
def test_a_failure_tells_the_last_words_without_those_of_make(tmp_path: Path, kind: type[ExecutionError]) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@echo loading; echo 'the cable is loose'; echo; exit 3\n")
    with pytest.raises(kind) as caught:
        execute(_command("make", tmp_path), tmp_path / "console.txt", kind)
    assert "the step ended with exit code 2: loading | the cable is loose" in caught.value.what
    assert "make:" not in caught.value.what
    assert str(tmp_path / "console.txt") in caught.value.fix


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("RuntimeError: CUDA_ERROR_OUT_OF_MEMORY", "--batch-size"),
        ("nvcr.io: unauthorized: authentication required", "docker login nvcr.io"),
        ("RuntimeError: File build/engines/L4x1/a.plan does not exist.", "nvkit build --fresh"),
    ],
)
def test_known_troubles_have_their_own_advice(tmp_path: Path, said: str, fix: str) -> None:
    with pytest.raises(ExecutionError, match="exit code 1") as caught:
        execute(_command(f"echo '{said}'; exit 1", tmp_path), tmp_path / "console.txt")
    assert fix in caught.value.fix


def test_doing_nothing_is_a_failure_although_the_exit_code_is_0(tmp_path: Path) -> None:
    line = "echo 'Detected system did not match any known systems. Exiting.'"
    with pytest.raises(ExecutionError, match="did nothing: Detected system") as caught:
        execute(_command(line, tmp_path), tmp_path / "console.txt")
    assert "nvkit setup --fresh" in caught.value.fix


def test_a_missing_program_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("bash", "sh"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPackageError, match="the step needs make") as caught:
        execute(_command("make all", tmp_path), tmp_path / "console.txt")
    assert "apt install make" in caught.value.fix
    with pytest.raises(MissingPackageError, match="the step needs docker"):
        execute(_command("sh -c 'docker build .'", tmp_path), tmp_path / "console.txt")


def test_a_full_disk_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="the step found the disk full"):
        execute(_command("echo 'cp: No space left on device'; exit 1", tmp_path), tmp_path / "console.txt")
    with pytest.raises(ExecutionError, match="There is no folder"):
        execute(_command("true", tmp_path / "gone"), tmp_path / "console.txt")


def test_a_killed_command_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="was killed by signal 9"):
        execute(_command("kill -9 $$", tmp_path), tmp_path / "console.txt", HarnessError)


def test_much_output_without_a_line_end_does_not_fill_memory(tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    execute(_command("head -c 100000000 /dev/zero | tr '\\0' x", tmp_path), tmp_path / "console.txt")
    assert (tmp_path / "console.txt").stat().st_size > 100_000_000
    assert psutil.Process().memory_info().rss - before < 30_000_000


def test_a_process_left_in_the_background_does_not_hold_the_command_up(tmp_path: Path) -> None:
    started = time.monotonic()
    execute(_command("sleep 30 & echo $! > left; echo done", tmp_path), tmp_path / "console.txt")
    assert time.monotonic() - started < 20
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


_TREE = "echo $$ > shell; sh -c 'echo $$ > inner; sleep 300' & sleep 300 & echo $! > deep; wait"


def _tree(folder: Path) -> list[int]:
    deadline = time.monotonic() + 30
    files = [folder / name for name in ("shell", "inner", "deep")]
    while not all(path.exists() and path.read_text().strip() for path in files):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(path.read_text()) for path in files]


def _left(pids: list[int]) -> list[int]:
    """Wait for the processes to end; return those that have not after 30 s."""
    deadline = time.monotonic() + 30
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [p for p in left if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
    return left


def test_an_interrupt_ends_the_whole_process_tree(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt() -> None:
        pids.extend(_tree(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        execute(_command(_TREE, tmp_path), tmp_path / "console.txt")
    assert _left(pids) == []


def test_a_killed_nvkit_leaves_nothing_running(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nvkit.interop.nvidia.commands import Command;"
        "from nvkit.interop.nvidia.execute import execute;"
        "cwd = Path(sys.argv[2]);"
        "execute(Command(sys.argv[1], cwd, {}, None, None, None, 'x'), cwd / 'console.txt')"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, f"trap '' TERM; {_TREE}", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    pids = _tree(tmp_path)
    driver.kill()
    driver.wait()
    assert _left(pids) == []

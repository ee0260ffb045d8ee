"""The record's commands, as a person gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nvkit.__main__ import main


def nvkit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_verify_passes_a_record_and_finds_a_changed_digit(
    capsys: pytest.CaptureFixture[str], made: Any, copy: Path
) -> None:
    code, out, _ = nvkit(capsys, "verify", str(copy), "--key", str(made.key))
    assert code == 0, out
    assert "FAIL" not in out
    summary = copy / "loadgen" / "Offline" / "performance" / "mlperf_log_summary.txt"
    summary.write_text(summary.read_text().replace("1", "2", 1))
    code, out, err = nvkit(capsys, "verify", str(copy), "--key", str(made.key))
    assert code == 6
    assert "FAIL" in out
    assert "Traceback" not in err


def test_a_key_is_made_and_signs(capsys: pytest.CaptureFixture[str], copy: Path, tmp_path: Path) -> None:
    code, out, _ = nvkit(capsys, "keygen", str(tmp_path / "auditor.pem"))
    assert code == 0
    public = out.split("public key:")[1].split()[0]
    assert nvkit(capsys, "sign", str(copy), "--key", str(tmp_path / "auditor.pem"))[0] == 0
    assert nvkit(capsys, "verify", str(copy), "--key", public)[0] == 0


def test_export_and_diff_write_files(capsys: pytest.CaptureFixture[str], copy: Path, tmp_path: Path) -> None:
    assert nvkit(capsys, "export", str(copy), "--to", str(tmp_path / "out"))[0] == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".zip"}
    code, out, _ = nvkit(capsys, "diff", str(copy), str(copy), "--plots", str(tmp_path / "plots"))
    assert code == 0
    assert "All results are within 2%" in out
    assert list((tmp_path / "plots").glob("*.png"))


def test_what_is_no_record_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (["verify"], ["seal"], ["export"], ["replay"], ["comply"]):
        code, _, err = nvkit(capsys, *words, str(tmp_path))
        assert code == 2, words
        assert err.startswith("nvkit: ")


def test_a_quick_run_is_no_submission_but_for_a_test(
    capsys: pytest.CaptureFixture[str], copy: Path, tmp_path: Path
) -> None:
    words = ["submit", str(copy), "--submitter", "Us", "--round", "v4.1", "--system-type", "edge"]
    code, _, err = nvkit(capsys, *words, "--out", str(tmp_path / "tree"))
    assert code == 2
    assert "quick run" in err
    assert nvkit(capsys, *words, "--out", str(tmp_path / "tree"), "--test")[0] == 0
    assert (tmp_path / "tree" / "closed" / "Us" / "results").is_dir()

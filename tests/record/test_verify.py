"""A good record passes, here and on a second clone, as a folder and as a zip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import ConfigError, InputError, VerificationError
from nvkit.places import KIT
from nvkit.record.export import to_zip
from nvkit.record.keys import keygen
from nvkit.record.seal import seal, sign
from nvkit.record.verify import CHECKS, verify

_VERIFY = """
import sys
from pathlib import Path
from nvkit.record.verify import verify
found = verify(Path(sys.argv[1]), [Path(sys.argv[2])])
print(found)
found.require()
"""


def test_a_run_is_sealed_signed_and_passes_every_check(made: Any) -> None:
    verification = verify(made.run, [made.key])
    assert [str(finding) for finding in verification.failed] == []
    assert len(verification.findings) == 1 + len(CHECKS)
    assert {finding.check for finding in verification.manual} == {"attestation"}
    verification.require()
    report = "\n".join(map(str, verification.tables()))
    for heading in ("What was audited", "Work performed", "Findings", "Unresolved", "Recommendation"):
        assert heading in report
    assert "Accept, once somebody has judged" in report


def test_it_verifies_in_a_second_clone_with_only_the_public_key(made: Any, tmp_path: Path) -> None:
    clone, elsewhere = tmp_path / "clone", tmp_path / "elsewhere"
    for part in ("nvkit", "notebooks", "parameters"):
        shutil.copytree(KIT / part, clone / part, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere.mkdir()
    to_zip(made.run, elsewhere / "record.zip")
    shutil.copy(made.key, elsewhere / "key.pub")
    done = subprocess.run(
        [sys.executable, "-c", _VERIFY, "record.zip", "key.pub"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(clone), "HOME": str(elsewhere)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS    signatures: signed by key.pub" in done.stdout
    assert "MANUAL  artefacts" in done.stdout
    assert "FAIL" not in done.stdout


def test_it_verifies_where_the_commit_is_unknown(copy: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another nvkit, without the commit: what depends on it is for a person, nothing fails."""
    monkeypatch.setattr("nvkit.record.opened.own_code_digest", lambda: "another")
    monkeypatch.setattr("nvkit.record.opened.tree_of", lambda *_: (None, "commit 123 is not in this clone"))
    verification = verify(copy, [made.key])
    assert [str(finding) for finding in verification.failed] == []
    assert {"nvkit's code", "notebook code"} <= {finding.check for finding in verification.manual}


def test_an_auditor_signs_too(copy: Path, made: Any, tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "auditor.pem")
    before = verify(copy, [made.key, public], only=["signatures"])
    assert "auditor.pub" in before.failed[0].detail
    assert sign(copy, private)
    (finding,) = verify(copy, [made.key, public], only=["signatures"]).findings
    assert finding.status == "PASS"
    assert len(json.loads((copy / "seal.dsse.json").read_text())["signatures"]) == 2


def test_nobody_signs_what_has_changed(copy: Path, made: Any) -> None:
    (copy / "console.txt").write_text("x")
    with pytest.raises(InputError, match=r"not as it was sealed: console\.txt"):
        sign(copy, made.private)


def test_an_unsigned_record_is_integrity_only(copy: Path) -> None:
    sealed = seal(copy)
    assert "integrity only" in str(sealed)
    (finding,) = verify(copy, only=["signatures"]).findings
    assert finding.status == "MANUAL"
    assert "integrity only" in finding.detail


def test_a_signed_record_without_a_key_to_check_is_for_a_person(made: Any) -> None:
    (finding,) = verify(made.run, only=["signatures"]).findings
    assert finding.status == "MANUAL"
    assert "--key" in finding.detail


def test_sealing_again_changes_nothing_but_the_signatures(copy: Path) -> None:
    before = json.loads((copy / "provenance.json").read_text())
    seal(copy)
    after = json.loads((copy / "provenance.json").read_text())
    assert after == before
    assert not (copy / "seal.dsse.json").exists()


def test_a_notebook_opened_in_jupyterlab_is_still_the_record(copy: Path, made: Any) -> None:
    folder = copy / ".ipynb_checkpoints"
    folder.mkdir()
    (folder / "60_report-checkpoint.ipynb").write_text("{}")
    assert verify(copy, [made.key], only=["no file added", "files unchanged"]).passed


def test_a_failed_verification_names_the_checks(copy: Path) -> None:
    (copy / "x.txt").write_text("x")
    with pytest.raises(VerificationError, match=r"no file added") as caught:
        verify(copy, only=["no file added"]).require()
    assert caught.value.exit_code == 6


def test_what_is_not_a_record_is_the_users_mistake(copy: Path, made: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a sealed record"):
        verify(tmp_path)
    with pytest.raises(InputError, match="not a public key"):
        verify(copy, [copy / "config.json"])
    with pytest.raises(ConfigError, match="plots"):
        verify(copy, only=["plot"])
    with pytest.raises(InputError, match="not a finished run"):
        seal(tmp_path)


@pytest.mark.parametrize("names", [["a/x", "b/y"], ["a/../../x"], ["/a/x"]])
def test_a_zip_of_something_else_is_refused(names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(InputError, match="not the zip of a record"):
        verify(tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]

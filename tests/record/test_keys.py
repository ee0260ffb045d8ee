from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nvkit.errors import InputError
from nvkit.record.keys import keygen, public_key, signer_of


def test_a_key_pair_belongs_together_and_is_the_owners_only(tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "new" / "key.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert signer_of(private).public_key.keyid == public_key(public).keyid
    assert public_key(public).scheme == "ed25519"


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    private, _ = keygen(tmp_path / "key.pem")
    before = private.read_bytes()
    with pytest.raises(InputError, match="there already"):
        keygen(private)
    assert private.read_bytes() == before


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "key.pem")
    for wrong in (tmp_path / "none.pem", public):
        with pytest.raises(InputError):
            signer_of(wrong)
    with pytest.raises(InputError, match=r"ends in \.pub"):
        public_key(private)

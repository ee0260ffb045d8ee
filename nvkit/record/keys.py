"""Ed25519 keys in files: PEM, the private one readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nvkit.errors import InputError

DEFAULT = Path("~/.config/nvkit/key.pem")
"""The key that `nvkit run` signs with, if it is there."""


def keygen(path: Path | None = None) -> tuple[Path, Path]:
    """Make a key pair; return the private file and the public one beside it (`<name>.pub`).

    Args:
        path: The private file; `DEFAULT` if None.

    Raises:
        InputError: one of the files is there: a key that signed records is never overwritten.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from securesystemslib.signer import CryptoSigner

    private = (path or DEFAULT).expanduser()
    public = private.with_suffix(".pub")
    for file in (private, public):
        if file.exists():
            raise InputError(f"{file} is there already.", "Keep it, or give another name: nvkit keygen PATH.")
    signer = CryptoSigner.generate_ed25519()
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(signer.private_bytes)
    key = _private(private).public_key()
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def default_key() -> Path | None:
    """Return the file of the key that runs are signed with, or None: they are sealed without a signature."""
    path = DEFAULT.expanduser()
    return path if path.is_file() else None


def signer_of(path: Path) -> Any:
    """Return the signer (securesystemslib) of a private key file.

    Raises:
        InputError: it is not there, not a private key, or protected by a pass phrase.
    """
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(_private(path))


def public_key(path: Path) -> Any:
    """Return the key (securesystemslib) of a public key file.

    Raises:
        InputError: it is not there or not a public key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(_read(path)))
    except ValueError as error:
        raise InputError(f"{path} is not a public key: {error}.", "Give the file that ends in .pub.") from None


def _private(path: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:  # TypeError: there is a pass phrase
        what = f"{path} is not a private key without pass phrase: {error}."
        raise InputError(what, "Make one: nvkit keygen.") from None


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"There is no key in {path}: {error.strerror}.", "nvkit keygen makes one.") from None

"""Seals a finished run: provenance.json over every file, and signatures over it in a DSSE envelope.

Without a key the record is a manifest: it shows that nothing has changed since, and says nothing of who made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import InputError
from nvkit.record.keys import signer_of
from nvkit.record.provenance import digests, statement
from nvkit.record.reading import ENVELOPE, PROVENANCE, read_json
from nvkit.record.redact import redact
from nvkit.store import write_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
INTEGRITY_ONLY = "integrity only: nobody has signed this record"


@dataclass(frozen=True)
class Seal:
    """A sealed record.

    Attributes:
        run: The folder.
        files: Number of files under the seal.
        signatures: Ids of the keys that signed.
        replaced: Word to how often it replaced a name or a path of this machine; None if they stay.
        left: Names that LoadGen's logs hold, which are never altered.
    """

    run: Path
    files: int
    signatures: tuple[str, ...]
    replaced: dict[str, int] | None
    left: tuple[str, ...]

    def __str__(self) -> str:
        signed = f"signed by {', '.join(k[:16] for k in self.signatures)}" if self.signatures else INTEGRITY_ONLY
        if self.replaced is None:
            names = "names and paths of this machine stay, as asked"
        else:
            names = f"{sum(self.replaced.values())} names and paths of this machine replaced by words"
        return "; ".join([f"sealed: {self.files} files, {signed}", names, *self.left])


def seal(run: Path, key: Path | None = None, *, keep_names: bool = False) -> Seal:
    """Replace what names this machine, write provenance.json, and sign it; an earlier seal is replaced.

    Args:
        run: Folder of a finished run.
        key: Private key; no signature without one.
        keep_names: Leave host name, user name and paths as they are.

    Raises:
        InputError: the run is not finished, or the key cannot be read.
    """
    if not (run / "stages" / "report.json").is_file():
        raise InputError(f"{run} is not a finished run.", "Finish it first, then seal it.")
    signer = signer_of(key) if key else None
    said = None if keep_names else redact(run)
    sealed = statement(run)
    (run / ENVELOPE).unlink(missing_ok=True)
    write_json(run / PROVENANCE, sealed)
    signatures = (_add_signature(run, signer),) if signer else ()
    replaced, left = (said["replaced"], said["in LoadGen's logs"]) if said else (None, ())
    return Seal(run, len(sealed["subject"]), signatures, replaced, tuple(left))


def sign(run: Path, key: Path) -> str:
    """Add a signature to a sealed record, such as an auditor's; return the id of the key.

    Raises:
        InputError: the record is not sealed, a file has changed since, or the key cannot be read.
    """
    said = {subject["name"]: subject["digest"]["sha256"] for subject in read_json(run / PROVENANCE)["subject"]}
    now = digests(run)
    if said != now:
        differing = sorted(name for name in {*said, *now} if said.get(name) != now.get(name))
        raise InputError(
            f"{run.name} is not as it was sealed: {', '.join(differing[:5])}.",
            "'nvkit verify' says what changed; a signature over something else than the files helps nobody.",
        )
    return _add_signature(run, signer_of(key))


def read_envelope(run: Path) -> Any:
    """Return the envelope (securesystemslib), or None if nobody signed.

    Raises:
        InputError: the file is not an envelope.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    if not (run / ENVELOPE).is_file():
        return None
    try:
        return Envelope.from_dict(read_json(run / ENVELOPE))
    except (FormatError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{ENVELOPE} is not a DSSE envelope: {error}.", "Restore it from a copy.") from None


def _add_signature(run: Path, signer: Any) -> str:
    from securesystemslib.dsse import Envelope

    payload = (run / PROVENANCE).read_bytes()
    envelope = read_envelope(run)
    if envelope is None or envelope.payload != payload:  # signatures over another state of the record do not count
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
    keyid: str = envelope.sign(signer).keyid
    write_json(run / ENVELOPE, envelope.to_dict())
    return keyid

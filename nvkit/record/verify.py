"""Checks every claim of a record again, offline: on any machine, without a GPU and without the run's data.

nvkit verify RUN-or-zip --key auditee.pub --key auditor.pub
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath

from nvkit.errors import ConfigError, InputError, nearest
from nvkit.record.checks import claims, figures, integrity, loadgen, notebooks, source
from nvkit.record.findings import Finding, Outcome, Verification
from nvkit.record.keys import public_key
from nvkit.record.opened import Record
from nvkit.record.reading import PROVENANCE
from nvkit.runs import outputs_folder

CHECKS: dict[str, Callable[[Record], Outcome]] = {
    "files present": integrity.files_present,
    "files unchanged": integrity.files_unchanged,
    "no file added": integrity.no_file_added,
    "chain of stages": integrity.chain_of_stages,
    "provenance": integrity.provenance,
    "nvkit's code": source.code,
    "parameters": source.parameters,
    "stage keys": source.stage_keys,
    "notebook code": notebooks.code,
    "notebook parameters": notebooks.parameters,
    "notebook execution": notebooks.execution,
    "notebook results": notebooks.results,
    "notebook tables": notebooks.tables,
    "notebook pictures": notebooks.pictures,
    "LoadGen logs": loadgen.logs,
    "LoadGen settings": loadgen.settings,
    "LoadGen version": loadgen.version,
    "rules of the round": loadgen.rules,
    "validity": loadgen.validity,
    "LoadGen errors": loadgen.errors,
    "audit.config": loadgen.audit_config,
    "latencies": figures.latencies,
    "results": figures.results,
    "comparison": figures.comparison,
    "plots": figures.pictures,
    "accuracy": figures.accuracy,
    "claims": claims.claims,
    "system": claims.system,
    "artefacts": claims.artefacts,
    "names and paths": claims.privacy,
    "attestation": claims.attested,
}
"""Check to what does it, in the order of the report."""
SIGNATURES = "signatures"
"""The check that comes before these and needs keys."""


def verify(
    path: Path, keys: Sequence[Path] = (), *, store: Path | None = None, only: Collection[str] = ()
) -> Verification:
    """Verify a run folder or its zip.

    Args:
        path: The folder or the zip.
        keys: Public keys, all of which must have signed.
        store: Where artefacts are looked for; beside the run if it lies in an outputs folder, else this clone's.
        only: Names of the checks to do; all if empty.

    Raises:
        ConfigError: there is no check of a name in `only`.
        InputError: it is not a sealed record, or a key cannot be read.
    """
    checks = {SIGNATURES: lambda opened: integrity.signatures(opened, keys), **CHECKS}
    for name in only:
        if name not in checks:
            raise ConfigError(f"There is no check '{name}'.", nearest(name, checks))
    for key in keys:
        public_key(key)  # a key that cannot be read is the user's mistake, not the record's
    with tempfile.TemporaryDirectory(prefix="nvkit-verify-") as temporary:
        work = Path(temporary)
        root = _unpacked(path, work / "record") if path.is_file() else path
        if not (root / PROVENANCE).is_file():
            raise InputError(f"{path} is not a sealed record: it has no {PROVENANCE}.", "nvkit seal RUN makes one.")
        beside = path.resolve().parent.parent / "store"
        record = Record(root.resolve(), work, store or (beside if beside.is_dir() else outputs_folder() / "store"))
        wanted = {name: check for name, check in checks.items() if not only or name in only}
        findings = tuple(_guarded(name, check, record) for name, check in wanted.items())
        return Verification(root.name, _about(record), findings)


def _guarded(name: str, check: Callable[[Record], Outcome], record: Record) -> Finding:
    """Return a check's finding; a record so damaged that it cannot be checked has failed the check."""
    try:
        return Finding.from_outcome(name, check(record))
    except Exception as error:  # whatever a forged file makes a reader raise
        said = getattr(error, "what", f"{type(error).__name__}: {error}")
        return Finding("FAIL", name, f"cannot be checked: {' '.join(str(said).split())[:300]}")


def _about(record: Record) -> list[tuple[str, str]]:
    try:
        config, machine = record.config, record.stages["setup"]["system"]
        gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
        return [
            ("benchmark", f"{config['benchmark']}, {', '.join(config['scenarios'])}, round {config['round']}"),
            ("profile", config["profile"]),
            ("machine", f"{machine['cpu']['model']}, {gpus}, {machine['os']}"),
            ("nvkit", f"{record.code['version']}, commit {record.code['commit'] or 'unknown'}"),
            ("finished", str(record.stages["report"]["finished"])),
            ("seal", f"{len(record.provenance['subject'])} files"),
        ]
    except (InputError, KeyError, TypeError) as error:
        return [("damaged", str(error))]


def _unpacked(path: Path, into: Path) -> Path:
    """Unpack a record's zip, which holds one folder.

    Raises:
        InputError: it is not a zip, or holds something else.
    """
    what, fix = f"{path} is not the zip of a record", "nvkit export RUN writes one."
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            parts = [PurePosixPath(name).parts for name in names]
            if len(set(names)) != len(names) or any(".." in p or p[0] == "/" for p in parts if p):
                raise InputError(f"{what}: a name is there twice or leads out of it.", fix)
            tops = {p[0] for p in parts if p}
            if len(tops) != 1:
                raise InputError(f"{what}: it holds {len(tops)} folders.", fix)
            archive.extractall(into)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{what}: {error}.", fix) from None
    return into / tops.pop()

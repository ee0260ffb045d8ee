"""Is the record what was sealed: signatures, files, the chain of stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nvkit.record.findings import Outcome
from nvkit.record.keys import public_key
from nvkit.record.opened import Record
from nvkit.record.provenance import BUILD_TYPE, PREDICATE, STATEMENT, chain, statement
from nvkit.record.reading import ENVELOPE, PROVENANCE
from nvkit.record.seal import INTEGRITY_ONLY, PAYLOAD_TYPE, read_envelope

_SHOWN = 8


def signatures(record: Record, keys: Sequence[Path]) -> Outcome:
    """Every key that was given has signed this very statement."""
    from securesystemslib.exceptions import VerificationError

    envelope = read_envelope(record.root)
    if envelope is None:
        said = f"there is no {ENVELOPE}: {INTEGRITY_ONLY}"
        return Outcome(problems=[said]) if keys else Outcome(manual=[said])
    if envelope.payload_type != PAYLOAD_TYPE or envelope.payload != (record.root / PROVENANCE).read_bytes():
        return Outcome(problems=[f"{ENVELOPE} signs something else than {PROVENANCE}"])
    problems = []
    for path in keys:
        key = public_key(path)
        try:
            envelope.verify([key], 1)
        except VerificationError:
            there = "its signature is forged" if key.keyid in envelope.signatures else "it has not signed"
            problems.append(f"{path.name} (key {key.keyid[:16]}): {there}")
    others = [keyid[:16] for keyid in envelope.signatures]
    if not keys:
        return Outcome(manual=[f"signed by key {', '.join(others)}; give the public key to check it (--key)"])
    return Outcome.of(problems, f"signed by {', '.join(path.name for path in keys)}")


def files_present(record: Record) -> Outcome:
    """No sealed file is gone."""
    gone = sorted(set(_sealed(record)) - set(record.digests))
    return Outcome.of(_listed("missing", gone), f"all {len(_sealed(record))} files are there")


def files_unchanged(record: Record) -> Outcome:
    """Every file has the digest that it was sealed with."""
    sealed = _sealed(record)
    changed = sorted(name for name, digest in record.digests.items() if sealed.get(name, digest) != digest)
    return Outcome.of(_listed("changed since it was sealed", changed), "every file has the digest of the seal")


def no_file_added(record: Record) -> Outcome:
    """No file is there that was not sealed."""
    extra = sorted(set(record.digests) - set(_sealed(record)))
    return Outcome.of(_listed("not in the seal", extra), "no file is there that was not sealed")


def chain_of_stages(record: Record) -> Outcome:
    """Every stage names the digest of the one before, over the results, notebooks and logs that are there."""
    sealed = record.build_definition["internalParameters"]["stages"]
    found = chain(record.stages, record.digests)
    problems = []
    if [link["stage"] for link in sealed] != [link["stage"] for link in found]:
        problems.append("the stages are others, or in another order, than in the seal")
    for there, here in zip(sealed, found, strict=False):
        differing = [what for what in {**there, **here} if there.get(what) != here.get(what)]
        if differing:
            problems.append(f"stage {here['stage']}: {', '.join(differing)} not as sealed")
    return Outcome.of(problems, f"{len(found)} stages, each with the digest of the one before")


def provenance(record: Record) -> Outcome:
    """The statement says of the run what the files say."""
    said, found = record.provenance, statement(record.root)
    kinds = (said["_type"], said["predicateType"], record.build_definition["buildType"])
    problems = [] if kinds == (STATEMENT, PREDICATE, BUILD_TYPE) else [f"the statement is of another kind: {kinds}"]
    for part in ("externalParameters", "resolvedDependencies"):
        if record.build_definition[part] != found["predicate"]["buildDefinition"][part]:
            problems.append(f"its {part} are not those of the files")
    details, expected = said["predicate"]["runDetails"], found["predicate"]["runDetails"]
    for part in ("startedOn", "finishedOn"):
        if details["metadata"][part] != expected["metadata"][part]:
            problems.append(f"its {part} is not that of the stages")
    if details["builder"] != expected["builder"]:
        problems.append("it names another nvkit")
    return Outcome.of(problems, "parameters, dependencies and times are those of the files")


def _sealed(record: Record) -> dict[str, str]:
    return {subject["name"]: subject["digest"]["sha256"] for subject in record.provenance["subject"]}


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{more}"]

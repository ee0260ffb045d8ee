"""What the seal says: an in-toto statement over every file of a run, with a SLSA provenance predicate.

https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. The chain of stages stands in the predicate's
internal parameters: each link holds the digest of the one before it, the first that of config.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvkit.notebooks import STAGES
from nvkit.record.reading import files, read_json, read_stages
from nvkit.store import digest_of, file_digest

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:nvkit:run:v1"
_NOTEBOOKS = dict(STAGES)


def statement(run: Path) -> dict[str, Any]:
    """Return the statement over a finished run folder.

    Raises:
        InputError: a file that every run has is missing or damaged.
    """
    config, code = read_json(run / "config.json"), read_json(run / "record" / "code.json")
    stages, subjects = read_stages(run), digests(run)
    dependencies: list[dict[str, Any]] = [{"name": "nvkit", "digest": {"sha256": code["code"]}}]
    if code["commit"]:
        dependencies[0]["digest"]["gitCommit"] = code["commit"]
    for row in read_json(run / "record" / "artefacts.json"):
        where = {"uri": row["path"]} if "path" in row else {}
        dependencies.append({"name": row["what"], "digest": {"sha256": row["sha256"]}, **where})
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {k: v for k, v in config.items() if k not in ("origins", "unused")},
                "internalParameters": {"stages": chain(stages, subjects)},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": "urn:nvkit", "version": {"nvkit": code["version"]}},
                "metadata": {
                    "invocationId": run.name,
                    "startedOn": stages["setup"]["finished"],
                    "finishedOn": stages["report"]["finished"],
                },
            },
        },
    }


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a record but the seals, by name; that of a link is of where it points."""
    found = {}
    for name in files(run):
        path = run / name
        found[name] = digest_of({"link": str(path.readlink())}) if path.is_symlink() else file_digest(path)
    return found


def chain(stages: dict[str, dict[str, Any]], subjects: dict[str, str]) -> list[dict[str, Any]]:
    """Return a link for each stage: its result, notebook and logs, and the digest of the link before.

    Args:
        stages: The stored results, in order.
        subjects: File name to SHA-256.
    """
    links: list[dict[str, Any]] = []
    previous = subjects.get("config.json", "")
    for name, stored in stages.items():
        link: dict[str, Any] = {"stage": name, "key": stored.get("key"), "finished": stored.get("finished")}
        link["result"] = subjects.get(f"stages/{name}.json", "")
        notebook = _NOTEBOOKS.get(name, "")
        if notebook in subjects:
            link["notebook"] = subjects[notebook]
        if logs := stored.get("logs"):
            link["logs"] = digest_of([item for item in subjects.items() if item[0].startswith(f"{logs}/")])
        link["previous"] = previous
        links.append(link)
        previous = digest_of(link)
    return links

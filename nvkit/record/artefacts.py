"""Digests of what a result was computed with: model, data list, calibration set, ranges, engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nvkit.places import Places
from nvkit.store import digest_of, file_digest


def artefacts(stages: Mapping[str, Mapping[str, Any]], places: Places) -> list[dict[str, Any]]:
    """Return a row for each: what it is, SHA-256, and either its file and size or the number of its entries.

    The images and the preprocessed samples are not read again: the digest of the data set covers the ones, the
    digest of the store's key the others.

    Args:
        stages: The stored results, paths with the words of `places`.
        places: The folders of this machine.
    """
    rows = list(_lists(stages))
    for what, path in _paths(stages):
        found = Path(places.show(path))
        parts = sorted(found.rglob("*")) if found.is_dir() else [found]
        rows += [_file(what, part, places) for part in parts if part.is_file()]
    return rows


def lists(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that the stored results alone give: data list, calibration set, samples."""
    return list(_lists(stages))


def _lists(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    if data := stages.get("setup", {}).get("data"):
        labels = data["labels"]  # empty where files of the data set hold the ground truth
        files = list(zip(data["files"], labels, strict=True)) if labels else data["files"]
        yield {"what": "data set", "sha256": data["digest"], "entries": len(files)}
        yield {"what": "data set list", "sha256": digest_of(files), "entries": len(files)}
        yield {
            "what": "calibration set list",
            "sha256": digest_of(data["calibration"]),
            "entries": len(data["calibration"]),
        }
    if release := stages.get("setup", {}).get("release"):
        yield {"what": "NVIDIA's code", "sha256": release["digest"], "entries": 1}


def _paths(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    if model := stages.get("setup", {}).get("model"):
        yield "model", model["path"]
    calibration = stages.get("calibrate", {})
    for method, path in (calibration.get("ranges") or {}).items():
        yield f"ranges, {method}", path
    if quantized := calibration.get("quantized"):
        yield "quantised network", quantized
    build = stages.get("build", {})
    for path in dict.fromkeys(engine["path"] for engine in (build.get("engines") or {}).values()):
        yield "engine", path
    for plan in build.get("plans") or ():
        yield "engine", plan["path"]


def _file(what: str, path: Path, places: Places) -> dict[str, Any]:
    size = path.stat().st_size
    return {"what": what, "sha256": file_digest(path), "bytes": size, "path": places.hide(str(path))}

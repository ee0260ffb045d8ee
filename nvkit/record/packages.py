"""The installed distributions and the digests of what was installed."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import metadata
from typing import Any


def packages() -> dict[str, dict[str, Any]]:
    """Return distribution to version, digest and origin, sorted by name.

    Of a name that is there twice, the one that Python imports is kept. `sha256` is that of the distribution's RECORD,
    which holds the digest of each of its files; it is absent where the installer left no RECORD (system packages).
    """
    found: dict[str, dict[str, Any]] = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name and name not in found:
            found[name] = _described(distribution)
    return dict(sorted(found.items()))


def _described(distribution: metadata.Distribution) -> dict[str, Any]:
    said: dict[str, Any] = {"version": distribution.version}
    if record := distribution.read_text("RECORD"):
        said["sha256"] = hashlib.sha256(record.encode()).hexdigest()
    if origin := distribution.read_text("direct_url.json"):
        # Of where it came from, only what says which source it is: an address may hold a password or a path.
        direct = json.loads(origin)
        if commit := direct.get("vcs_info", {}).get("commit_id"):
            said["commit"] = commit
        if direct.get("dir_info", {}).get("editable"):
            said["editable"] = True
    return said

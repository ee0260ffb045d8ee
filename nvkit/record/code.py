"""Which nvkit ran: its commit, what is changed since, and the tree of both on another machine."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from nvkit import __version__
from nvkit.places import KIT
from nvkit.runs import code_digest
from nvkit.store import digest_of, file_digest

_PARTS = ("nvkit", "notebooks", "parameters")
"""What a result depends on; a commit or a change of anything else does not matter to it."""
_TIMEOUT_S = 60


def code_state(root: Path = KIT) -> tuple[dict[str, Any], str]:
    """Return facts of this nvkit, and the difference between its commit and what is on disk, as git writes it.

    Facts: version, commit (None outside of a clone), changed files, and the digests of `code`, `notebooks` (each) and
    `parameters`.
    """
    facts: dict[str, Any] = {"version": __version__, "commit": None, "changed": []}
    diff = ""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top and Path(top.strip()).resolve() == root.resolve() and (commit := _git(root, "rev-parse", "HEAD")):
        new = [
            name for name in (_git(root, "ls-files", "-zo", "--exclude-standard", *_PARTS) or "").split("\0") if name
        ]
        diff = _git(root, "diff", "HEAD", *_PARTS) or ""
        diff += "".join(_git(root, "diff", "--no-index", "--", "/dev/null", name) or "" for name in new)
        old = (_git(root, "diff", "-z", "--name-only", "HEAD", *_PARTS) or "").split("\0")
        facts |= {"commit": commit.strip(), "changed": sorted([*filter(None, old), *new])}
    return facts | digests(root), diff


def digests(root: Path) -> dict[str, Any]:
    """Return the digests of a tree: of nvkit's code, of each notebook, of the parameters."""
    notebooks = {path.name: file_digest(path) for path in sorted((root / "notebooks").glob("*.ipynb"))}
    parameters = sorted(path for path in (root / "parameters").rglob("*") if path.is_file())
    listed = [(path.relative_to(root).as_posix(), file_digest(path)) for path in parameters]
    return {"code": code_digest(root / "nvkit"), "notebooks": notebooks, "parameters": digest_of(listed)}


def tree_of(facts: dict[str, Any], diff: Path, into: Path, clone: Path = KIT) -> tuple[Path | None, str]:
    """Return the tree of the nvkit that a record was made by, and where it is from; None and why there is none.

    It is made from the commit in this clone and the record's difference, or is this clone itself if it is equal.

    Args:
        facts: A record's code.json.
        diff: A record's uncommitted.diff, which need not exist.
        into: An empty folder outside of any repository, for the tree.
        clone: Where the commit is looked for.
    """
    wanted = {name: facts.get(name) for name in ("code", "notebooks", "parameters")}
    if digests(clone) == wanted:
        return clone, "this nvkit, which is the same"
    commit = facts.get("commit")
    if not commit:
        return None, "the record names no commit, and this nvkit is another one"
    if not commit.isalnum() or (packed := _git_bytes(clone, "archive", "--format=zip", commit, *_PARTS)) is None:
        return None, f"commit {commit[:12]} is not in this clone; git fetch may bring it"
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(into)
    if diff.is_file() and _git(into, "apply", "--whitespace=nowarn", str(diff.resolve())) is None:
        return None, f"the record's {diff.name} does not fit commit {commit[:12]}"
    changed = " and the record's uncommitted difference" if diff.is_file() else ""
    return into, f"commit {commit[:12]}{changed}"


def _git(root: Path, *arguments: str) -> str | None:
    out = _git_bytes(root, *arguments)
    return None if out is None else out.decode("utf-8", errors="surrogateescape")


def _git_bytes(root: Path, *arguments: str) -> bytes | None:
    """Run git, with none of the user's settings that change what it prints; None if it fails."""
    plain = ["-c", "core.quotepath=off", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"]
    words = list(arguments)
    if words[0] == "diff":
        words[1:1] = ["--binary", "--no-color", "--no-ext-diff", "--no-textconv"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_CEILING_DIRECTORIES": str(root.resolve().parent)}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *plain, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    differs = "--no-index" in words and done.returncode == 1
    return done.stdout if done.returncode == 0 or differs else None

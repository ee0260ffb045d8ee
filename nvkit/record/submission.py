"""A submission: the tree of a round from finished runs, and what MLCommons' own checker says of it.

<out>/<division>/<submitter>/{systems,results,measurements,compliance,code,documentation}   v3.0 to v5.1
<out>/<division>/<submitter>/{systems,results,src,documentation}                            v6.0 and later
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import ConfigError, InputError, disk_errors, nearest
from nvkit.record.checker import Verdict, check_tree
from nvkit.record.mlcommons import Checkout
from nvkit.record.stored_run import StoredRun, open_stored
from nvkit.record.submission_layout import Layout
from nvkit.record.submission_rules import Entry, entry, guessed_system_type, read_facts, unknown_fields
from nvkit.record.submission_tree import system_id, write_code, write_documentation, write_entry, write_systems
from nvkit.store import write_text
from nvkit.tables import Table

DIVISIONS = ("closed", "open")
STATUSES = ("available", "preview", "rdi")
BRAND_FILE = "TEST-TREE.md"
_BRAND = "test tree, not a submission"


@dataclass(frozen=True)
class Submission:
    """A written tree.

    Attributes:
        path: Its root.
        entries: System to the benchmarks that it holds.
        objections: Why it is a test tree; empty for a submission.
        code: Where the source in it is from.
        verdict: What MLCommons' checker says; None if no checkout was given.
    """

    path: Path
    entries: Mapping[str, tuple[Entry, ...]]
    objections: tuple[str, ...]
    code: str
    verdict: Verdict | None

    def headline(self) -> str:
        """Say in one line what was written and whether the checker accepts it."""
        kind = _BRAND if self.objections else "submission"
        said = "not checked: no checkout of mlcommons/inference was given"
        if self.verdict:
            said = "accepted by" if self.verdict.passed else "NOT accepted by"
            said += " MLCommons' submission checker"
        return f"{self.path}: {kind}, {said}"

    def tables(self) -> list[Table]:
        """Return what is in the tree, why it is only a test, and the checker's complaints."""
        rows = [
            [system, one.benchmark, ", ".join(one.scenarios), one.run.name]
            for system, entries in self.entries.items()
            for one in entries
        ]
        tables = [Table(["system", "benchmark", "scenarios", "run"], rows, "In the tree", [f"code: {self.code}"])]
        if self.objections:
            tables.append(Table(["why it is no submission"], [[one] for one in self.objections], _BRAND.capitalize()))
        return [*tables, *([self.verdict.table()] if self.verdict else [])]

    def __str__(self) -> str:
        return "\n\n".join([self.headline(), *map(str, self.tables())])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        body = "".join(table._repr_html_() for table in self.tables())
        return {"text/plain": str(self), "text/html": f"<p><b>{self.headline()}</b></p>{body}"}


def submit(
    runs: Sequence[str | Path],
    submitter: str,
    round: str,
    out: str | Path,
    *,
    test: bool = False,
    division: str = "closed",
    system_type: str = "",
    status: str = "available",
    system: str = "",
    facts: Path | None = None,
    inference: Path | None = None,
) -> Submission:
    """Write the submission tree of a round.

    Args:
        runs: Run folders, each of one benchmark.
        submitter: Name of the organisation, which is a folder's name.
        round: E.g. "v4.1".
        out: The root of the tree; must not exist yet.
        test: Write it although it is no submission, and say so in it.
        division: closed or open.
        system_type: datacenter, edge, or "datacenter,edge"; found from the scenarios of the runs if empty.
        status: available, preview or rdi.
        system: Name of the system's files and folders; from the system's description if empty.
        facts: JSON file with fields of the system description that no program can find out, e.g. cooling.
        inference: Checkout of mlcommons/inference of the round's tag, for its checker and mlperf.conf.

    Raises:
        InputError: a run that cannot be submitted, or, without `test`, that the rules do not accept.
        ConfigError: a name that does not exist.
    """
    _check_names(submitter, division, status)
    if not runs:
        raise InputError("No run was given.", "Give the folders of finished runs.")
    target = Path(out).resolve()
    if target.exists():
        raise InputError(f"{target} exists already.", "Give a folder that does not exist yet, or remove it.")
    checkout = Checkout(inference) if inference else None
    stored = [open_stored(path) for path in runs]
    kind = system_type or guessed_system_type(stored)
    named: dict[str, tuple[Entry, ...]] = {}
    descriptions: dict[str, dict[str, Any]] = {}
    for run in stored:
        described = _described(run, facts)
        name = system or system_id(described, run.backend)
        one = entry(run, round, kind, division)
        _check_same(name, one, named, descriptions, described)
        named[name] = (*named.get(name, ()), one)
        descriptions[name] = described
    objections = _all_objections(named, descriptions)
    if objections and not test:
        raise InputError(
            "This is no submission: " + "; ".join(objections) + ".",
            "Run what the rules ask for; a tree for a look at its structure is made with --test.",
        )
    said = {"submitter": submitter, "division": division, "status": status, "system_type": kind}
    for described in descriptions.values():
        described.update(said)
        if objections:
            described["sw_notes"] = f"{_BRAND}: {len(objections)} reasons in {BRAND_FILE}"
    code = _write(target, round, division, submitter, named, descriptions, objections, checkout)
    verdict = check_tree(target, round, submitter, checkout) if checkout else None
    return Submission(target, named, tuple(objections), code, verdict)


def _write(
    target: Path,
    round: str,
    division: str,
    submitter: str,
    named: Mapping[str, tuple[Entry, ...]],
    descriptions: Mapping[str, Mapping[str, Any]],
    objections: Sequence[str],
    checkout: Checkout | None,
) -> str:
    """Write the tree beside its place and move it there when it is whole; return where the code is from."""
    partial = target.with_name(f".{target.name}.partial")
    with disk_errors(target):
        if partial.exists():
            shutil.rmtree(partial)
        layout = Layout(partial / division / submitter, round)
        every = [one for entries in named.values() for one in entries]
        write_systems(layout, descriptions)
        for name, entries in named.items():
            for one in entries:
                write_entry(layout, name, one, checkout, objections)
        write_documentation(layout, every, objections)
        code = write_code(layout, every)
        if objections:
            lines = ["# Test tree, not a submission", "", *(f"- {one}" for one in objections), ""]
            write_text(partial / BRAND_FILE, "\n".join(lines))
        os.replace(partial, target)
    return code


def _check_names(submitter: str, division: str, status: str) -> None:
    for what, value, known in (("division", division, DIVISIONS), ("status", status, STATUSES)):
        if value not in known:
            raise ConfigError(f"There is no {what} '{value}'.", nearest(value, known))
    if not submitter or not all(c.isalnum() or c in "_-" for c in submitter):
        raise ConfigError(f"'{submitter}' cannot be a folder's name.", "Use letters, digits, _ and -.")


def _described(run: StoredRun, facts: Path | None) -> dict[str, Any]:
    for name in ("system", "code"):
        if name not in run.record:
            raise InputError(f"{run.name} has no record/{name}.json.", "'nvkit report' of the same run makes it.")
    description = dict(run.record["system"])
    return description | read_facts(facts, description)


def _check_same(
    name: str,
    one: Entry,
    named: Mapping[str, tuple[Entry, ...]],
    descriptions: Mapping[str, Mapping[str, Any]],
    described: Mapping[str, Any],
) -> None:
    if any(other.benchmark == one.benchmark for other in named.get(name, ())):
        raise InputError(f"Two of the runs are of {one.benchmark} on {name}.", "Give one of them.")
    for field, value in descriptions.get(name, {}).items():
        if described[field] != value:
            raise InputError(
                f"Two runs of {name} differ in {field}: {value!r} and {described[field]!r}.",
                "Give runs of one system, or submit them with another --system.",
            )


def _all_objections(named: Mapping[str, tuple[Entry, ...]], descriptions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    for entries in named.values():
        for one in entries:
            prefix = f"{one.benchmark} " if len(entries) > 1 else ""
            found += [f"{prefix}{objection}" for objection in one.objections]
    for name, description in descriptions.items():
        if fields := unknown_fields(description):
            found.append(f"{name}: {', '.join(fields)} must be filled in (--system-facts FILE)")
    return list(dict.fromkeys(found))

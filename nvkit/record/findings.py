"""What a verification found: one line for each check, and the auditor's report made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nvkit.errors import VerificationError
from nvkit.tables import Table

Status = Literal["PASS", "FAIL", "MANUAL"]
LIMIT = (
    "A seal shows who vouches for a record and that nothing has changed since. It does not show that the machine told "
    "the truth: only a replay, a compliance test or somebody who watched does."
)


@dataclass(frozen=True)
class Outcome:
    """What one check found.

    Attributes:
        problems: What is wrong; none if the check passed.
        manual: What no program can decide here, and why.
        said: What was checked, in words, for a check that found nothing.
    """

    problems: Sequence[str] = ()
    manual: Sequence[str] = ()
    said: str = ""

    @classmethod
    def of(cls, problems: Iterable[str], said: str, manual: Iterable[str] = ()) -> Outcome:
        """Return the outcome of a check that went through a list."""
        return cls(tuple(problems), tuple(manual), said)


@dataclass(frozen=True)
class Finding:
    """A check and how it ended.

    Attributes:
        status: PASS, FAIL (something is wrong), or MANUAL (a person must look).
        check: Name of the check.
        detail: What was found.
    """

    status: Status
    check: str
    detail: str

    @classmethod
    def from_outcome(cls, check: str, outcome: Outcome) -> Finding:
        """Return the finding that an outcome is."""
        if outcome.problems:
            return cls("FAIL", check, "; ".join(outcome.problems))
        if outcome.manual:
            return cls("MANUAL", check, "; ".join(outcome.manual))
        return cls("PASS", check, outcome.said)

    def __str__(self) -> str:
        return f"{self.status:<6}  {self.check}: {self.detail}"


@dataclass(frozen=True)
class Verification:
    """All findings on a record.

    Attributes:
        record: Name of the run.
        about: What the record is of: rows of what and which.
        findings: In the order of the checks.
    """

    record: str
    about: Sequence[tuple[str, str]]
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The checks that found something wrong."""
        return tuple(finding for finding in self.findings if finding.status == "FAIL")

    @property
    def manual(self) -> tuple[Finding, ...]:
        """What a person must look at."""
        return tuple(finding for finding in self.findings if finding.status == "MANUAL")

    def require(self) -> None:
        """Do nothing if nothing failed.

        Raises:
            VerificationError: a check failed; all that did are named.
        """
        if self.failed:
            names = ", ".join(finding.check for finding in self.failed)
            raise VerificationError(
                f"{self.record} does not hold what it claims: {names}.", "The lines above say what is wrong."
            )

    def tables(self) -> list[Any]:
        """Return the auditor's report: the record, the work done, findings, what is unresolved, the recommendation."""
        return verification_report(self)

    def __str__(self) -> str:
        counts = f"{len(self.findings)} checks, {len(self.failed)} failed, {len(self.manual)} for a person to judge"
        return "\n".join([*map(str, self.findings), "", f"{self.record}: {counts}", LIMIT])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": "".join(table._repr_html_() for table in self.tables())}


def verification_report(verification: Verification) -> list[Table]:
    """Return the tables of an audit report, under the headings that MLPerf's audit guidelines ask for."""
    work = [[finding.check, finding.status, finding.detail] for finding in verification.findings]
    tables = [
        Table(["record", verification.record], verification.about, "What was audited"),
        Table(["check", "result", "detail"], work, "Work performed", [LIMIT]),
    ]
    for title, findings, nothing in (
        ("Findings", verification.failed, "No check failed."),
        ("Unresolved", verification.manual, "Nothing is left for a person to judge."),
    ):
        rows = [[finding.check, finding.detail] for finding in findings] or [["", nothing]]
        tables.append(Table(["check", "what"], rows, title))
    if verification.failed:
        advice = "Reject: the record contradicts itself or the rules that it claims to follow."
    elif verification.manual:
        advice = "Accept, once somebody has judged what is unresolved."
    else:
        advice = "Accept."
    return [*tables, Table(["recommendation"], [[advice]], "Recommendation")]

"""MLCommons' own submission checker, from the checkout of a round's tag, on a tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import ConfigError
from nvkit.record.mlcommons import Checkout
from nvkit.tables import Table

_FILE = "tools/submission/submission_checker.py"
_PACKAGE = "tools/submission/submission_checker/main.py"
_LINE = re.compile(r"\[.*?(ERROR|WARNING|CRITICAL)\] (.*)|(?P<level>ERROR|WARNING|CRITICAL):\w+:(?P<text>.*)")
_OK = "SUMMARY: submission looks OK"

SHORT = "shorter or smaller than the rules"
DATA = "not the real data set"
SCORE = "accuracy below the target"
TEST_FAILED = "a compliance test did not pass or was not run"
MISSING = "a scenario is missing"
SKIPPED = "a check that is for other kinds of results"
FOLLOWS = "follows from another complaint"
OTHER = "something else"
_ABOUT = (
    (
        SHORT,
        r"duration less than|performance_sample_count, found|[Mm]inimum samples per query|[Mm]inimum [Qq]uery [Cc]ount",
    ),
    (SHORT, r"Latency constraint|[Ee]arly stopping"),
    (DATA, r"does not cover all dataset|dataset size|accuracy samples"),
    (SCORE, r"accuracy not met|accuracy not valid|accuracy has issues"),
    (TEST_FAILED, r"Compliance test .* failed|Missing TEST\d\d|no compliance dir"),
    (MISSING, r"does not have all required scenarios"),
    (FOLLOWS, r"^NoResults|has issues$|^SUMMARY|Checks failed for"),
    (SKIPPED, r"^Execution of check \w+ skipped"),
)


@dataclass(frozen=True)
class Complaint:
    """One line of the checker.

    Attributes:
        level: ERROR or WARNING.
        text: What it says.
        about: What it is about, in nvkit's words.
        times: How often it says it.
    """

    level: str
    text: str
    about: str
    times: int = 1


@dataclass(frozen=True)
class Verdict:
    """What MLCommons' checker says of a tree.

    Attributes:
        passed: Whether it accepts the tree.
        code: Its exit code.
        checker: The checker's path in mlcommons/inference.
        complaints: Its errors and warnings.
        output: All that it printed.
    """

    passed: bool
    code: int
    checker: str
    complaints: tuple[Complaint, ...]
    output: str

    def table(self) -> Table:
        """Return a row for each complaint; "something else" would be one about the tree itself."""
        rows = [[one.level, one.about, one.text, one.times] for one in self.complaints]
        counted = Counter(one.about for one in self.complaints)
        notes = [f"Complaints: {', '.join(f'{count} {name}' for name, count in counted.items())}."] if counted else []
        said = "accepts the tree" if self.passed else "does not accept the tree"
        title = f"MLCommons' submission checker {said} (exit code {self.code})"
        return Table(["level", "about", "what it says", "times"], rows, title, [*notes, self.checker])


def check_tree(tree: Path, round: str, submitter: str, checkout: Checkout) -> Verdict:
    """Run the checker on a tree.

    Raises:
        ConfigError: the checkout has no checker, or one that does not know the round.
        MissingPackageError: the checker needs a package that is not installed.
    """
    script = checkout.find(_PACKAGE, _FILE)
    arguments = ["--version", round, "--submitter", submitter, "--skip-power-check", "--csv", "summary.csv"]
    with checkout.desk() as desk:
        (desk / "tree").symlink_to(tree.resolve(), target_is_directory=True)
        said = checkout.run(desk, script, ["--input", "tree", *arguments])
    if "invalid choice" in said.output:
        known = said.output.rsplit("choose from", 1)[-1].strip().strip(")").replace("'", "")
        raise ConfigError(
            f"This checker does not know {round}; it knows {known}.", "Give a checkout of the round's tag."
        )
    lines = said.output.splitlines()
    passed = said.code == 0 and any(_OK in line for line in lines)
    scenarios = {folder.name for folder in tree.glob("*/*/results/*/*/*")}
    return Verdict(passed, said.code, script, _complaints(lines, scenarios), said.output)


def _complaints(lines: Sequence[str], scenarios: Set[str]) -> tuple[Complaint, ...]:
    counted: dict[tuple[str, str], int] = {}
    for line in lines:
        if found := _LINE.match(line):
            level, text = found[1] or found["level"], (found[2] or found["text"] or "").strip()
            counted[level, text] = counted.get((level, text), 0) + 1
        elif line.startswith("Traceback"):
            counted["ERROR", f"the checker itself failed: {lines[-1]}"] = 1
    return tuple(Complaint(level, text, _about(text, scenarios), times) for (level, text), times in counted.items())


def _about(text: str, scenarios: Set[str]) -> str:
    """Say what a complaint is about; a scenario that is there is missing only because something is wrong with it."""
    found = next((about for about, pattern in _ABOUT if re.search(pattern, text)), OTHER)
    named = set(re.findall(r"'(\w+)'", text)) if found == MISSING else set()
    return FOLLOWS if named and named <= scenarios else found

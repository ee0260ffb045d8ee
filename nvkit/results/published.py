"""Published MLPerf results, and the nearest one to a result of one's own.

The file holds what the submission checker reported for three rounds (v2.1, v3.0, v4.1): one official figure for each
system, benchmark and scenario. Figures are of the whole system; throughput is divided by the number of accelerators
before it is compared, latency never is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import DataError
from nvkit.results.metric import Metric, round_number
from nvkit.tables import Table

FILE_NAME = "published_results.csv"
_ALIASES = {"sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm", "hbm3": "sxm"}
_MAKERS = {"nvidia", "tesla", "geforce", "rtx", "quadro"}
# The model of an accelerator: a100, l40s, gh200, a6000, 4090, orin.
_MODEL = re.compile(r"[a-z]{1,2}\d{1,4}s?|\d{4}|orin|thor")


_OFFICIAL_PERCENTILE = {"SingleStream": 0.9, "MultiStream": 0.99}


@dataclass(frozen=True)
class PublishedResult:
    """One official figure; the fields are the columns of the file.

    Attributes:
        value: Of the whole system, in samples/s or ns.
        metric: Name of the figure in the file, e.g. "completed_server_qps".
    """

    round: str
    division: str
    submitter: str
    system: str
    accelerator: str
    accelerator_count: int
    framework: str
    benchmark: str
    scenario: str
    metric: str
    value: float
    loadgen_version: str

    @property
    def is_latency(self) -> bool:
        """Whether lower is better."""
        return "latency" in self.metric

    @property
    def per_accelerator(self) -> float:
        """Throughput of one accelerator in samples/s, or the latency in ns."""
        return self.value if self.is_latency else self.value / max(1, self.accelerator_count)


@dataclass(frozen=True)
class Comparison:
    """A result beside the nearest published one.

    Attributes:
        published: The published result.
        ours: Our figure of the whole system, or None if there is only something to look up.
        accelerators: How many accelerators ours used; 0 on a machine without one.
        choice: Why this published system was taken.
        differs: What differs between the two, a line for each.
    """

    published: PublishedResult
    ours: Metric | None
    accelerators: int
    choice: str
    differs: tuple[str, ...]

    @property
    def ours_per_accelerator(self) -> float | None:
        """Our throughput for one accelerator in samples/s, or our latency in ns."""
        if self.ours is None or self.published.is_latency:
            return self.ours.value if self.ours else None
        return self.ours.value / max(1, self.accelerators)

    @property
    def ratio(self) -> float | None:
        """Ours over published, for one accelerator: above 1 is better for throughput, worse for latency."""
        ours = self.ours_per_accelerator
        return None if ours is None else ours / self.published.per_accelerator

    def table(self) -> Table:
        """Return this comparison as a table of one row."""
        return comparison_table([self])


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return a row for each comparison; the notes say how systems were chosen and what differs."""
    rows = []
    for item in comparisons:
        scale, unit = (1e-6, "ms") if item.published.is_latency else (1.0, "samples/s")
        ours = item.ours_per_accelerator
        rows.append(
            (
                item.published.scenario,
                None if ours is None else ours * scale,
                item.published.per_accelerator * scale,
                unit,
                item.ratio,
                "lower" if item.published.is_latency else "higher",
                f"{item.published.submitter} {item.published.system}",
                item.published.round,
            )
        )
    headings = ("scenario", "ours", "published", "unit", "ours / published", "better", "published system", "round")
    said: dict[str, list[str]] = {}
    for item in comparisons:
        for line in (item.choice, *item.differs):
            said.setdefault(line, []).append(item.published.scenario)
    notes = [
        f"- {line}" if len(where) == len(comparisons) else f"- {', '.join(where)}: {line}"
        for line, where in said.items()
    ]
    return Table(headings, rows, "Against the nearest published result, per accelerator", notes)


def load(path: Path) -> tuple[PublishedResult, ...]:
    """Read the official figures of a published_results.csv.

    Raises:
        DataError: the file is missing or lacks a column, or a number in it is none.
    """
    if not path.is_file():
        raise DataError(f"There is no {path}.", f"Give the path of {FILE_NAME} from nvkit's parameters folder.")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = []
        for number, row in enumerate(csv.DictReader(stream), start=2):
            try:
                if row["is_official_metric"] == "1":
                    rows.append(_result(row))
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number}: {type(error).__name__} {error}.",
                    f"Restore {FILE_NAME} from the repository.",
                ) from error
    return tuple(rows)


def nearest(
    rows: Sequence[PublishedResult],
    benchmark: str,
    scenario: str,
    round: str,
    accelerator: str | None = None,
    *,
    ours: Metric | None = None,
    accelerators: int = 0,
    framework: str = "",
    loadgen_version: str = "",
    notes: Sequence[str] = (),
) -> Comparison | None:
    """Find the published system nearest to a result and compare.

    Of the same benchmark and scenario it prefers, in this order: the same accelerator, the same or else the nearest
    round, fewer accelerators, NVIDIA's own submission. Without an accelerator, or with one that was never
    published, it takes the smallest (slowest) system that NVIDIA submitted.

    Args:
        rows: Published results.
        benchmark: Folder name in a submission, e.g. "resnet50" or "bert-99".
        scenario: LoadGen's name.
        round: E.g. "v4.1".
        accelerator: Name as the driver gives it, or None on a machine without one.
        ours: Our figure of the whole system.
        accelerators: How many accelerators ours used.
        framework: What ran our model, e.g. "ONNX Runtime 1.23".
        loadgen_version: Ours.
        notes: Further differences, e.g. "synthetic weights".

    Returns:
        The comparison, or None if nothing was published for this benchmark and scenario.
    """
    same = [row for row in rows if (row.benchmark, row.scenario) == (benchmark, scenario)]
    closed = [row for row in same if row.division == "closed"] or same
    if not closed:
        return None
    wanted = _tokens(accelerator or "")
    alike = [row for row in closed if _model(wanted) and _model(wanted) == _model(_tokens(row.accelerator))]
    if alike:
        best = min(alike, key=lambda row: (_distance(wanted, row.accelerator), _preference(row, round)))
        choice = "the nearest published system with the same accelerator"
    else:
        own = [row for row in closed if row.submitter == "NVIDIA" and not _is_variant(row)] or closed
        sign = 1.0 if own[0].is_latency else -1.0
        best = min(own, key=lambda row: (-sign * row.value, _preference(row, round)))
        why = f"no result was published for {accelerator}" if accelerator else "this machine has no accelerator"
        choice = f"the smallest system published by NVIDIA, since {why}"
    differs = _differences(best, round, accelerator, accelerators, framework, loadgen_version)
    if ours and ours.percentile and ours.percentile != (official := _OFFICIAL_PERCENTILE[scenario]):
        differs.append(f"percentile: ours p{100 * ours.percentile:g}, published p{100 * official:g}")
    return Comparison(best, ours, accelerators, choice, (*differs, *notes))


def _result(row: dict[str, str]) -> PublishedResult:
    return PublishedResult(
        round=row["round"],
        division=row["division"],
        submitter=row["submitter"],
        system=row["system_id"],
        accelerator=row["accelerator"],
        accelerator_count=int(row["accelerator_count"]),
        framework=row["framework"],
        benchmark=row["model"],
        scenario=row["scenario"],
        metric=row["metric_name"],
        value=float(row["value"]),
        loadgen_version=row["loadgen_version"],
    )


def _preference(row: PublishedResult, round: str) -> tuple[object, ...]:
    distance = abs(_rounds(row.round) - _rounds(round))
    inferred = "inferred" in row.metric
    best = row.value if row.is_latency else -row.value
    return (_is_variant(row), distance, row.accelerator_count, inferred, row.submitter != "NVIDIA", best, row.system)


def _is_variant(row: PublishedResult) -> bool:
    """Whether a system is a special form of another: less power, behind Triton, a slice of a GPU."""
    return bool(re.search(r"maxq|triton|mig", row.system.lower()))


def _rounds(round: str) -> float:
    """Number the rounds in order of time: each version had two, so v3.0 directly follows v2.1."""
    major, minor = round_number(round)
    return 2 * major + minor


def _tokens(accelerator: str) -> list[str]:
    words = re.findall(r"[a-z0-9]+", accelerator.lower())
    return [_ALIASES.get(word, word) for word in words if word not in _MAKERS]


def _model(tokens: Sequence[str]) -> str:
    return next((token for token in tokens if _MODEL.fullmatch(token)), "")


def _distance(wanted: Sequence[str], accelerator: str) -> int:
    have = set(_tokens(accelerator))
    return 2 * len(set(wanted) - have) + len(have - set(wanted)) + 10 * ("mig" in have and "mig" not in wanted)


def _differences(
    best: PublishedResult, round: str, accelerator: str | None, accelerators: int, framework: str, loadgen_version: str
) -> list[str]:
    pairs = [
        ("accelerator", accelerator or "none", best.accelerator),
        ("accelerators", str(accelerators), str(best.accelerator_count)),
        ("framework", framework, best.framework),
        ("LoadGen", loadgen_version.split(" @")[0], best.loadgen_version.split(" @")[0]),
        ("round", round, best.round),
    ]
    lines = [
        f"{name}: ours {mine}, published {theirs}"
        for name, mine, theirs in pairs
        if mine and _tokens(mine) != _tokens(theirs)
    ]
    if best.scenario == "Server" and (round_number(round) >= (4, 1)) != (best.metric == "completed_server_qps"):
        which = "completed" if round_number(round) >= (4, 1) else "scheduled"
        lines.append(f"{which} samples count in round {round}, but not in {best.round}")
    if "inferred" in best.metric:
        lines.append("the published figure was inferred from SingleStream, as the rules allow")
    return lines

"""MLCommons' own accuracy script on the accuracy logs of a run; its output becomes their accuracy.txt.

nvkit's score stands beside it, and the two must agree in every digit that the script prints.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Accuracy, ReferenceScored, benchmark
from nvkit.config import RunConfig
from nvkit.errors import ConfigError, ExecutionError, InvalidResultError
from nvkit.record.mlcommons import Checkout
from nvkit.results.raw_log import ACCURACY_FILE, read_accuracy
from nvkit.runs import RunFolder, StageResult
from nvkit.stages import preprocess, setup
from nvkit.stages import run as run_stage
from nvkit.store import file_digest, write_text
from nvkit.tables import Table


class ReferenceAccuracyResult(StageResult):
    """The score of each accuracy log, twice.

    Attributes:
        script: Path of the script in mlcommons/inference.
        digest: SHA-256 of the script.
        reference: Scenario to the line that the script printed.
        ours: Scenario to nvkit's line.
    """

    script: str
    digest: str
    reference: dict[str, str]
    ours: dict[str, str]

    def tables(self) -> list[Any]:
        """Return a row for each accuracy log."""
        rows = [[name, line, self.ours[name], "agree"] for name, line in self.reference.items()]
        source = f"{self.script}, SHA-256 {self.digest[:16]}"
        return [Table(["scenario", "MLCommons' script", "nvkit", ""], rows, "Accuracy", [source, *self.notes])]


def reference_accuracy(
    config: RunConfig, run: RunFolder, inference: Path, *, fresh: bool = False
) -> ReferenceAccuracyResult:
    """Score the accuracy logs of a run with MLCommons' script, and leave its output as their accuracy.txt.

    Args:
        config: The configuration.
        run: Its folder; to be sealed after this, not before.
        inference: Checkout of mlcommons/inference.
        fresh: Score again.

    Raises:
        ConfigError: the run has no accuracy test, nvkit does not know the benchmark's script, or the checkout lacks it.
        MissingPackageError: the script needs a package that is not installed.
        ExecutionError: the script printed no score.
        InvalidResultError: the two scores differ.
    """
    bench, checkout = benchmark(config.package), Checkout(inference)
    if not isinstance(bench, ReferenceScored):
        raise ConfigError(
            f"nvkit does not know how MLCommons scores {config.benchmark}.", "Leave the checkout out: nvkit scores it."
        )
    results = run_stage(config, run)
    folders = {t.summary.scenario: run.path / t.logs for t in results.tests if t.summary.accuracy}
    if not folders:
        raise ConfigError("The run has no accuracy test.", "Run with --mode both.")
    data = bench.without(setup(config, run).data, preprocess(config, run).samples.skipped)

    def work() -> ReferenceAccuracyResult:
        reference, ours, script = {}, {}, ""
        for scenario, folder in folders.items():
            score = bench.score(read_accuracy(folder), data)
            with checkout.desk() as desk:
                script, arguments = bench.reference_command(folder / ACCURACY_FILE, data, desk)
                said = checkout.run(desk, checkout.find(script), arguments)
            reference[scenario], ours[scenario] = _agreeing(scenario, script, said.output, score), score.line
            write_text(folder / "accuracy.txt", said.output)
        return ReferenceAccuracyResult(
            script=script,
            digest=file_digest(checkout.path / script),
            reference=reference,
            ours=ours,
            notes=results.notes,
        )

    key = {"run": results.key, "finished": results.finished, "checkout": str(checkout.path)}
    return run.stage(ReferenceAccuracyResult, "reference-accuracy", key, work, fresh=fresh)


def _agreeing(scenario: str, script: str, output: str, score: Accuracy) -> str:
    """Return the line of the script's output that holds the score."""
    lines = [line for line in output.splitlines() if line.strip()]
    if score.line in lines:
        return score.line
    kind = _kind(score.line)
    found = next((line for line in lines if _kind(line) == kind), None)
    if found is None:
        last = lines[-1] if lines else "nothing"
        raise ExecutionError(f"{script} printed no score of {scenario}: {last}", "Run it by hand to see why.")
    raise InvalidResultError(
        f"{scenario}: MLCommons' script says {found!r}, nvkit says {score.line!r}.",
        "Is the data folder the one that the log was made with? Otherwise this is a defect of nvkit: report it.",
    )


def _kind(line: str) -> str:
    """Return what a score's line is of: the words before its first figure, "accuracy=" or '{"exact_match": '."""
    return re.split(r"[-\d]", line, maxsplit=1)[0].strip()

"""Compliance tests: the run with audit settings, and its verification, into the run folder.

    compliance/<scenario>/<TEST>/   LoadGen's logs, audit.config, user.conf, verify_*.txt

They compare with the performance and the accuracy test of the same run, and are sized by the same expected rate.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Benchmark, ReferenceScored, benchmark
from nvkit.config import RunConfig
from nvkit.errors import ConfigError
from nvkit.harness import TestSpec, refuse_audit_config, run_test, set_aside
from nvkit.power import applied, plan
from nvkit.record.compliance_checks import Check, verify_accuracy, verify_performance
from nvkit.record.compliance_rules import audit_config, changed_seeds, chosen_tests
from nvkit.record.mlcommons import Checkout
from nvkit.results.loadgen_log import read_detail
from nvkit.results.raw_log import read_accuracy, read_responses
from nvkit.results.summary import TestSummary, departures_tables, summarise
from nvkit.results.user_conf import user_conf
from nvkit.runs import RunFolder, StageResult
from nvkit.stages import build, preprocess, setup
from nvkit.stages import run as run_stage
from nvkit.stages.build import BuildResult
from nvkit.stages.preprocess import PreprocessResult
from nvkit.stages.run import TestResult
from nvkit.store import file_digest, write_text
from nvkit.tables import Table
from nvkit.tuning.targets import typed

PERFORMANCE, ACCURACY = "verify_performance.txt", "verify_accuracy.txt"


class ComplianceTest(StageResult):
    """One compliance test of one scenario.

    Attributes:
        test: TEST01, TEST04 or TEST05.
        summary: What its logs say.
        logs: Their folder, relative to the run folder.
    """

    test: str
    summary: TestSummary
    logs: str


class Verification(StageResult):
    """The verification of one compliance test.

    Attributes:
        scenario: LoadGen's name.
        test: TEST01, TEST04 or TEST05.
        performance: Whether the score agrees with that of the performance test.
        accuracy: The same of the responses, in TEST01; None in other tests.
        why: What was found, one sentence for each check.
        verified_by: "nvkit", or "MLCommons' script", beside which nvkit's own verdict is the same.
        logs: Folder of the logs and the verify_*.txt, relative to the run folder.
    """

    scenario: str
    test: str
    performance: bool
    accuracy: bool | None
    why: tuple[str, ...]
    verified_by: str
    logs: str

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return self.performance and self.accuracy is not False


class ComplianceResult(StageResult):
    """All compliance tests of a run.

    Attributes:
        verifications: In the order of scenarios, then of tests.
        tests: The tests themselves, in the same order.
    """

    verifications: tuple[Verification, ...]
    tests: tuple[ComplianceTest, ...]

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return all(verification.passed for verification in self.verifications)

    def tables(self) -> list[Any]:
        """Return a row for each test, then what departs from the round's rules."""
        words = {True: "PASS", False: "FAIL", None: ""}
        rows = [
            [v.scenario, v.test, words[v.performance], words[v.accuracy], v.verified_by, "; ".join(v.why)]
            for v in self.verifications
        ]
        headings = ["scenario", "test", "performance", "accuracy", "verified by", "what was found"]
        problems = [
            f"{test.summary.scenario} {test.test}: {reason}"
            for test in self.tests
            for reason in test.summary.verdict.reasons
        ]
        table = Table(headings, rows, "Compliance tests", [*self.notes, *problems])
        return [table, *departures_tables([replace(test.summary, mode=test.test) for test in self.tests])]


def comply(
    config: RunConfig, run: RunFolder, tests: str = "", inference: Path | None = None, *, fresh: bool = False
) -> ComplianceResult:
    """Run the compliance tests that are not finished yet (all with `fresh`), and verify them.

    The performance and accuracy tests that they are compared with are run first where they are missing.

    Args:
        config: The configuration.
        run: Its folder; to be sealed after this, not before.
        tests: Some of TEST01, TEST04, TEST05, separated by commas; all that the round asks for if empty.
        inference: Checkout of mlcommons/inference, whose scripts then verify; nvkit's own logic if None.
        fresh: Run tests again that are finished.

    Raises:
        ConfigError: a test that the round does not ask for, or a run without performance and accuracy tests.
        HarnessError: a test failed or was killed.
        InvalidResultError: MLCommons' script and nvkit come to different verdicts.
    """
    if config.implementation != "nvkit":
        raise ConfigError(
            "NVIDIA's code runs its compliance tests itself.",
            "Use nvkit run --implementation nvidia-original --run-mode run_harness --audit TEST01.",
        )
    if config.mode != "both":
        raise ConfigError(
            f"Compliance tests compare with a performance and an accuracy test; this run's mode is {config.mode}.",
            "Run with --mode both.",
        )
    chosen = chosen_tests(config, tests)
    checkout = Checkout(inference) if inference else None
    refuse_audit_config(Path.cwd())
    before = run_stage(config, run)
    performance = {t.summary.scenario: t for t in before.tests if t.summary.metric}
    done, verified = [], []
    for scenario in config.scenarios:
        for test in chosen:
            result = _one_test(config, run, performance[scenario], test, fresh=fresh)
            done.append(result)
            verified.append(_verified(config, run, result, checkout))
    key = {"tests": [test.key for test in done], "finished": [v.finished for v in verified]}
    return run.stage(
        ComplianceResult,
        "compliance",
        key,
        lambda: ComplianceResult(verifications=tuple(verified), tests=tuple(done), notes=before.notes),
    )


def _one_test(config: RunConfig, run: RunFolder, reference: TestResult, test: str, *, fresh: bool) -> ComplianceTest:
    scenario = reference.summary.scenario
    engines: BuildResult = build(config, run)
    samples: PreprocessResult = preprocess(config, run)
    logs = f"compliance/{scenario}/{test}"
    folder = run.path / logs

    def work() -> ComplianceTest:
        audit = audit_config(test, config.benchmark, scenario)
        expected = {name: typed(name, known.value) for name, known in reference.expectations.items()}
        seeds = changed_seeds(test, config.scenarios[scenario])
        settings = config.scenarios[scenario].model_copy(update={**expected, **seeds})
        engine = engines.engines[scenario].path
        spec = TestSpec(config.package, scenario, "performance", settings, engine, samples.samples, audit)
        set_aside(folder)
        with applied(plan(config, scenario), apply=settings.apply_power, outputs=run.store.root.parent):
            run_test(spec, folder)
        conf = user_conf(config, scenario, settings, samples=samples.samples.count)
        write_text(folder / "user.conf", conf)
        rules = {**config.official[scenario], **seeds}
        summary = summarise(folder, config.round, engines.notes, rules=rules, audit=bool(audit))
        return ComplianceTest(test=test, summary=summary, logs=logs, notes=engines.notes)

    key = {"build": engines.key, "scenario": scenario, "test": test, "reference": reference.finished}
    result = run.stage(ComplianceTest, f"compliance-{scenario}-{test}", key, work, fresh=fresh)
    print(result.headline(), flush=True)
    return result


def _verified(config: RunConfig, run: RunFolder, result: ComplianceTest, checkout: Checkout | None) -> Verification:
    scenario, test = result.summary.scenario, result.test
    script = checkout and checkout.find(
        f"compliance/nvidia/{test}/run_verification.py", f"compliance/{test}/run_verification.py"
    )
    by = {"script": file_digest(checkout.path / script) if checkout and script else None, "test": result.finished}

    def work() -> Verification:
        bench = benchmark(config.package)
        folder, tests = run.path / result.logs, run.path / "loadgen" / scenario
        dtype = bench.response_dtype if isinstance(bench, ReferenceScored) else "byte"
        checks = {PERFORMANCE: verify_performance(test, read_detail(tests / "performance"), read_detail(folder))}
        if test == "TEST01":
            found = verify_accuracy(read_accuracy(tests / "accuracy"), read_responses(folder), dtype)
            checks[ACCURACY] = found
        if checkout and script:
            from nvkit.record.compliance_scripts import by_script

            checks = by_script(checkout, script, test, tests, folder, dtype, checks)
        for name, check in checks.items():
            write_text(folder / name, check.text)
        if ACCURACY in checks and not checks[ACCURACY].passed:
            checks[ACCURACY] = _same_score(config, run, bench, tests / "accuracy", folder)
        return Verification(
            scenario=scenario,
            test=test,
            performance=checks[PERFORMANCE].passed,
            accuracy=checks[ACCURACY].passed if ACCURACY in checks else None,
            why=tuple(check.why for check in checks.values()),
            verified_by="MLCommons' script" if checkout else "nvkit",
            logs=result.logs,
            notes=result.notes,
        )

    return run.stage(Verification, f"compliance-{scenario}-{test}-verified", by, work)


def _same_score(config: RunConfig, run: RunFolder, bench: Benchmark, reference: Path, folder: Path) -> Check:
    """Compare scores where responses differ, which the rules allow to what does not compute deterministically.

    The sampled responses and those of the accuracy run to the same samples are scored; the scores may differ by 1 %,
    or 0.1 % for the 99.9 % benchmarks. Both are left where the submission checker looks for them.
    """
    data = bench.without(setup(config, run).data, preprocess(config, run).samples.skipped)
    sampled, known = read_accuracy(folder), read_accuracy(reference)
    ours = bench.score(sampled, data, part=True)
    baseline = bench.score({index: known[index] for index in sampled if index in known}, data, part=True)
    write_text(folder / "compliance_accuracy.txt", ours.line + "\n")
    write_text(folder / "baseline_accuracy.txt", baseline.line + "\n")
    allowed = 0.001 if config.benchmark.endswith("-99.9") else 0.01
    change = abs(1 - baseline.value / ours.value) if ours.value else float("inf")
    why = f"responses differ; {ours.metric} {ours.value:.6g} beside {baseline.value:.6g} on the sampled ones"
    return Check(change <= allowed, "", why)

"""A `RunConfig` to NVIDIA's make lines, one for each scenario and LoadGen test.

Facts: closed/NVIDIA/Makefile and Makefile.* of v2.1, v3.0, v3.1, v4.0, v4.1 and v5.0; the order of RUN_ARGS is that of
the CM script (app-mlperf-inference-nvidia).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nvkit.config import RunConfig
from nvkit.errors import ConfigError, nearest
from nvkit.interop.nvidia.checkout import Checkout
from nvkit.interop.nvidia.options import run_args
from nvkit.store import digest_of

RUN_MODES = ("prebuild", "build", "download_model", "preprocess_data", "calibrate", "build_engine", "run_harness")
"""Run modes of the CM script, in the order in which a first run needs them."""

_TEST_MODES = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly", "submission": "SubmissionRun"}
_SCRATCH = {
    "resnet50": ("data/imagenet", "models/ResNet50/resnet50_v1.onnx"),
    "retinanet": ("data/open-images-v6-mlperf", None),
    "bert": ("data/squad", "models/bert/bert_large_v1_1.onnx"),
    "3d-unet": ("data/KiTS19", "models/3d-unet-kits19/3dUNetKiTS19.onnx"),
    "rnnt": ("data/LibriSpeech", None),
    "dlrm": ("data/criteo", None),
}
"""Benchmark to where its raw data set and its ONNX file stand in the scratch folder; None: NVIDIA has other weights."""


@dataclass(frozen=True)
class Command:
    """One line for bash.

    Attributes:
        line: The line; make is quoted into the container's command if there is one.
        cwd: Folder to run it in.
        env: Variables to add to the environment.
        scenario: Scenario that it is for, if for one.
        mode: LoadGen test: performance, accuracy, submission, or the name of an audit test.
        log_dir: Folder of this machine below which NVIDIA's code puts the LoadGen logs
            (<system>/<benchmark>/<scenario>/); an audit's folder is shared and may hold older ones.
        what: The command in words.
    """

    line: str
    cwd: Path
    env: Mapping[str, str]
    scenario: str | None
    mode: str | None
    log_dir: Path | None
    what: str


def commands(
    config: RunConfig, run_mode: str, checkout: Checkout, *, logs: Path | None = None, audit: str | None = None
) -> list[Command]:
    """Return the commands of a run mode, in the order to run them.

    Args:
        config: Resolved with `implementation="nvidia-original"`.
        run_mode: One of RUN_MODES.
        checkout: NVIDIA's code of the config's round.
        logs: Folder for LoadGen's logs; build/logs/nvkit in the checkout by default. A container sees only the
            checkout, so with `nvidia_command` a folder outside is replaced by one inside: `Command.log_dir` says which.
        audit: With run_harness: name of the compliance test to run instead, e.g. "TEST01".

    Raises:
        ConfigError: unknown run mode, test, make target or option (the nearest is named), or no scratch folder.
    """
    if run_mode not in RUN_MODES:
        raise ConfigError(f"There is no run mode '{run_mode}'.", nearest(run_mode, RUN_MODES))
    if audit and run_mode != "run_harness":
        raise ConfigError(f"{audit} belongs to run_harness, not to {run_mode}.", "Leave it out.")
    return list(_Maker(config, checkout, logs).make(run_mode, audit))


@dataclass(frozen=True)
class _Maker:
    config: RunConfig
    checkout: Checkout
    logs: Path | None

    def make(self, run_mode: str, audit: str | None) -> Iterator[Command]:
        checkout, config = self.checkout, self.config
        benchmark = checkout.benchmark(config.benchmark)
        if run_mode == "prebuild":
            # Detached: the target ends by opening a terminal in the container, which only a person can use.
            yield self._command("prebuild", ["DOCKER_DETACH=1"], on_host=True)
        elif run_mode == "build":
            yield self._command("build", [])
        elif run_mode == "download_model":
            yield from self._linked(benchmark, 1)
            yield self._script("download_model", benchmark, "download_model.sh")
        elif run_mode == "preprocess_data":
            yield from self._linked(benchmark, 0)
            if config.shared.data_dir is None and self._file(benchmark, "download_data.sh").is_file():
                yield self._script("download_data", benchmark, "download_data.sh")
            yield self._script("preprocess_data", benchmark, "preprocess_data.py")
        elif run_mode == "run_harness":
            yield from self._harness(audit)
        else:
            target = {"calibrate": "calibrate", "build_engine": "generate_engines"}[run_mode]
            # One calibration cache serves every scenario of a benchmark.
            scenarios = list(config.scenarios)[: 1 if run_mode == "calibrate" else None]
            for scenario in scenarios:
                yield self._command(target, [_run_args(run_args(config, scenario, checkout))], scenario=scenario)

    def _harness(self, audit: str | None) -> Iterator[Command]:
        config, checkout = self.config, self.checkout
        for scenario, settings in config.scenarios.items():
            if audit:
                args = run_args(config, scenario, checkout, running=True, audit=True)
                folder = checkout.root / "build/compliance_logs" / audit.upper()
                target = self._audit_target(audit)
                yield self._command(target, [_run_args(args)], scenario=scenario, mode=audit.upper(), log_dir=folder)
                continue
            for mode in ("performance", "accuracy") if config.mode == "both" else (config.mode,):
                folder = self._log_dir(scenario, mode)
                seen = folder.relative_to(checkout.root) if folder.is_relative_to(checkout.root) else folder
                args = run_args(
                    config, scenario, checkout, running=True, test_mode=_TEST_MODES[mode], log_dir=str(seen)
                )
                target = settings.make_target or "run_harness"
                yield self._command(target, [_run_args(args)], scenario=scenario, mode=mode, log_dir=folder)

    def _audit_target(self, audit: str) -> str:
        name = f"run_audit_{audit.lower()}"
        tests = {t.removeprefix("run_audit_") for t in self.checkout.targets if t.startswith("run_audit_test")}
        if audit.lower() not in tests:
            known = [test.upper() for test in tests if "_" not in test]
            raise ConfigError(
                f"NVIDIA's code of {self.checkout.round} has no audit {audit}.", nearest(audit.upper(), known)
            )
        # Without "_once" the target repeats a failed test up to three times.
        return f"{name}_once" if f"{name}_once" in self.checkout.targets else name

    def _script(self, target: str, benchmark: str, needs: str) -> Command:
        if not self._file(benchmark, needs).is_file():
            raise ConfigError(
                f"NVIDIA's code of {self.checkout.round} has no {needs} for {benchmark}.",
                f"Follow code/{benchmark}/tensorrt/README.md of the checkout by hand.",
            )
        return self._command(target, [f"BENCHMARKS={shlex.quote(benchmark)}"])

    def _file(self, benchmark: str, name: str) -> Path:
        return self.checkout.root / "code" / benchmark / "tensorrt" / name

    def _linked(self, benchmark: str, which: int) -> Iterator[Command]:
        """Yield the command that puts the user's data set (0) or model (1) where NVIDIA's code looks for it."""
        setting = ("data_dir", "model_path")[which]
        source = getattr(self.config.shared, setting)
        if source is None:
            return
        place = _SCRATCH.get(benchmark, (None, None))[which]
        if place is None:
            raise ConfigError(
                f"{setting} has no effect here: NVIDIA's code of {benchmark} does not read it as it is.",
                f"Follow code/{benchmark}/tensorrt/README.md of the checkout by hand.",
            )
        scratch = self.config.shared.nvidia_scratch
        if scratch is None:
            raise _no_scratch(setting)
        target = scratch.expanduser().absolute() / place
        line = f"mkdir -p {_quote(target.parent)} && ln -sfT {_quote(source.expanduser().absolute())} {_quote(target)}"
        yield Command(line, self.checkout.root, {}, None, None, None, f"the link to {setting} in the scratch folder")

    def _log_dir(self, scenario: str, mode: str) -> Path:
        root = self.checkout.root
        logs = self.logs.expanduser().absolute() if self.logs else root / "build/logs/nvkit"
        if self.config.shared.nvidia_command and not logs.is_relative_to(root):
            logs = root / "build/logs" / f"nvkit-{digest_of(str(logs))[:12]}"
        return logs / scenario / mode

    def _command(
        self,
        target: str,
        arguments: list[str],
        *,
        scenario: str | None = None,
        mode: str | None = None,
        log_dir: Path | None = None,
        on_host: bool = False,
    ) -> Command:
        settings = self.config.scenarios[scenario] if scenario else self.config.shared
        line = " ".join(["make", self.checkout.require(target), *arguments])
        env = {}
        container = None if on_host else settings.nvidia_command
        if settings.nvidia_scratch is not None:
            env["MLPERF_SCRATCH_PATH"] = str(settings.nvidia_scratch.expanduser().absolute())
        elif not container:
            raise _no_scratch(f"make {target}")
        if container:
            if "{}" not in container:
                raise ConfigError(
                    f"nvidia_command = {container!r} has no {{}} for the line to run.",
                    "Give it as in: docker exec mlperf bash -c {}",
                )
            inside = " ".join([*(f"{name}={_quote(value)}" for name, value in env.items()), line])
            line = container.replace("{}", shlex.quote(inside))
        what = f"make {target} of {self.config.benchmark}" + "".join(f" {part}" for part in (scenario, mode) if part)
        return Command(line, self.checkout.root, env, scenario, mode, log_dir, what)


def _run_args(args: list[str]) -> str:
    # make expands $ in a variable given on its command line, so it is doubled.
    return f"RUN_ARGS={shlex.quote(' '.join(args).replace('$', '$$'))}"


def _quote(path: Path | str) -> str:
    return shlex.quote(str(path))


def _no_scratch(what: str) -> ConfigError:
    return ConfigError(
        f"{what} needs NVIDIA's scratch folder (models, data, preprocessed data), and nvidia_scratch is not set.",
        "Give --nvidia-scratch FOLDER; NVIDIA advises 3 TB for everything, ResNet-50 alone needs about 100 GB.",
    )

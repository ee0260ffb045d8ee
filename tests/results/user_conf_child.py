"""Runs a LoadGen test whose settings come from a user.conf alone, as an official harness reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import mlperf_loadgen as lg


def main(folder: Path, scenario: str, mode: str, samples: int) -> None:
    """Read <folder>/user.conf over LoadGen's own mlperf.conf and leave LoadGen's logs in <folder>."""
    settings = lg.TestSettings()
    settings.FromConfig(str(folder / "user.conf"), "resnet50", scenario)
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = getattr(lg.TestMode, mode)

    def issue(ids: list[int], indices: list[int]) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(i, 0, 0) for i in ids])

    sut = lg.ConstructFastSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    log = lg.LogSettings()
    log.log_output = output
    log.enable_trace = False
    lg.StartTestWithLogSettings(sut, qsl, settings, log, str(folder / "none"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))

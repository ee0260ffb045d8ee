"""Runs one short LoadGen test with the trace on: loadgen_child.py FOLDER SCENARIO MODE [setting=number ...]."""

from __future__ import annotations

import random
import sys
import time
from array import array
from collections.abc import Sequence

import mlperf_loadgen as lg


def main(folder: str, scenario: str, mode: str, *changes: str) -> None:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = getattr(lg.TestMode, mode)
    settings.min_duration_ms, settings.min_query_count = 300, 10
    settings.server_target_qps = settings.offline_expected_qps = 3000
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = 100_000
    settings.server_target_latency_ns = 1_000_000_000
    audit = "/nonexistent/audit.config"
    for change in changes:
        name, value = change.split("=")
        if name == "audit":
            audit = value
        else:
            setattr(settings, name, int(value))
    chance = random.Random(5)
    payloads = []

    def issue(ids: Sequence[int], indices: Sequence[int]) -> None:
        size = 32 if scenario == "Offline" else 1
        for start in range(0, len(ids), size):
            time.sleep(chance.lognormvariate(-9.0, 0.6))
            responses = []
            for sample, index in zip(ids[start : start + size], indices[start : start + size], strict=True):
                payloads.append(array("i", [index]))
                address, count = payloads[-1].buffer_info()
                responses.append(lg.QuerySampleResponse(sample, address, 4 * count))
            lg.QuerySamplesComplete(responses)

    log_settings = lg.LogSettings()
    log_settings.enable_trace = True
    output = lg.LogOutputSettings()
    output.outdir = folder
    log_settings.log_output = output
    sut = lg.ConstructFastSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(100, 10, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, qsl, settings, log_settings, audit)


if __name__ == "__main__":
    main(*sys.argv[1:])

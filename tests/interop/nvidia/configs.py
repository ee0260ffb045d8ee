"""A GPU profile of these tests' own, so that no figure of parameters/ decides them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from interop.nvidia.releases import make_release

from nvkit.config import RunConfig, parameters_folder, resolve
from nvkit.interop.nvidia import Checkout, open_checkout

PROFILE = """\
name: test_gpu
title: A GPU for tests
source: the tests
device: {kind: gpu, names: [GeForce RTX 4090], pci_ids: ["10de:2684"], compute_capability: "8.9", memory_gb: 24,
         precisions: [fp16, int8]}
defaults: {backend: tensorrt}
benchmarks:
  resnet50:
    scenarios:
      Offline: {batch_size: 64, gpu_copy_streams: 2, use_graphs: true, offline_expected_qps: 40000,
                start_from_device: true}
      Server: {batch_size: 32, server_target_qps: 30000.5, use_deque_limit: true, deque_timeout_usec: 2000,
               server_num_issue_query_threads: 2}
      SingleStream: {single_stream_expected_latency_ns: 300000, use_graphs: false}
      MultiStream: {batch_size: 8, multi_stream_expected_latency_ns: 800000}
  bert-99.9:
    scenarios:
      Offline: {batch_size: 16, offline_expected_qps: 400, use_fp8: true}
      Server: {batch_size: 16, server_target_qps: 300, soft_drop: 1.0, graphs_max_seqlen: 200}
  rnnt:
    scenarios:
      Offline: {batch_size: 512, offline_expected_qps: 3900, audio_batch_size: 64}
power:
  MaxQ: {defaults: {power_limit: 250}}
"""


def configure(
    folder: Path,
    round: str,
    benchmark: str = "resnet50",
    scenario: str = "all",
    *,
    mode: str = "both",
    power: str = "MaxP",
    quick: bool = False,
    **given: Any,
) -> RunConfig:
    """Resolve a benchmark on the test profile for NVIDIA's code; keyword arguments are the user's values."""
    parameters = folder / "parameters"
    shutil.copytree(parameters_folder(), parameters, dirs_exist_ok=True)
    (parameters / "gpus" / "test_gpu.yaml").write_text(PROFILE, encoding="utf-8")
    values = {key: value for key, value in {"nvidia_scratch": "/scratch", **given}.items() if value is not None}
    return resolve(
        "test_gpu",
        benchmark,
        scenario,
        mode=mode,
        power=power,
        quick=quick,
        round=round,
        implementation="nvidia-original",
        overrides=values,
        parameters=parameters,
    )


def opened(folder: Path, round: str) -> Checkout:
    """Make and open a stand-in checkout of a round."""
    return open_checkout(make_release(folder, round), round)

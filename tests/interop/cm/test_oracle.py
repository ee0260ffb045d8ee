"""The values of the CM script against an implementation that knows nothing of nvkit's."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import nvkit.interop.cm
from nvkit.config import RoundFile, load, resolve
from nvkit.config.settings import not_applicable
from nvkit.errors import ConfigError
from nvkit.interop.cm import data, translate
from nvkit.interop.cm.parse import parse
from nvkit.interop.cm.select import select

SCRIPT = "reproduce,mlperf,inference,nvidia,harness"
MODELS = (
    *("resnet50", "retinanet", "bert-99", "bert-99.9", "3d-unet-99", "3d-unet-99.9", "rnnt"),
    *("dlrm-v2-99", "dlrm-v2-99.9"),
)
SCENARIOS = ("offline", "server", "singlestream", "multistream")
GPUS = (
    "",
    *(f"gpu_memory.{size}" for size in (8, 16, 24, 32, 40, 48, 80)),
    *("a100,sxm", "a100,pcie", "l4", "t4", "rtx_4090", "rtx_6000_ada", "rtx_a6000", "a6000", "orin", "custom"),
)
PROFILES = {"": "auto", "a100,sxm": "a100_sxm", "a100,pcie": "a100_pcie", "a6000": "rtx_a6000"}
FAMILIES = {"bert-99": "bert_", "bert-99.9": "bert_", "3d-unet-99": "3d-unet_", "3d-unet-99.9": "3d-unet_"} | {
    "dlrm-v2-99": "dlrm_",
    "dlrm-v2-99.9": "dlrm_",
}
# variable of the harness to nvkit's setting and how its text is read
SETTINGS: dict[str, tuple[str, Any]] = {
    "N_GPU_BATCH_SIZE": ("batch_size", int),
    "N_GPU_COPY_STREAMS": ("gpu_copy_streams", int),
    "N_GPU_INFERENCE_STREAMS": ("gpu_inference_streams", int),
    "N_WORKSPACE_SIZE": ("workspace_size", int),
    "N_USE_GRAPHS": ("use_graphs", "True".__eq__),
    "N_USE_DEQUE_LIMIT": ("use_deque_limit", "True".__eq__),
    "N_DEQUE_TIMEOUT_USEC": ("deque_timeout_usec", int),
    "N_USE_CUDA_THREAD_PER_DEVICE": ("use_cuda_thread_per_device", "True".__eq__),
    "N_GRAPHS_MAX_SEQLEN": ("graphs_max_seqlen", int),
    "N_SOFT_DROP": ("soft_drop", float),
    "N_USE_SMALL_TILE_GEMM_PLUGIN": ("use_small_tile_gemm_plugin", "True".__eq__),
    "N_SERVER_NUM_ISSUE_QUERY_THREADS": ("server_num_issue_query_threads", int),
    "N_AUDIO_BATCH_SIZE": ("audio_batch_size", int),
    "N_AUDIO_BUFFER_NUM_LINES": ("audio_buffer_num_lines", int),
    "N_DISABLE_ENCODER_PLUGIN": ("disable_encoder_plugin", "True".__eq__),
    "N_NUM_WARMUPS": ("num_warmups", int),
    "CM_MLPERF_PERFORMANCE_SAMPLE_COUNT": ("performance_sample_count", int),
    "L_OFFLINE_TARGET_QPS": ("offline_expected_qps", float),
    "L_SERVER_TARGET_QPS": ("server_target_qps", float),
    "L_SINGLESTREAM_TARGET_LATENCY": ("single_stream_expected_latency_ns", lambda ms: int(float(ms) * 1e6)),
    "L_MULTISTREAM_TARGET_LATENCY": ("multi_stream_expected_latency_ns", lambda ms: int(float(ms) * 1e6)),
}
# gpu_batch_size as the script itself resolved it when it was run, by hand from its record; "-" for none
RECORDED = """
offline        resnet50 retinanet bert-99 3d-unet-99 rnnt dlrm-v2-99
-                     -         -       -          -    -          -
gpu_memory.8          -         -       -          -    -          -
gpu_memory.16      1024         2     256          4 1024       1400
gpu_memory.24        64         2     256          8 2048       1400
gpu_memory.32      2048         4     256          8 2048       1400
gpu_memory.40      2048         4     256          8 2048       1400
gpu_memory.48      2048         4    1024          8 2048       1400
gpu_memory.80      2048         8       -          8 2048       1400
a100,sxm           2048        32     256          8 2048       1400
a100,pcie             -         -       -          -    -          -
l4                   32         2      16          1  512       1400
t4                  256         4     256          8 2048       1400
rtx_4090             64         2     256          8 2048       1400
rtx_6000_ada         64         2     256          8  512       1400
rtx_a6000            64         2     256          8 2048       1400
orin                  -         -       -          -    -          -
custom                -         -       -          -    -          -
server         resnet50 retinanet bert-99 3d-unet-99 rnnt dlrm-v2-99
-                    64         8       -          -    -          -
gpu_memory.8         64         8       -          -    -          -
gpu_memory.16        64         8       -          -    -          -
gpu_memory.24        64         8       -          -    -          -
gpu_memory.32        64         8       -          -    -          -
gpu_memory.40        64         8       -          -    -          -
gpu_memory.48        64         8       -          -    -          -
gpu_memory.80        64         8      64          -    -          -
a100,sxm             64         8       -          -    -          -
a100,pcie            64         8       -          -    -          -
l4                   16         2      16          -  512          -
t4                   26         2       4          - 2048          -
rtx_4090             32         2     256          8 2048          -
rtx_6000_ada         32         2     256          8  512          -
rtx_a6000            32         2     256          8  512          -
orin                 64         8       -          -    -          -
custom               64         8       -          -    -          -
"""
# the harness options that the script emitted beside the batch size, likewise
OPTIONS = {
    ("gpu_memory.16", "resnet50", "offline"): "gpu_copy_streams=4",
    ("a100,sxm", "resnet50", "offline"): "performance_sample_count=2048",
    ("a100,sxm", "retinanet", "offline"): "gpu_copy_streams=2 gpu_inference_streams=2 workspace_size=300000000000",
    ("l4", "resnet50", "offline"): "gpu_copy_streams=2 gpu_inference_streams=1 use_graphs=True",
    ("l4", "resnet50", "server"): (
        "gpu_copy_streams=9 gpu_inference_streams=2 use_graphs=True use_deque_limit=True deque_timeout_usec=2000 "
        "use_cuda_thread_per_device=True"
    ),
    ("l4", "retinanet", "server"): (
        "gpu_copy_streams=2 gpu_inference_streams=2 workspace_size=20000000000 use_deque_limit=True "
        "deque_timeout_usec=30000"
    ),
    ("l4", "bert-99", "server"): "graphs_max_seqlen=200 soft_drop=1.0 use_small_tile_gemm_plugin=True",
    ("l4", "rnnt", "server"): "audio_batch_size=64 audio_buffer_num_lines=1024 num_warmups=1024",
    ("t4", "resnet50", "server"): (
        "gpu_copy_streams=4 gpu_inference_streams=2 use_deque_limit=True deque_timeout_usec=2000"
    ),
    ("t4", "retinanet", "server"): (
        "gpu_copy_streams=2 gpu_inference_streams=2 workspace_size=20000000000 use_deque_limit=True "
        "deque_timeout_usec=20000"
    ),
    ("t4", "bert-99", "server"): "graphs_max_seqlen=240",
    ("t4", "rnnt", "offline"): "gpu_copy_streams=4 audio_batch_size=128 disable_encoder_plugin=True use_graphs=True",
    ("orin", "rnnt", "singlestream"): "num_warmups=1",
}


@cache
def seed() -> dict[str, Any]:
    """The data file, read without nvkit."""
    path = Path(nvkit.interop.cm.__file__).with_name("variations.yaml")
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))["v3.x"]  # type: ignore[no-any-return]


def expected(model: str, scenario: str, gpu: str) -> dict[str, str]:
    """What CM would set: simple variations in order, then combined ones in order, then late substitution."""
    named = [tag for tag in (gpu.split(",") if gpu else []) if tag]
    chosen = [*named, model, scenario, *([FAMILIES[model]] if model in FAMILIES else []), "run_harness"]
    present = {*chosen, *(["rtx_a6000"] if gpu == "a6000" else [])}
    env: dict[str, str] = {}
    for name, variation in seed()["variations"].items():
        parts = name.split(",")
        if len(parts) == 1 and name in chosen:
            env |= {key: str(value) for key, value in variation.get("env", {}).items()}
    for name, variation in seed()["variations"].items():
        parts = name.split(",")
        if len(parts) > 1 and set(parts) <= present:
            for key, value in variation.get("default_env", {}).items():
                env.setdefault(key, str(value))
            env |= {key: str(value) for key, value in variation.get("env", {}).items()}
            if "batch" in variation:
                env |= {"CM_MODEL_BATCH_SIZE": str(variation["batch"]), "N_GPU_BATCH_SIZE": "<<<CM_MODEL_BATCH_SIZE>>>"}
    env = {k: re.sub(r"<<<(\w+)>>>", lambda m: env.get(m[1], ""), v) for k, v in env.items()}
    return {key: value for key, value in env.items() if value}


def command(model: str, scenario: str, gpu: str) -> str:
    tags = [*([f"_{tag}" for tag in gpu.split(",")] if gpu else []), f"_{model}", f"_{scenario}"]
    return f"cm run script --tags={SCRIPT},{','.join(tags)}"


def round_of(model: str, scenario: str) -> str | None:
    """The script's own round, else the first later one that has the test."""
    for name in ("v3.0", "v3.1", "v4.0", "v4.1", "v5.0"):
        rules = load(RoundFile, name)[0].benchmarks.get(model)
        if rules and scenario in [allowed.lower() for allowed in rules.allowed]:
            return name
    return None


def seed_settings(model: str, scenario: str, gpu: str) -> dict[str, Any]:
    env = expected(model, scenario, gpu)
    return {name: read(env[key]) for key, (name, read) in SETTINGS.items() if key in env}


@pytest.mark.parametrize("gpu", GPUS)
def test_environment_is_that_of_the_script(gpu: str) -> None:
    for model, scenario in product(MODELS, SCENARIOS):
        found = select(parse([command(model, scenario, gpu)])).env
        short = {data.expanded(key): value for key, value in expected(model, scenario, gpu).items()}
        assert {key: found.get(key) for key in short} == short, (model, scenario)
        batch = data.expanded("N_GPU_BATCH_SIZE")
        assert (batch in found) == (batch in short), (model, scenario)


@pytest.mark.parametrize("gpu", GPUS)
def test_the_printed_command_resolves_to_the_values_of_the_script(gpu: str) -> None:
    compared = 0
    for model, scenario in product(MODELS, SCENARIOS):
        round = round_of(model, scenario)
        if not round:
            with pytest.raises(ConfigError, match="No round has"):
                translate([command(model, scenario, gpu)])
            continue
        found = translate([command(model, scenario, gpu)])
        assert found.names["round"] == round
        assert found.names["profile"] == PROFILES.get(gpu, gpu.replace(".", "_"))
        profile = "custom" if found.names["profile"] == "auto" else found.names["profile"]
        config = resolve(**{**found.names, "profile": profile}, overrides=found.overrides)  # type: ignore[arg-type]
        ((name, settings),) = config.scenarios.items()
        for key, value in seed_settings(model, scenario, gpu).items():
            if not not_applicable(key, settings.backend, model, name, "nvkit"):
                assert getattr(settings, key) == value, (model, scenario, key)
                compared += 1
        plain = resolve(**{**found.names, "profile": profile}).scenarios[name]  # type: ignore[arg-type]
        if found.names["profile"] != "auto":
            same = [key for key in found.overrides if getattr(plain, key) == getattr(settings, key)]
            assert not same, f"the command repeats what the profile has: {same}"
    assert compared >= 11  # batch sizes of seven SingleStream, two Server and two MultiStream tests stand for all GPUs


def test_batch_sizes_that_the_script_was_seen_to_use() -> None:
    models: list[str] = []
    scenario = ""
    for line in RECORDED.strip().splitlines():
        first, *cells = line.split()
        if first in SCENARIOS:
            scenario, models = first, cells
            continue
        gpu = "" if first == "-" else first
        for model, size in zip(models, cells, strict=True):
            found = select(parse([command(model, scenario, gpu)])).env.get(data.expanded("N_GPU_BATCH_SIZE"), "-")
            assert found == size, (gpu, model, scenario)


@pytest.mark.parametrize(("gpu", "model", "scenario"), OPTIONS)
def test_options_that_the_script_was_seen_to_pass(gpu: str, model: str, scenario: str) -> None:
    found = translate([command(model, scenario, gpu)])
    config = resolve(**found.names, overrides=found.overrides)
    ((_, settings),) = config.scenarios.items()
    for option in OPTIONS[gpu, model, scenario].split():
        key, _, value = option.partition("=")
        assert str(getattr(settings, key)) == value


def test_a6000_has_the_values_of_rtx_a6000_and_says_so() -> None:
    both = [translate([command("rnnt", "server", gpu)]) for gpu in ("a6000", "rtx_a6000")]
    assert {t.names["profile"] for t in both} == {"rtx_a6000"}
    assert {t.env[data.expanded("N_GPU_BATCH_SIZE")] for t in both} == {"512"}
    assert all("rtx_a6000 undeclared" in [d.name for d in t.decisions] for t in both)


def test_data_is_what_the_two_readmes_and_their_scripts_have() -> None:
    """The digests were computed from the extraction of the READMEs, not from nvkit's files."""
    known = {
        "v2.1": "04daf8333342f5c69559694072c974f978dc795dce7f65a760b8aa59327e6058",
        "v3.x": "600336b002e9925e88a50283f0f8b3b9a545bae360d09065a1b0ccbc79f104e6",
    }
    for name, digest in known.items():
        edition = data.edition(name)
        facts = {
            "variations": [
                [v.name, v.group, v.default, dict(v.env), dict(v.default_env), list(v.base), dict(v.defaults)]
                for v in edition.variations.values()
            ],
            "default_env": dict(edition.default_env),
            "flags": dict(data.flags(name)),
        }
        assert hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() == digest
    union = {v for name in known for v in data.edition(name).variations}
    assert len(union) == 156
    assert len(data.flags("v3.x").keys() | data.flags("v2.1").keys()) == 45

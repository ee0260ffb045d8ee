"""Small stand-in checkouts of NVIDIA's releases: file layout, make targets and option names, none of their code."""

from __future__ import annotations

from pathlib import Path

ROUNDS = ("v2.1", "v3.0", "v3.1", "v4.0", "v4.1", "v5.0")
BENCHMARKS = {
    "v2.1": ("resnet50", "retinanet", "bert", "3d-unet", "rnnt", "dlrm"),
    "v3.0": ("resnet50", "retinanet", "bert", "3d-unet", "rnnt", "dlrm"),
    "v3.1": ("resnet50", "retinanet", "bert", "3d-unet", "rnnt", "dlrm-v2"),
    "v4.0": ("resnet50", "retinanet", "bert", "3d-unet", "rnnt", "dlrm-v2"),
    "v4.1": ("resnet50", "retinanet", "bert", "3d-unet", "dlrm-v2"),
    "v5.0": ("resnet50", "retinanet", "bert", "3d-unet", "dlrm-v2"),
}
TARGETS = [
    "prebuild",
    "build",
    "link_dirs",
    "download_model",
    "download_data",
    "preprocess_data",
    "calibrate",
    "generate_engines",
    "run_harness",
    "run_harness_power",
    "run_audit_harness",
    "run_audit_test01",
    "run_audit_test01_once",
    "run_audit_test04",
    "run_audit_test04_once",
    "run_audit_test05",
    "run_audit_test05_once",
]

# name: type, then what the release restricts it to, in its own words
_ALWAYS = {
    "dla_batch_size": "int, supported_benchmarks=_CV, supported_systems=(SystemClassifications.is_soc,)",
    "precision": "str, required=True",
    "input_dtype": "str, required=True",
    "input_format": "str, required=True",
    "cache_file": "str",
    "workspace_size": "int",
    "power_limit": "int, supported_power_settings=(PowerSetting.MaxQ,)",
    "active_sms": "int",
    "log_dir": "str",
    "use_graphs": "bool, default=False",
    "gpu_copy_streams": "int",
    "gpu_inference_streams": "int",
    "disable_beta1_smallk": "bool, supported_benchmarks=_CV",
    "use_small_tile_gemm_plugin": "bool, supported_benchmarks=(Benchmark.BERT, Benchmark.DLRM)",
    "use_deque_limit": "bool, supported_benchmarks=_LWIS",
    "deque_timeout_usec": "int, supported_benchmarks=_LWIS + (Benchmark.BERT,)",
    "use_cuda_thread_per_device": "bool, supported_benchmarks=_LWIS",
    "assume_contiguous": "bool, supported_benchmarks=tuple(set(_LWIS) - set((Benchmark.UNET3D,)))",
    "start_from_device": "bool, supported_systems=(SystemClassifications.start_from_device_enabled,)",
    "numa_config": "str, supported_systems=(SystemClassifications.multi_gpu,)",
    "devices": "str",
    "performance_sample_count": "int",
    "user_conf_path": "str",
    "mlperf_conf_path": "str",
    "test_mode": "str",
    "min_duration": "int",
    "max_duration": "int",
    "min_query_count": "int",
    "max_query_count": "int",
    "qsl_rng_seed": "int",
    "use_triton": "bool",
    "graphs_max_seqlen": "int, supported_benchmarks=(Benchmark.BERT,)",
    "soft_drop": "float, supported_benchmarks=(Benchmark.BERT,)",
    "offline_expected_qps": "float, supported_scenarios=(Scenario.Offline,)",
    "server_target_qps": "float, supported_scenarios=(Scenario.Server,)",
    "server_target_latency_ns": "int, supported_scenarios=(Scenario.Server,)",
    "server_target_latency_percentile": "float, supported_scenarios=(Scenario.Server,)",
    "server_num_issue_query_threads": "int, supported_scenarios=(Scenario.Server,)",
    "single_stream_expected_latency_ns": "int, supported_scenarios=(Scenario.SingleStream,)",
    "multi_stream_expected_latency_ns": "int, supported_scenarios=(Scenario.MultiStream,)",
    "multi_stream_target_latency_percentile": "float, supported_scenarios=(Scenario.MultiStream,)",
    "system": "str, no_argparse=True",
}
_MAIN = ("action", "benchmarks", "scenarios", "audit_test", "accuracy_target", "power_setting", "config_ver")
_AUDIO = ("audio_batch_size", "audio_buffer_num_lines", "num_warmups", "disable_encoder_plugin")
_HARDWARE = """\
class KnownGPU:
    L4 = GPU(name="NVIDIA Graphics Device", pci_id=pci_id_match_list(("27B8",)))
    T4 = GPU(AliasedName("T4", ("Tesla T4",)), 70.0, pci_id_match_list(("1EB8", "1EB9")), 75)
    Orin = GPU(AliasedName("Orin"), MATCH_ANY)
"""
_SYSTEMS = """\
add_systems("L4x{}", "L4x{}", KnownCPU.Some.value, KnownGPU.L4.value, [1, 2, 4, 8], Memory(100, ByteSuffix.GiB))
add_systems("T4x{}", "T4x{}", MATCH_ANY, KnownGPU.T4.value, [1, 8], Memory(32, ByteSuffix.GiB))
add_systems("Orin", "Orin", MATCH_ANY, KnownGPU.Orin.value, [1], Memory(7, ByteSuffix.GiB))
"""


def make_release(folder: Path, round: str) -> Path:
    """Write a stand-in clone of inference_results_<round> into a folder and return its root."""
    root = folder / f"inference_results_{round}"
    code = root / "closed" / "NVIDIA"
    _write(code / "README.md", f"# MLPerf Inference {round} NVIDIA-Optimized Implementations\nA stand-in.\n")
    if round >= "v3.1":
        _write(code / "VERSION", f"{round}\n")
    targets = [*TARGETS, *(["run_audit_test06"] if round >= "v4.1" else [])]
    split = len(targets) if round == "v2.1" else 6
    _write(code / "Makefile", _rules(targets[:3] + targets[6:] if round != "v2.1" else targets))
    if round != "v2.1":
        _write(code / "Makefile.data", _rules(targets[3:split]))
    _write(code / "code/common/fields.py", _fields(round))
    _write(code / "code/common/arguments.py", _arguments(round))
    _write(code / "code/common/systems/known_hardware.py", _HARDWARE)
    _write(code / "code/common/systems/system_list.py", _SYSTEMS)
    for benchmark in BENCHMARKS[round]:
        for scenario in ("Offline", "Server", "SingleStream", "MultiStream"):
            _write(code / "configs" / benchmark / scenario / "__init__.py", "")
        scripts = ["preprocess_data.py"]
        if benchmark != "dlrm-v2":
            scripts.append("download_model.sh")
        if benchmark in ("bert", "3d-unet", "rnnt"):
            scripts.append("download_data.sh")
        for script in scripts:
            _write(code / "code" / benchmark / "tensorrt" / script, "")
    return root


def _fields(round: str) -> str:
    batch = "Dict[str, int]" if round >= "v4.1" else "int"
    fields = {"gpu_batch_size": f"{batch}, supported_systems=(SystemClassifications.gpu_based,)", **_ALWAYS}
    if round <= "v4.0":
        fields |= dict.fromkeys(_AUDIO, "int, supported_benchmarks=(Benchmark.RNNT,)")
    if round >= "v3.0":
        fields |= {"use_fp8": "bool, supported_benchmarks=(Benchmark.BERT,)", "no_audit_verify": "bool"}
    fields |= {"test_run" if round >= "v4.1" else "fast": "bool"}
    lines = [
        "_LWIS = (Benchmark.ResNet50, Benchmark.Retinanet, Benchmark.UNET3D)",
        "_CV = (Benchmark.ResNet50, Benchmark.Retinanet)",
        "class Fields(Enum):",
        *(f'    {n}: Field = Field("{n}", "A stand-in.", value_type={rest})' for n, rest in fields.items()),
        "class MainArgs(Enum):",
        *(f'    {name}: Field = Field("{name}", "A stand-in.", value_type=str)' for name in _MAIN),
    ]
    return "\n".join(lines) + "\n"


def _arguments(round: str) -> str:
    names = ["gpu_batch_size", "log_dir", "engine_file", *(["server_coalesce_queries"] if round >= "v3.0" else [])]
    return "arguments_dict = {" + ", ".join(f'"{name}": {{}}' for name in names) + "}\n"


def _rules(targets: list[str]) -> str:
    return "SHELL := /bin/bash\n" + "".join(f".PHONY: {name}\n{name}:\n\t@true\n" for name in targets)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

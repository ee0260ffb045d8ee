"""Every setting that nvkit knows, with its type, unit, default and where it applies.

Names are LoadGen's and NVIDIA's own (`gpu_copy_streams`, `server_target_qps`, ...), so that a value can be looked up
in either. `None` means: not set, the backend or LoadGen decides. One `Settings` object belongs to one scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

_TRT = ("tensorrt", "tensorrt-rtx")
_BERT = ("bert-99", "bert-99.9")
_UNET = ("3d-unet-99", "3d-unet-99.9")
_DLRM_1 = ("dlrm-99", "dlrm-99.9")
_DLRM_2 = ("dlrm-v2-99", "dlrm-v2-99.9")
_DLRM = (*_DLRM_1, *_DLRM_2)
_RNNT = ("rnnt",)
_VISION = ("resnet50", "retinanet")
_ONE_DEVICE = "nvkit runs an engine on the GPU or, with dla_core, on one DLA; {} counts for either"
_LOADGEN_VALUES = "LoadGen's values are settings, and the round's file has the rules"


def _knob(
    default: Any,
    description: str,
    *,
    scenarios: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    backends: Sequence[str] = (),
    implementations: Sequence[str] = (),
    instead: str = "",
    **bounds: Any,
) -> Any:
    """Declare a setting; the four lists say where it applies, empty meaning everywhere.

    Args:
        instead: What nvkit's own harness does without a setting of NVIDIA's code, in plain words.
    """
    applies: dict[str, Any] = {
        "scenarios": list(scenarios),
        "benchmarks": list(benchmarks),
        "backends": list(backends),
        "implementations": list(implementations),
        **({"instead": [instead]} if instead else {}),
    }
    return Field(default, description=description, json_schema_extra=applies, **bounds)


def _gpu(default: Any, description: str, **where: Any) -> Any:
    return _knob(default, description, backends=_TRT, **where)


def _nvidia(default: Any, description: str, **where: Any) -> Any:
    """Declare a setting that only NVIDIA's own code reads; `instead` says why nvkit's own harness needs none."""
    return _gpu(default, description, implementations=("nvidia-original",), **where)


Precision = Literal["fp32", "fp16", "int8", "fp8"]


class Settings(BaseModel):
    """The resolved values of one benchmark and scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # NVIDIA's own code
    nvidia_code: Path | None = _nvidia(None, "checkout of mlcommons/inference_results_<round>, or its closed/NVIDIA")
    nvidia_command: str | None = _nvidia(
        None, "command that runs a shell line in the container; {} stands for the line"
    )
    nvidia_scratch: Path | None = _nvidia(None, "MLPERF_SCRATCH_PATH: folder of NVIDIA's models and data")
    make_target: str | None = _nvidia(None, "make target instead of the run mode's own")
    use_triton: bool = _nvidia(
        False, "run the engine in NVIDIA's Triton harness", instead="nvkit's harness runs the engine itself"
    )
    devices: str | None = _gpu(None, "GPUs to use, by number, separated by commas; all if unset")
    user_conf_path: Path | None = _nvidia(
        None, "user.conf to pass instead of the one that nvkit writes", instead=_LOADGEN_VALUES
    )
    mlperf_conf_path: Path | None = _nvidia(
        None, "mlperf.conf to pass instead of the round's own", instead=_LOADGEN_VALUES
    )
    embeddings_path: Path | None = _nvidia(None, "folder of the embedding tables", benchmarks=_DLRM_2)
    sample_partition_path: Path | None = _nvidia(None, "where each sample starts, .npy", benchmarks=_DLRM)
    extra_build_engine_options: str | None = _nvidia(
        None, "further RUN_ARGS, as NVIDIA's code spells them", instead="builder_options holds TensorRT's own options"
    )
    extra_run_options: str | None = _nvidia(
        None,
        "further RUN_ARGS of run_harness, as NVIDIA's code spells them",
        instead="every option of nvkit's harness is a setting",
    )

    # data and model
    data_dir: Path | None = _knob(None, "folder of the real data set; generated data without it")
    model_path: Path | None = _knob(None, "the fp32 ONNX file; synthetic weights without it")
    download_model: bool = _knob(False, "download the reference model")
    data_seed: int = _knob(20241, "seed of generated data and synthetic weights", ge=0)
    generated_images: int = _knob(1024, "images of the generated validation set", ge=16, benchmarks=_VISION)
    generated_calibration_images: int = _knob(64, "images of the generated calibration set", ge=4, benchmarks=_VISION)
    generated_fit_images: int = _knob(
        448, "generated images that the last layers are fitted on", ge=16, benchmarks=_VISION
    )
    generated_questions: int = _knob(1024, "questions of the generated validation set", ge=16, benchmarks=_BERT)
    generated_calibration_questions: int = _knob(
        64, "questions of the generated calibration set", ge=4, benchmarks=_BERT
    )
    generated_fit_questions: int = _knob(
        256, "generated questions that the last layers are fitted on", ge=16, benchmarks=_BERT
    )
    synthetic_width: float = _knob(
        1.0, "width of the synthetic model (channels, attention heads) relative to the true one", gt=0, le=1
    )
    allow_bad_images: int = _knob(0, "unreadable images that preprocessing may leave out", ge=0, benchmarks=_VISION)

    # calibration
    calibration_method: Literal["entropy", "max", "percentile"] = _knob("entropy", "how ranges are chosen")
    calibration_percentile: float = _knob(99.99, "share of values inside the range, percent", gt=50, le=100)
    calibration_samples: int = _knob(500, "calibration samples used at most", ge=1)
    accuracy_check_samples: int = _knob(256, "validation samples on which fp32 and int8 are compared", ge=1)
    calibration_cache: Path | None = _knob(None, "NVIDIA calibration cache to take the ranges from")

    # engine
    backend: Literal["onnxruntime", "tensorrt", "tensorrt-rtx", "null"] = _knob("onnxruntime", "what runs the engine")
    precision: Precision = _knob("int8", "precision of the engine")
    input_dtype: Literal["fp32", "fp16", "int8", "int32"] = _knob("fp32", "type of the preprocessed input")
    input_format: Literal["linear", "chw4", "chw32", "dhwc8", "cdhw32"] = _gpu("linear", "memory layout of the input")
    batch_size: int = _knob(1, "samples in one inference at most", ge=1)
    slots: int = _knob(1, "batches in flight; 0 for one on each core", ge=0, backends=("onnxruntime", "null"))
    threads: int | None = _knob(
        None, "threads of one inference; cores / slots if unset", ge=1, backends=("onnxruntime",)
    )
    gpu_copy_streams: int = _gpu(1, "CUDA copy streams: batches in flight on each GPU", ge=1)
    gpu_inference_streams: int = _gpu(1, "CUDA inference streams, unless run_infer_on_copy_streams", ge=1)
    use_graphs: bool = _gpu(False, "launch through CUDA graphs")
    compute_capability: str | None = _gpu(
        None, "compute capability to build for, e.g. 8.9; of this machine's GPU if unset", pattern=r"^\d+\.\d$"
    )
    workspace_size: int | None = _gpu(None, "bytes of builder workspace", ge=0)
    builder_optimization_level: int | None = _gpu(
        None, "how long TensorRT searches; its own default if unset", ge=0, le=5
    )
    builder_options: str | None = _gpu(
        None, "further attributes of TensorRT's builder config: key=value, several separated by spaces"
    )
    use_fusions: Literal["auto", "always", "never"] = _gpu("auto", "NVIDIA's residual plugins, where TensorRT has them")
    active_sms: int | None = _gpu(None, "percent of the SMs active while building", ge=1, le=100)
    disable_beta1_smallk: bool = _gpu(False, "leave the small-tile fusions of residual layers off", benchmarks=_VISION)
    use_small_tile_gemm_plugin: bool = _gpu(False, "use SmallTileGEMM_TRT", benchmarks=(*_BERT, *_DLRM))
    energy_aware_kernels: bool = _nvidia(
        False,
        "prefer kernels that save power",
        instead="nvkit forces no kernels; NVIDIA's lists of them are for its own engines",
    )
    nms_type: Literal["efficientnms", "nmsopt", "nmspva"] | None = _gpu(None, "NMS plugin", benchmarks=("retinanet",))
    use_nmsopt: bool = _nvidia(False, "v3.0's name of nms_type: nmsopt", benchmarks=("retinanet",))
    start_from_device: bool = _gpu(False, "samples are staged in GPU memory")
    end_on_device: bool = _nvidia(
        False,
        "responses stay in GPU memory",
        instead="LoadGen's Python API reads responses from host memory; of ResNet-50 4 bytes a sample are copied",
    )
    run_infer_on_copy_streams: bool = _gpu(False, "infer on the copy streams")
    use_direct_host_access: bool = _nvidia(
        False,
        "unified memory of Jetson boards",
        instead="nvkit copies batches from pinned host memory, or reads staged samples in place with start_from_device",
    )
    eviction_last: float | None = _nvidia(
        None, "share of the L2 cache that persists", ge=0, le=1, instead="nvkit leaves the L2 cache to CUDA"
    )
    dla_batch_size: int | None = _gpu(
        None, "batch size on a DLA, with dla_core", ge=1, scenarios=("Offline",), benchmarks=_VISION
    )
    dla_copy_streams: int | None = _nvidia(
        None,
        "DLA copy streams",
        ge=1,
        scenarios=("Offline",),
        benchmarks=_VISION,
        instead=_ONE_DEVICE.format("gpu_copy_streams"),
    )
    dla_inference_streams: int | None = _nvidia(
        None,
        "DLA inference streams",
        ge=1,
        scenarios=("Offline",),
        benchmarks=_VISION,
        instead=_ONE_DEVICE.format("gpu_inference_streams"),
    )
    dla_loop_count: int | None = _nvidia(
        None, "DLA batches in one batch of the last layers", ge=1, scenarios=("Offline",), benchmarks=("resnet50",)
    )
    dla_core: int | None = _gpu(None, "DLA core to build for", ge=0, scenarios=("Offline",), benchmarks=_VISION)
    max_dlas: int | None = _nvidia(
        None,
        "DLAs used at most",
        ge=0,
        benchmarks=_VISION,
        instead="nvkit uses the one DLA that dla_core names, or none",
    )

    # power and clocks: nvkit shows the commands and checks them, and sets them only if told to
    apply_power: bool = _gpu(False, "set the power limits of the power mode for each test and put them back after it")
    power_limit: int | None = _gpu(None, "power limit of the GPU, W", ge=1)
    vboost_slider: int | None = _nvidia(None, "clock ratio of GPCs and crossbar, nvidia-smi boost-slider", ge=0)
    soc_gpu_freq: int | None = _gpu(None, "highest GPU clock of a Jetson board, Hz", ge=0)
    soc_dla_freq: int | None = _gpu(None, "highest DLA clock of a Jetson board, Hz", ge=0)
    soc_cpu_freq: int | None = _gpu(None, "highest CPU clock of a Jetson board, kHz", ge=0)
    soc_emc_freq: int | None = _gpu(None, "highest memory clock of a Jetson board, Hz; 0 for no limit", ge=0)
    soc_pva_freq: int | None = _gpu(None, "highest PVA clock of a Jetson board, Hz", ge=0)
    orin_num_cores: int | None = _gpu(None, "CPU cores of a Jetson Orin that stay on", ge=1)

    # harness
    deque_timeout_usec: int = _knob(0, "time a batch waits for more samples", ge=0, scenarios=("Server", "Offline"))
    use_deque_limit: bool = _nvidia(
        False,
        "take at most one batch from the queue at a time",
        instead="nvkit takes at most one batch from the queue at a time anyway",
    )
    use_cuda_thread_per_device: bool = _nvidia(
        False, "a launch thread for each GPU", instead="each slot has a thread of its own"
    )
    use_batcher_thread_per_device: bool = _nvidia(
        False,
        "a batcher thread for each GPU",
        instead="the thread that forms a batch starts it too, so no batch waits for a batcher",
    )
    complete_threads: int | None = _nvidia(
        None, "completion threads for each GPU", ge=1, instead="each slot completes its own batches"
    )
    use_same_context: bool = _nvidia(
        False,
        "one execution context for all copy streams",
        instead="each slot has its own context, so that batches overlap",
    )
    assume_contiguous: bool = _nvidia(
        False,
        "samples of a query lie side by side",
        instead="nvkit looks at the rows, which costs microseconds a batch",
    )
    warmup_duration: float = _knob(1.0, "seconds of inference before the test", ge=0)
    trace_samples: int = _knob(
        200_000, "LoadGen's trace (raw latencies) is kept for tests of at most so many expected samples", ge=0
    )
    telemetry_hz: float = _gpu(2.0, "samples of the GPUs' power, clocks and temperature a second; 0 for none", ge=0)
    batch_timing: bool = _gpu(
        True, "measure copy, network and copy back of each batch (where they are on streams of their own)"
    )

    # BERT, 3D-UNet, DLRM and RNN-T
    bert_opt_seqlen: int | None = _gpu(None, "sequence length that the engine is optimised for", benchmarks=_BERT)
    graphs_max_seqlen: int | None = _gpu(None, "longest sequence with a CUDA graph", benchmarks=_BERT)
    soft_drop: float | None = _knob(
        None,
        "quantile of tokens in a batch above which samples are answered last; 1 for none",
        gt=0,
        le=1,
        scenarios=("Server",),
        benchmarks=_BERT,
    )
    use_fp8: bool = _gpu(False, "FP8 where the network has it", benchmarks=_BERT)
    enable_interleaved: bool = _nvidia(False, "channels first in the encoder", benchmarks=_BERT)
    slice_overlap_patch_kernel_cg_impl: bool = _nvidia(
        False, "patch kernel that synchronises through cooperative groups", benchmarks=_UNET
    )
    bot_mlp_precision: Precision | None = _nvidia(None, "precision of the bottom MLP", benchmarks=_DLRM_2)
    embeddings_precision: Precision | None = _nvidia(None, "precision of the embeddings", benchmarks=_DLRM_2)
    interaction_op_precision: Precision | None = _nvidia(None, "precision of the interaction", benchmarks=_DLRM_2)
    top_mlp_precision: Precision | None = _nvidia(None, "precision of the top MLP", benchmarks=_DLRM_2)
    final_linear_precision: Precision | None = _nvidia(None, "precision of the last layer", benchmarks=_DLRM_2)
    enable_interleaved_top_mlp: bool = _nvidia(False, "two samples side by side in the top MLP", benchmarks=_DLRM_1)
    compress_categorical_inputs: bool = _nvidia(False, "the preprocessed inputs are compressed", benchmarks=_DLRM_1)
    gemm_plugin_fairshare_cache_size: int | None = _nvidia(
        None, "entries of the FairShare cache of the GEMM plugin", ge=0, benchmarks=(*_BERT, *_DLRM_1)
    )
    check_contiguity: bool = _gpu(False, "do not copy inputs that lie side by side", benchmarks=_DLRM)
    embedding_weights_on_gpu_part: float | None = _gpu(
        None, "share of the embeddings in GPU memory", ge=0, le=1, benchmarks=_DLRM
    )
    gpu_num_bundles: int | None = _gpu(None, "event and buffer bundles for each GPU", ge=1, benchmarks=_DLRM)
    max_pairs_per_staging_thread: int | None = _gpu(None, "pairs one staging thread copies", ge=1, benchmarks=_DLRM)
    num_staging_batches: int | None = _gpu(None, "staging batches", ge=1, benchmarks=_DLRM)
    num_staging_threads: int | None = _gpu(None, "staging threads", ge=1, benchmarks=_DLRM)
    output_padding_granularity: int | None = _gpu(None, "padding of the interaction output", ge=1, benchmarks=_DLRM)
    use_jemalloc: bool = _gpu(False, "preload jemalloc", benchmarks=_DLRM)
    audio_batch_size: int | None = _gpu(None, "batch of audio preprocessing", ge=1, benchmarks=_RNNT)
    audio_buffer_num_lines: int | None = _gpu(None, "audio samples in flight", ge=1, benchmarks=_RNNT)
    audio_fp16_input: bool = _gpu(False, "raw audio in fp16", benchmarks=_RNNT)
    dali_batches_issue_ahead: int | None = _gpu(None, "batches copied ahead", ge=0, benchmarks=_RNNT)
    dali_pipeline_depth: int | None = _gpu(None, "sub-batches in the audio pipeline", ge=1, benchmarks=_RNNT)
    disable_encoder_plugin: bool = _gpu(False, "do without RNNTEncoderPlugin", benchmarks=_RNNT)
    nopipelined_execution: bool = _nvidia(False, "one sequence after the other", benchmarks=_RNNT)
    nouse_copy_kernel: bool = _nvidia(False, "cudaMemcpyAsync instead of DALI's gather kernel", benchmarks=_RNNT)
    nobatch_sorting: bool = _gpu(False, "do not sort a batch by length", benchmarks=_RNNT)
    num_warmups: int | None = _gpu(None, "warm-up samples", ge=-1, benchmarks=_RNNT)

    # LoadGen
    min_duration: int = _knob(600_000, "shortest test, ms", ge=0)
    max_duration: int = _knob(0, "longest test, ms; 0 for no limit", ge=0)
    min_query_count: int = _knob(100, "fewest queries; in Offline fewest samples", ge=1)
    max_query_count: int = _knob(0, "most queries; 0 for no limit", ge=0)
    performance_sample_count: int = _knob(1024, "samples staged for a performance test", ge=1)
    offline_expected_qps: float | None = _knob(
        None, "expected samples/s; from the warm-up if unset", gt=0, scenarios=("Offline",)
    )
    server_target_qps: float | None = _knob(
        None, "arriving queries/s; from the warm-up if unset", gt=0, scenarios=("Server",)
    )
    server_target_latency_ns: int = _knob(100_000_000, "latency limit, ns", gt=0, scenarios=("Server",))
    server_target_latency_percentile: float = _knob(
        0.99, "share of queries within the limit", gt=0, lt=1, scenarios=("Server",)
    )
    server_coalesce_queries: bool = _knob(False, "overdue queries in one callback", scenarios=("Server",))
    server_num_issue_query_threads: int = _nvidia(
        0,
        "LoadGen issue threads",
        ge=0,
        scenarios=("Server",),
        instead="LoadGen's Python API does not have RegisterIssueQueryThread",
    )
    single_stream_expected_latency_ns: int | None = _knob(
        None, "expected latency, ns; from the warm-up if unset", gt=0, scenarios=("SingleStream",)
    )
    single_stream_target_latency_percentile: float = _knob(
        0.9, "percentile reported", gt=0, lt=1, scenarios=("SingleStream",)
    )
    multi_stream_expected_latency_ns: int | None = _knob(
        None, "expected latency, ns; from the warm-up if unset", gt=0, scenarios=("MultiStream",)
    )
    multi_stream_target_latency_percentile: float = _knob(
        0.99, "percentile reported", gt=0, lt=1, scenarios=("MultiStream",)
    )
    multi_stream_samples_per_query: int = _knob(8, "samples in a query", ge=1, scenarios=("MultiStream",))
    sample_concatenate_permutation: bool = _knob(False, "issue every sample equally often")
    qsl_rng_seed: int = _knob(0, "seed of the performance set", ge=0, lt=2**64)
    sample_index_rng_seed: int = _knob(0, "seed of the sample order", ge=0, lt=2**64)
    schedule_rng_seed: int = _knob(0, "seed of the arrivals", ge=0, lt=2**64)
    test05_qsl_rng_seed: int | None = _knob(None, "the same seeds for TEST05", ge=0, lt=2**64)
    test05_sample_index_rng_seed: int | None = _knob(None, "the same seeds for TEST05", ge=0, lt=2**64)
    test05_schedule_rng_seed: int | None = _knob(None, "the same seeds for TEST05", ge=0, lt=2**64)


def field(key: str) -> FieldInfo:
    """Return the declaration of a setting (KeyError if there is none of this name)."""
    return Settings.model_fields[key]


def instead(key: str) -> str:
    """Return what nvkit's own harness does without a setting of NVIDIA's code; empty if there is nothing to say."""
    applies: Any = field(key).json_schema_extra
    return "".join(applies.get("instead", ()))


def not_applicable(key: str, backend: str, benchmark: str, scenario: str, implementation: str) -> str | None:
    """Say why a setting has no effect here, or None if it has one.

    Of a setting that only NVIDIA's own code reads, the reason is what nvkit does instead.
    """
    applies: Any = field(key).json_schema_extra
    here = {"implementations": implementation, "backends": backend, "benchmarks": benchmark, "scenarios": scenario}
    for noun, value in here.items():
        if applies[noun] and value not in applies[noun]:
            if noun == "implementations" and (does := instead(key)):
                return f"only NVIDIA's own code reads it; {does}"
            return f"it belongs to {noun} {', '.join(applies[noun])}; this is {value}"
    return None


def no_effect(key: str, settings: Settings, benchmark: str, scenario: str, implementation: str) -> str | None:
    """Say why a setting has no effect here or beside these other settings, or None if it has one."""
    if reason := not_applicable(key, settings.backend, benchmark, scenario, implementation):
        return reason
    if implementation == "nvkit":
        if key == "dla_batch_size" and settings.dla_core is None:
            return "without dla_core the engine is built for the GPU, with batch_size"
        if key == "gpu_inference_streams" and settings.run_infer_on_copy_streams:
            return "run_infer_on_copy_streams is true, so networks run on the copy streams"
    return None


PATHS = frozenset(key for key, declared in Settings.model_fields.items() if declared.annotation == Path | None)

"""The options of code/main.py, declared as the releases declare them."""

from __future__ import annotations

FIELDS = {}


class Field:
    """An option: its name, type and where it may be used."""

    def __init__(self, name, value_type=str, description="", **where):
        self.name = name
        self.value_type = value_type
        self.description = description
        self.where = where
        FIELDS[name] = self


Field("action", value_type=str)
Field("benchmarks", value_type=str)
Field("scenarios", value_type=str)
Field("test_mode", value_type=str)
Field("audit_test", value_type=str)
Field("no_audit_verify", value_type=bool)
Field("config_ver", value_type=str)
Field("power_setting", value_type=str)
Field("log_dir", value_type=str)
Field("precision", value_type=str)
Field("input_dtype", value_type=str)
Field("input_format", value_type=str)
Field("gpu_batch_size", value_type=int)
Field("gpu_copy_streams", value_type=int)
Field("gpu_inference_streams", value_type=int)
Field("use_graphs", value_type=bool)
Field("workspace_size", value_type=int)
Field("deque_timeout_usec", value_type=int)
Field("use_deque_limit", value_type=bool)
Field("use_cuda_thread_per_device", value_type=bool)
Field("disable_beta1_smallk", value_type=bool)
Field("start_from_device", value_type=bool)
Field("active_sms", value_type=int)
Field("performance_sample_count", value_type=int)
Field("min_duration", value_type=int)
Field("max_duration", value_type=int)
Field("min_query_count", value_type=int)
Field("max_query_count", value_type=int)
Field("offline_expected_qps", value_type=float)
Field("server_target_qps", value_type=float)
Field("server_target_latency_ns", value_type=int)
Field("server_target_latency_percentile", value_type=float)
Field("single_stream_expected_latency_ns", value_type=int)
Field("single_stream_target_latency_percentile", value_type=float)
Field("multi_stream_expected_latency_ns", value_type=int)
Field("multi_stream_target_latency_percentile", value_type=float)
Field("multi_stream_samples_per_query", value_type=int)

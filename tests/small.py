"""Settings for tests."""

from __future__ import annotations

SMALL = {
    "synthetic_width": 0.125,
    "generated_images": 32,
    "generated_calibration_images": 8,
    "generated_fit_images": 40,
    "min_duration": 300,
    "min_query_count": 64,
    "performance_sample_count": 16,
    "warmup_duration": 0.05,
    "accuracy_check_samples": 16,
}
"""Settings of a reproduction of a few seconds: the same path, a narrow network and few images."""

SMALL_TEXT = {
    "generated_questions": 16,
    "generated_calibration_questions": 4,
    "generated_fit_questions": 32,
    "min_duration": 300,
    "min_query_count": 16,
    "performance_sample_count": 16,
    "warmup_duration": 0.05,
}
"""The same for BERT; the profile's network is narrow already."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nvkit.errors import DataError
from nvkit.results.metric import Metric
from nvkit.results.published import PublishedResult, comparison_table, load, nearest


@pytest.fixture(scope="module")
def rows(published_csv: Path) -> tuple[PublishedResult, ...]:
    return load(published_csv)


def test_the_file_is_whole(rows) -> None:
    assert Counter(row.round for row in rows) == {"v3.0": 1103, "v2.1": 923, "v4.1": 768}


@pytest.mark.parametrize(
    ("accelerator", "round", "scenario", "system", "per_accelerator"),
    [
        ("NVIDIA L4", "v3.0", "Offline", "L4x1_TRT", 13157.8),
        ("NVIDIA A100-SXM4-80GB", "v3.0", "Offline", "DGX-A100_A100-SXM-80GBx1_TRT", 42379),
        ("NVIDIA H100 80GB HBM3", "v3.0", "Server", "DGX-H100_H100-SXM-80GBx1_TRT", 76001.9),
        ("NVIDIA H200", "v4.1", "Server", "H200-SXM-141GBx8_TRT", 79028.6),
        ("Tesla T4", "v3.0", "Offline", "XE2420_T4x1_TRT", 6121.3),
        ("NVIDIA L4", "v6.0", "Server", "L4x1_TRT", 12198.5),
    ],
)
def test_the_same_accelerator_by_its_driver_name(rows, accelerator, round, scenario, system, per_accelerator) -> None:
    found = nearest(rows, "resnet50", scenario, round, accelerator)
    assert found.published.system == system
    assert found.published.per_accelerator == pytest.approx(per_accelerator, rel=1e-4)
    assert "same accelerator" in found.choice


def test_a_slice_of_a_gpu_is_not_the_gpu(rows) -> None:
    assert "MIG" not in nearest(rows, "resnet50", "Offline", "v2.1", "NVIDIA A100-SXM4-80GB").published.accelerator
    sliced = nearest(rows, "resnet50", "Offline", "v2.1", "NVIDIA A100-SXM4-80GB MIG 1g.10gb")
    assert "MIG" in sliced.published.accelerator


def test_without_an_accelerator_the_smallest_system_of_nvidia(rows) -> None:
    ours = Metric("result_samples_per_second", 126.0, "samples/s", True)
    found = nearest(
        rows, "resnet50", "Offline", "v4.1", ours=ours, framework="ONNX Runtime", notes=["synthetic weights"]
    )
    assert (found.published.submitter, found.published.accelerator) == ("NVIDIA", "NVIDIA Orin NX")
    assert found.choice.endswith("since this machine has no accelerator")
    assert found.ratio == pytest.approx(126 / 2518, rel=1e-3)
    assert "accelerator: ours none, published NVIDIA Orin NX" in found.differs
    assert found.differs[-1] == "synthetic weights"
    unknown = nearest(rows, "resnet50", "Offline", "v4.1", "NVIDIA GeForce RTX 3060")
    assert unknown.published == found.published
    assert "no result was published for NVIDIA GeForce RTX 3060" in unknown.choice


def test_throughput_is_divided_by_accelerators_and_latency_is_not(rows) -> None:
    rate = Metric("result_samples_per_second", 80_000.0, "samples/s", True)
    offline = nearest(rows, "resnet50", "Offline", "v4.1", "NVIDIA H200", ours=rate, accelerators=2)
    assert offline.ours_per_accelerator == 40_000
    latency = Metric("early_stopping_latency_ss", 723_208.0, "ns", False)
    single = nearest(rows, "resnet50", "SingleStream", "v3.0", "NVIDIA L4", ours=latency, accelerators=2)
    assert single.ratio == 2.0
    assert single.table().rows[0][1:3] == pytest.approx((0.723208, 0.361604))


def test_differences_leave_out_what_is_the_same(rows) -> None:
    found = nearest(
        rows,
        "resnet50",
        "Offline",
        "v3.0",
        "NVIDIA A100-SXM4-80GB",
        accelerators=1,
        framework="TensorRT 8.6.0, CUDA 12.0",
        loadgen_version="3.0 @ abc",
    )
    assert found.differs == ()


def test_server_of_two_rounds_counts_differently(rows) -> None:
    found = nearest(rows, "resnet50", "Server", "v4.1", "NVIDIA L4", accelerators=1)
    assert found.published.round == "v3.0"
    assert "completed samples count in round v4.1, but not in v3.0" in found.differs


def test_table_says_once_what_holds_for_all_rows(rows) -> None:
    found = [nearest(rows, "resnet50", s, "v4.1", notes=["synthetic weights"]) for s in ("Offline", "Server")]
    text = str(comparison_table(found))
    assert text.count("synthetic weights") == 1
    assert "Server: accelerator: ours none, published NVIDIA L4" in text


def test_nothing_published(rows) -> None:
    assert nearest(rows, "resnet51", "Offline", "v4.1") is None
    assert nearest(rows, "bert-99", "MultiStream", "v4.1") is None


def test_a_missing_or_damaged_file(tmp_path: Path, published_csv: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        load(tmp_path / "absent.csv")
    head, first = published_csv.read_text().splitlines()[:2]
    file = tmp_path / "damaged.csv"
    file.write_text(f"{head}\n{first}\n{first.replace('25.4023', 'fast')}\n")
    with pytest.raises(DataError, match=r"line 3.*fast"):
        load(file)
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="line 2"):
        load(file)

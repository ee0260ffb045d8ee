"""The .ptx files are made from the .cu files by NVIDIA's compiler, which the tests cannot count on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nvkit.engine.tensorrt

FOLDER = Path(nvkit.engine.tensorrt.__file__).parent


@pytest.mark.parametrize(
    ("name", "kernels", "parameters"),
    [("gather", {"gather16", "gather4", "gather1"}, 3), ("publish", {"publish"}, 4)],
)
def test_the_kernels_of_the_source_are_in_the_ptx_with_their_parameters(
    name: str, kernels: set[str], parameters: int
) -> None:
    source, ptx = ((FOLDER / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("cu", "ptx"))
    declared = dict(re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source))
    entries = dict(re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx))
    assert set(entries) == set(declared) == kernels
    for kernel, entry in entries.items():
        assert re.findall(r"\.param \.(\w+)", entry) == ["u64"] * parameters  # addresses and numbers of bytes
        assert declared[kernel].count(",") == parameters - 1
    assert ".target sm_75" in ptx  # the oldest GPU of the profiles
    assert ".version 8.0" in ptx  # of CUDA 12.0: later drivers take it, earlier ones do not run nvkit

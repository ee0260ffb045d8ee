"""gather.ptx is made from gather.cu by NVIDIA's compiler, which the tests cannot count on."""

from __future__ import annotations

import re
from pathlib import Path

import nvkit.engine.tensorrt

FOLDER = Path(nvkit.engine.tensorrt.__file__).parent


def test_the_kernels_of_the_source_are_in_the_ptx_with_their_parameters() -> None:
    source, ptx = ((FOLDER / f"gather.{kind}").read_text(encoding="utf-8") for kind in ("cu", "ptx"))
    declared = dict(re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source))
    entries = dict(re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx))
    assert set(entries) == set(declared) == {"gather16", "gather4", "gather1"}
    for name, parameters in entries.items():
        assert re.findall(r"\.param \.(\w+)", parameters) == ["u64"] * 3  # two addresses and the bytes of a row
        assert declared[name].count(",") == 2
    assert ".target sm_75" in ptx  # the oldest GPU of the profiles

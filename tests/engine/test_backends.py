from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from quantize.nets import CLASSES, images, residual_net

from nvkit.engine import BACKENDS, backend
from nvkit.engine.base import Network, infer
from nvkit.errors import ConfigError, EngineBuildError, ModelError


def test_backends_are_made_by_name() -> None:
    assert set(BACKENDS) == {"null", "onnxruntime", "tensorrt", "tensorrt-rtx"}
    for name in BACKENDS:
        assert backend(name).name == name
    with pytest.raises(ConfigError, match="Did you mean 'onnxruntime'"):
        backend("onnxrunntime")


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys, nvkit.engine; nvkit.engine.backend('tensorrt'); "
        "sys.exit(bool({'onnxruntime', 'onnx', 'tensorrt', 'tensorrt_rtx_bindings'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_null_answers_zeros_of_the_output(tmp_path: Path) -> None:
    chosen = backend("null")
    settings = SimpleNamespace(batch_size=4, slots=3)
    net = residual_net(tmp_path / "net.onnx")
    chosen.build(Network(net, None, None, "ArgMax:0"), settings, tmp_path)
    runner = chosen.load(tmp_path, settings)
    assert (runner.slots, runner.max_batch) == (3, 4)
    found = infer(runner, {"input:0": images(6)})
    assert found.dtype == np.int64
    assert found.tolist() == [0] * 6
    chosen.build(Network(net, None, None, "logits"), settings, tmp_path)
    assert infer(chosen.load(tmp_path, settings), {"input:0": images(6)}).shape == (6, CLASSES)
    assert chosen.unavailable() is None


def test_null_names_what_is_missing(tmp_path: Path) -> None:
    chosen = backend("null")
    settings = SimpleNamespace(batch_size=4, slots=3)
    with pytest.raises(EngineBuildError, match="holds no engine"):
        chosen.load(tmp_path, settings)
    with pytest.raises(ModelError, match="no output 'logit'"):
        chosen.build(Network(residual_net(tmp_path / "n.onnx"), None, None, "logit"), settings, tmp_path)

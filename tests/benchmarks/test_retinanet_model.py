"""The synthetic network of retinanet, its weights and how its heads are fitted, responses, and the benchmark itself."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from nvkit.benchmarks.convolutions import Parameters
from nvkit.benchmarks.retinanet import BENCHMARK, fit, network, synthetic
from nvkit.benchmarks.retinanet.anchors import GRIDS, PER_POSITION, encode_boxes, overlaps
from nvkit.benchmarks.retinanet.annotations import read_annotations
from nvkit.benchmarks.retinanet.head_training import MARGIN, TrainedHead
from nvkit.benchmarks.retinanet.matching import NOTHING, UNSURE, Matcher
from nvkit.benchmarks.retinanet.weights import (
    CORE_WIDTH,
    backbone_weights,
    core_channels,
    head_weights,
    pyramid_weights,
)
from nvkit.benchmarks.retinanet.windows import ASKED, UNITS, Annotated, WindowSampler
from nvkit.engine.base import Ragged
from nvkit.quantize.graph import prepare, quantizable
from nvkit.store import Store

Array = npt.NDArray[Any]


def settings(**changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {
        "data_dir": None,
        "data_seed": 3,
        "generated_images": 16,
        "generated_calibration_images": 4,
        "generated_fit_images": 16,
        "allow_bad_images": 0,
        "model_path": None,
        "download_model": False,
        "synthetic_width": CORE_WIDTH,
        "input_dtype": "fp32",
        "threads": 2,
    }
    return SimpleNamespace(**{**values, **changes})


def run(model: onnx.ModelProto, images: Array, names: list[str]) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(names, {"images": images})]


def layers(rng: np.random.Generator, channels: int, outputs: int) -> fit.Layers:
    """Return five layers of random weights that keep activations at their magnitude."""
    sizes = [channels] * 4 + [outputs]
    scale = np.sqrt(2 / (9 * channels))
    return [
        ((rng.normal(0, scale, (n, channels, 3, 3))).astype(np.float32), rng.normal(0, 0.1, n).astype(np.float32))
        for n in sizes
    ]


def parameters(width: float, seed: int = 1) -> Parameters:
    shape = network.topology(width)
    rng = np.random.default_rng(seed)
    channels = core_channels(shape)
    heads = [layers(rng, channels, count) for count in (shape.classification.last.outputs, PER_POSITION * 4)]
    heads[0][-1][1][:] -= 3.0
    heads[1][-1][0][:] *= 0.1
    return {
        **backbone_weights(shape, seed),
        **pyramid_weights(shape, seed),
        **head_weights(shape.classification, heads[0], seed),
        **head_weights(shape.regression, heads[1], seed),
    }


def test_topology_is_retinanet_with_resnext50() -> None:
    convs = network.topology().convs()
    kernels = {c.name: c.outputs * (c.inputs // c.groups) * c.kernel**2 for c in convs}
    # ResNeXt-50 32x4d's well-known 25,028,904 parameters less batch norm (68,224) and the dense layer (2,049,000).
    assert sum(size for name, size in kernels.items() if "body" in name) == 22_911_680
    # The shapes that the reference model's state dictionary has.
    shapes = {c.name: (c.outputs, c.inputs // c.groups, c.kernel, c.kernel) for c in convs}
    assert shapes["backbone.body.layer1.0.conv2"] == (128, 4, 3, 3)
    assert shapes["backbone.body.layer4.2.conv3"] == (2048, 1024, 1, 1)
    assert shapes["backbone.fpn.inner_blocks.0"] == (256, 512, 1, 1)
    assert shapes["backbone.fpn.extra_blocks.p6"] == (256, 256, 3, 3)
    assert shapes["head.classification_head.conv.6"] == (256, 256, 3, 3)
    assert shapes["head.classification_head.cls_logits"] == (9 * 264, 256, 3, 3)
    assert shapes["head.regression_head.bbox_reg"] == (9 * 4, 256, 3, 3)
    strided = [c.name for c in convs if c.stride == 2 and "downsample" not in c.name]
    assert strided[1:4] == [f"backbone.body.layer{stage}.0.conv2" for stage in (2, 3, 4)]
    assert {c.groups for c in convs} == {1, 32}


def test_network_ends_with_the_one_call_and_has_the_tensors_of_nvidias_cache(tmp_path: Path) -> None:
    model = network.retinanet(parameters(CORE_WIDTH), CORE_WIDTH)
    onnx.checker.check_model(model)
    assert model.ir_version <= 8
    last = model.graph.node[-1]
    assert (last.domain, last.op_type) == ("nvkit", "DetectObjects")
    assert list(last.input) == ["class_logits", "box_deltas", "anchors"]
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in last.attribute}
    assert given["levels"] == [90_000, 22_500, 5_625, 1_521, 441]
    assert (given["candidates"], given["detections"], given["image_size"]) == (1000, 300, 800)
    path = tmp_path / "retinanet.onnx"
    onnx.save_model(model, str(path))
    names = quantizable(prepare(path))
    # Lines of the calibration cache of NVIDIA's v4.1 submission (its last layers are beyond what is quantised).
    assert {
        "images",
        "res1_maxpool_out_0",
        "res2a_branch2a_relu_out_0",
        "res3a_branch1_bias_out_0",
        "res5c_relu_out_0",
        "/backbone/fpn/inner_blocks.1/Conv_output_0",
        "/backbone/fpn/Resize_1_output_0",
        "/backbone/fpn/layer_blocks.2/Conv_output_0",
        "/backbone/fpn/extra_blocks/Relu_output_0",
        "/head/classification_head/conv/conv.7_4/Relu_output_0",
        "/head/regression_head/conv/conv.1/Relu_output_0",
    } <= set(names)
    assert "class_logits" not in names


def test_a_wider_network_computes_the_same() -> None:
    image = np.random.default_rng(1).normal(0, 1, (1, 3, 800, 800)).astype(np.float32)
    narrow, wide = (
        run(network.retinanet(parameters(width), width), image, ["detections"])[0] for width in (CORE_WIDTH, 3 / 32)
    )
    assert (narrow[0, :, 4] > 0).sum() > 50
    np.testing.assert_allclose(narrow[0, :50], wide[0, :50], atol=2e-3)
    kernel, _ = parameters(3 / 32)[network.topology(3 / 32).classification.last.name]
    assert np.count_nonzero(kernel) == kernel.size


def test_an_object_looks_alike_on_the_level_of_its_size() -> None:
    """A disc, and one of four times the size, seen from P3 and from P5."""
    shape = network.topology(CORE_WIDTH)
    known = {**backbone_weights(shape, 1), **pyramid_weights(shape, 1)}
    model, names = network.pyramid_network(known, CORE_WIDTH)
    y, x = np.mgrid[:800, :800]
    seen = []
    for level, scale in ((0, 1), (2, 4)):
        inside = (x - 416) ** 2 + (y - 416) ** 2 < (20 * scale) ** 2
        image = np.where(inside, np.array([2.0, -1.0, 0.3]).reshape(3, 1, 1), 0.2)[None].astype(np.float32)
        centre = 416 // (8 * scale)
        values = run(model, image, [names[level]])[0][0]
        seen.append(values[:, centre - 3 : centre + 4, centre - 3 : centre + 4].reshape(-1))
    assert np.corrcoef(seen[0], seen[1])[0, 1] > 0.9


def test_anchors_are_matched_as_retinanet_is_trained() -> None:
    boxes = np.array([[100, 100, 140, 140], [300, 200, 700, 600.0]])
    levels = Matcher().match(boxes)
    assert [level.shape for level in levels] == [(side, side, 9) for side in GRIDS]
    # The square anchor of 40 pixels around (120, 120) is the first box.
    assert levels[0][15, 15, 4] == 0
    assert levels[0][15, 16, 4] == 0  # shifted by 8: an overlap of 2/3
    assert levels[0][15, 17, 4] == UNSURE  # by 16: 0.43
    assert levels[0][15, 18, 4] == NOTHING
    assert not (levels[0] == 1).any()
    assert (levels[3] == 1).any()


def toy_images(rng: np.random.Generator, count: int) -> list[Annotated]:
    """Return pyramids with one object each, which its level shows as a square of its class's colour."""
    images = []
    for number in range(count):
        label = int(rng.integers(264))
        low = rng.uniform(100, 600, 2)
        box = np.concatenate([low, low + 48])
        pyramid = [rng.normal(0, 0.1, (side, side, 8)).astype(np.float32) for side in GRIDS]
        left, top, right, bottom = np.round(box / 8).astype(int)
        pyramid[0][top:bottom, left:right, :3] += np.array([1.0, *(np.array(divmod(number % 4, 2)) * 2 - 1)])
        images.append(Annotated(pyramid, box[None], np.array([label])))
    return images


def test_windows_hold_what_is_asked_of_the_heads() -> None:
    image = toy_images(np.random.default_rng(1), 1)[0]
    batch = WindowSampler([image]).draw(np.random.default_rng(2), 200)
    assert batch.values.shape == (200, ASKED + 2 * MARGIN, ASKED + 2 * MARGIN, 8)
    assert 0.2 < (batch.labels >= 0).any(axis=(1, 2)).mean() < 0.8
    assert set(np.unique(batch.labels)) == {-1, int(image.labels[0])}
    # Boxes are told from positions: each leads back to the same size.
    there = batch.boxes[(batch.anchors == 1).any(axis=3)]
    sizes = np.exp(there[:, 2:])
    assert np.isclose(sizes[:, :, None] * np.array(UNITS), 48).any(axis=2).all()
    # Where a window reaches beyond its level, it holds zeros.
    assert not batch.values[~batch.inside].any()
    assert not batch.inside.all()


def test_a_head_learns_what_its_windows_show() -> None:
    rng = np.random.default_rng(0)
    sampler = WindowSampler(toy_images(rng, 12))
    head = TrainedHead(8, np.zeros(4), rng)
    errors = []
    for _ in range(60):
        batch = sampler.draw(rng, 16)
        slope = fit._box_slope(found := head.forward(batch.values, batch.inside), batch)
        there = (batch.anchors == 1).any(axis=3)
        errors.append(np.abs(found - batch.boxes)[there].mean())
        head.learn(slope, 5e-3)
    assert np.mean(errors[-10:]) < 0.6 * np.mean(errors[:10])


def test_the_slope_of_the_class_loss_is_that_of_cross_entropy() -> None:
    """Finite differences of the loss over all pairs of anchor and class, which the slope never forms."""
    rng = np.random.default_rng(4)
    batch = WindowSampler(toy_images(rng, 2)).draw(rng, 3)
    found = rng.normal(0, 1, (*batch.labels.shape, 9 + 6 + 11 + 4))
    found[..., :9] -= 4

    def loss(values: Array) -> float:
        starts = np.cumsum([9, 6, 11, 4])
        factors = np.array([fit.objects.factors(label) for label in range(264)])
        logits = sum(values[..., starts[k] + factors[:, k]] for k in range(3))
        pairs = values[..., :9, None] + logits[..., None, :]
        odds = np.log(np.exp(pairs).sum(axis=-1))
        there = batch.anchors == 1
        anchors = np.where(there, np.log1p(np.exp(-odds)), np.log1p(np.exp(odds))) * (batch.anchors >= 0)
        place = np.nonzero(batch.labels >= 0)
        total = np.log(np.exp(logits).sum(axis=-1))[place]
        classes = (total - logits[(*place, batch.labels[place])]).mean()
        return float(anchors.sum() / there.sum() + fit._FACTOR_WEIGHT * classes)

    slope = fit._class_slope(found, batch)
    place = np.argwhere(batch.labels >= 0)[0]
    for output in (0, 8, 9, 16, 28):
        for at in (place, (0, 0, 0)):
            step = np.zeros_like(found)
            step[(*at, output)] = 1e-4
            assert (loss(found + step) - loss(found - step)) / 2e-4 == pytest.approx(slope[(*at, output)], abs=1e-5)


def test_last_layers_hold_every_class_and_the_code_of_every_anchor() -> None:
    rng = np.random.default_rng(5)
    kernel, bias = rng.normal(0, 1, (30, 2, 3, 3)), rng.normal(0, 1, 30)
    classes, biases = fit._class_layer(kernel.astype(np.float32), bias.astype(np.float32))
    shape, colour, core = fit.objects.factors(200)
    rows = [4, 9 + shape, 9 + 6 + colour, 9 + 17 + core]  # of anchor 4 and class 200
    np.testing.assert_allclose(classes[4 * 264 + 200], kernel[rows].sum(axis=0), rtol=1e-5)
    assert biases[4 * 264 + 200] == pytest.approx(bias[rows].sum(), rel=1e-5)
    # A position that says "centre 3 pixels to the right, 40 wide, 20 high" says so to each of its anchors.
    said = np.array([3 / 8, 0, np.log(40 / 8), np.log(20 / 8)], np.float32)
    _, deltas = fit._box_layer(np.zeros((4, 2, 3, 3), np.float32), said)
    anchors = fit.anchors()[:9]
    expected = encode_boxes(np.tile([[3 - 20, -10, 3 + 20, 10.0]], (9, 1)), anchors)
    np.testing.assert_allclose(deltas.reshape(9, 4), expected, atol=1e-5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def test_the_synthetic_model_finds_objects_that_it_has_not_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "fit_heads", functools.partial(fit.fit_heads, steps=120))
    given = settings()
    model = BENCHMARK.model(given, store)
    assert model.synthetic
    assert model.inputs[0].shape == (3, 800, 800)
    assert model.inputs[0].scale == pytest.approx(2.64064 / 127)
    assert model.output.name == "detections"
    assert "synthetic weights" in model.notes[0]
    data = BENCHMARK.dataset(given, store)
    samples = BENCHMARK.preprocess(given, store, data).load(range(8))["images"]
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    outputs = np.concatenate([session.run(["detections"], {"images": samples[k : k + 1]})[0] for k in range(8)])
    responses = BENCHMARK.encode(outputs, range(8))
    images = read_annotations(data.root / "annotations/openimages-mlperf.json")
    hits = [
        (overlaps(image.corners(1), rows[:, [2, 1, 4, 3]]).max(axis=1, initial=0) >= 0.5).mean()
        for image, rows in zip(images, responses.rows(), strict=False)
    ]
    assert np.mean(hits) > 0.3
    assert BENCHMARK.model(given, store).digest == model.digest
    accuracy = BENCHMARK.score({k: rows.tobytes() for k, rows in enumerate(responses.rows())}, data)
    assert accuracy.value > 0


def test_responses_are_rows_of_each_sample() -> None:
    outputs = np.zeros((3, 4, 6), np.float32)
    outputs[0, :2] = [[0.1, 0.2, 0.3, 0.4, 0.9, 263], [0, 0, 1, 1, 0.06, 0]]
    outputs[2, 0] = [0.5, 0.5, 0.6, 0.6, 0.5, 7]
    responses = BENCHMARK.encode(outputs, [17, 4, 24780])
    assert responses.lengths.tolist() == [2, 0, 1]
    assert responses.values.dtype == np.dtype("<f4")
    rows = responses.rows()
    np.testing.assert_array_equal(rows[0][0], np.array([17, 0.1, 0.2, 0.3, 0.4, 0.9, 263], np.float32))
    assert rows[1].tobytes() == b""
    assert rows[2][0, 0] == 24780
    empty = BENCHMARK.encode(np.zeros((2, 4, 6), np.float32), [0, 1])
    assert empty.values.shape == (0, 7)
    assert [len(part) for part in empty.rows()] == [0, 0]


def test_responses_agree_if_most_confident_detections_meet() -> None:
    def response(*samples: list[list[float]]) -> Ragged:
        values = np.array([row for sample in samples for row in sample], np.float32).reshape(-1, 7)
        return Ragged(values, np.array([len(sample) for sample in samples]))

    box, near, far = [0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.52, 0.5], [0.6, 0.6, 0.9, 0.9]
    expected = response([[0, *box, 0.9, 3]], [[1, *box, 0.9, 3], [1, *far, 0.1, 5]], [[2, *box, 0.9, 3]], [], [])
    found = response(
        [[0, *near, 0.6, 3]],  # another score, a box a little beside it
        [[1, *near, 0.9, 3]],  # what is missing was not confident
        [[2, *box, 0.9, 4]],  # another class
        [],
        [[4, *box, 0.9, 3]],  # something where nothing was
    )
    assert BENCHMARK.agree(expected, found).tolist() == [True, True, False, True, False]
    shifted = response([[0, *far, 0.9, 3]], *([[k, *far, 0.9, 3]] for k in range(1, 5)))
    assert not BENCHMARK.agree(expected, shifted).any()


def test_the_benchmark_is_cheap_to_import() -> None:
    code = (
        "import sys, nvkit.benchmarks.retinanet; "
        "assert not {'cv2', 'onnx', 'onnxruntime', 'pooch', 'PIL', 'pycocotools'} & set(sys.modules), "
        "sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

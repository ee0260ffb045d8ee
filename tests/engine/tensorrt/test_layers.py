from __future__ import annotations

import json

from nvkit.engine.tensorrt.layers import from_inspector, from_log, summary, to_json

LOG = """Layers:
Name: quantise_myl0_1, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [-1,3,16,16], Strides: [768,256,16,1], \
StrideOrder: [3,2,1,0], Datatype: Float, Format: (Linear) Row major linear format }], Constants: [ { Name: c, \
Dimensions: [1], Datatype: Float, Format: (Linear) Row major linear format }], Outputs: [ { Name: y, Dimensions: \
[-1,3,16,16], Datatype: Int8, Format: (NHWC) Channel major format }], TacticName: one, StreamId: 0, Metadata:
Name: stem_myl0_2, LayerType: correlation, Inputs: [ { Name: y, Dimensions: [-1,4,16,16], Datatype: Int8, Format: \
(NHWC) Channel major format }], Constants: [], Outputs: [ { Name: z, Dimensions: [-1,4,16,16], Datatype: Half, Format: \
(NHWC) Channel major format }], TacticName: two, StreamId: 0, Metadata:
Name: stem [profile 1]_myl1_2, LayerType: correlation, Inputs: [ { Name: y, Dimensions: [-1,4,16,16], Datatype: Int8, \
Format: (NHWC) Channel major format }], Constants: [], Outputs: [], TacticName: two, StreamId: 0, Metadata:

I/O Tensors:
 Name: x, IOMode: Input, DataType: Float
"""


def test_layers_are_read_from_a_build_log() -> None:
    first, second = from_log(LOG)
    assert (first.type, first.precision, first.output, first.tactic) == ("kgen", "fp32", "int8", "one")
    assert (second.name, second.precision, second.output) == ("stem_myl0_2", "int8", "fp16")
    assert second.format == "(NHWC) Channel major format"
    assert from_log("") == []


def test_layers_are_read_from_the_inspector_of_old_and_new_releases() -> None:
    old = {"Name": "a", "LayerType": "CaskConvolution", "TacticName": "k", "Outputs": [], "Inputs": [
        {"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}  # fmt: skip
    new = {"Name": "b", "LayerType": "gemm", "Inputs": [{"Name": "x", "Datatype": "FP8", "Format": "Linear"}]}
    again = {**old, "Name": "a [profile 1]"}
    found = from_inspector(json.dumps({"Layers": [old, new, again, "only a name"]}))
    assert [(layer.name, layer.type, layer.precision) for layer in found] == [
        ("a", "CaskConvolution", "int8"),
        ("b", "gemm", "fp8"),
        ("only a name", "unknown", "unknown"),
    ]


OLD_LOG = """Engine Layer Information:
Layer(CaskConvolution): stem + relu, Tactic: 0x01, x (Int8[-1,3,16,16]) -> y (Int8[-1,64:32,8,8])
Layer(PluginV2): nvkit/res2, Tactic: 0x00, y (Int8[-1,64:32,8,8]), z (Half[-1,64]) -> w (Float[-1,256])
Layer(Scale): older, Tactic: 0, a[Half(-2,3,4,4)] -> b[Int8(-2,3,4,4)]
"""


def test_types_that_the_old_inspector_does_not_tell_come_from_the_log_or_the_weights() -> None:
    untold = [{"Name": "t", "Format/Datatype": "N/A due to dynamic shapes"}]
    common = {"LayerType": "CaskConvolution", "Inputs": untold, "Outputs": untold}
    names = ["stem + relu", "nvkit/res2", "older", "not in the log", "ConvActPool", "nothing known"]
    entries = [{"Name": name, **common} for name in names]
    entries[3]["Weights"] = {"Type": "Int8", "Count": 9}
    entries[4]["ConvWeights"] = {"Type": "Half", "Count": 9}
    found = from_inspector(json.dumps({"Layers": entries}), OLD_LOG)
    assert [(layer.precision, layer.output, layer.format) for layer in found] == [
        ("int8", "int8", "linear"),
        ("int8", "fp32", "chw32"),
        ("fp16", "int8", "linear"),
        ("int8", "unknown", ""),
        ("fp16", "unknown", ""),
        ("unknown", "unknown", ""),
    ]


def test_the_summary_counts_types_with_their_precision() -> None:
    layers = from_log(LOG)
    counts, facts = summary(layers)
    assert counts == {"kgen fp32": 1, "correlation int8": 1}
    assert facts["precisions"] == {"fp32": 1, "int8": 1}
    kept = to_json(layers, LOG)
    assert kept["layers"][1]["tactic"] == "two"
    assert kept["tensorrt"][0] == "Layers:"
    assert to_json([], '{"Layers": []}')["tensorrt"] == {"Layers": []}

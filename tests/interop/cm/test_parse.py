from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvkit.errors import ConfigError
from nvkit.interop.cm.parse import Parsed, parse

TAGS = ["reproduce", "mlperf", "inference", "nvidia", "harness", "_l4", "_bert-99"]
SPACED, JOINED = " ".join(TAGS), ",".join(TAGS)
FLAG_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: (
        name not in ("tags", "env", "const", "ad", "adr", "add_deps", "action", "automation", "cmd", "artifact")
    )
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@pytest.mark.parametrize(
    "text",
    [
        f"cm run script --tags={JOINED} --gpu_batch_size=128",
        f'cm run script "{SPACED}" --gpu_batch_size=128',
        f'cmr "{SPACED}" --gpu-batch-size=128',
        f'$ cmr "{SPACED}" \\\n   --gpu_batch_size=128',
        f"cmr “{SPACED}” --gpu_batch_size=128",
        f"mlcr {JOINED} --gpu_batch_size=128",
        f'mlcr "{SPACED}" --gpu_batch_size=128',
        f"mlc run script --tags={JOINED} --gpu_batch_size=128",
        f'cm run script "{" ".join(TAGS[:5])}" "_l4 _bert-99" --gpu_batch_size=128',
        str({"action": "run", "automation": "script", "tags": JOINED, "gpu_batch_size": 128}),
        f"import cmind\nr = cmind.access({{'action': 'run', 'tags': '{JOINED}', 'gpu_batch_size': 128}})\nprint(r)",
        json.dumps({"action": "run", "automation": "script,5b4e0237da074764", "tags": JOINED, "gpu_batch_size": 128}),
    ],
)
def test_every_form_says_the_same(text: str) -> None:
    assert parse([text]) == Parsed(action="run", tags=TAGS, flags={"gpu_batch_size": "128"})


def test_words_may_come_one_by_one() -> None:
    assert parse(["cmr", SPACED, "--gpu_batch_size=128"]) == parse([f'cmr "{SPACED}" --gpu_batch_size=128'])


def test_variables_dependencies_and_flags_without_value() -> None:
    parsed = parse([f"cm docker script --tags={JOINED} --env.CM_A=1 --const.B=x=y --adr.compiler.tags=gcc -j --rerun"])
    assert parsed.action == "docker"
    assert (parsed.env, parsed.const) == ({"CM_A": "1"}, {"B": "x=y"})
    assert parsed.dependencies == {"adr.compiler.tags": "gcc"}
    assert parsed.flags == {"j": "True", "rerun": "True"}


@pytest.mark.parametrize("name", ["input.json", "input.yaml"])
def test_an_input_file_is_read_where_it_stands(name: str, tmp_path: Path) -> None:
    content = {"tags": JOINED, "mode": "accuracy", "env": {"CM_A": 1}, "gpu_batch_size": 8}
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    parsed = parse([f"cm run script @{path} --gpu_batch_size=16"])
    assert parsed.tags == TAGS
    assert parsed.flags == {"mode": "accuracy", "gpu_batch_size": "16"}
    assert parsed.env == {"CM_A": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No CM command"),
        ("python run.py", "not a CM command"),
        ("cmm run script --tags=a", "Did you mean 'cm"),
        ("cm find cache --tags=a", "runs no script"),
        ("cm run", "runs no script"),
        ('cmr "a', "cannot be split"),
        ("cm run script @nowhere.json", "cannot be read: No such file"),
        (f"cm run script --tags={JOINED} --gpu_batch_size 64", "Write --gpu_batch_size=64"),
        (f"cm run script --tags={JOINED} -- --count 3", "What follows --"),
        (f"cm run script --tags={JOINED} --env=x", "names no variable"),
        ("{'action':'run' 'automation':'script'}", "neither JSON nor a Python literal"),
        ("{'action': 'find', 'automation': 'cache'}", "runs no script"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse([text])


@pytest.mark.parametrize("content", ["{", "[1, 2]", "{'tags': }"])
def test_a_bad_input_file_names_itself(content: str, tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"input\.json"):
        parse([f"cmr @{path}"])


@given(
    st.dictionaries(FLAG_NAMES, VALUES, max_size=5),
    st.dictionaries(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), VALUES),
)
def test_command_line_and_dict_agree_whatever_the_values_are(flags: dict[str, str], env: dict[str, str]) -> None:
    words = ["cm", "run", "script", f"--tags={JOINED}", *(f"--{k}={v}" for k, v in flags.items())]
    words += [f"--env.{name}={value}" for name, value in env.items()]
    from_dict = parse([repr({"action": "run", "automation": "script", "tags": JOINED, "env": env, **flags})])
    assert parse(words) == from_dict == parse([shlex.join(words)])

from __future__ import annotations

from pathlib import Path

import pytest

from nvkit.config import BenchmarkFile, ProfileFile, RoundFile, load, names
from nvkit.config.files import read_yaml
from nvkit.errors import ConfigError


def _profile(folder: Path, text: str, name: str = "mine") -> Path:
    for sub in ("gpus", "rounds", "benchmarks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / "gpus" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


GOOD = "name: mine\ntitle: t\nsource: s\ndevice: {kind: cpu}\n"


def test_every_committed_file_loads() -> None:
    for kind in (BenchmarkFile, ProfileFile, RoundFile):
        for name in names(kind):
            assert load(kind, name)[0].name == name
    assert names(RoundFile) == ["v2.1", "v3.0", "v3.1", "v4.0", "v4.1", "v5.0", "v5.1", "v6.0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "title: again\n", "duplicate key"),
        (GOOD + "devise: {}\n", "Did you mean 'device'?"),
        (GOOD.replace("kind: cpu", "knd: cpu"), "device.kind: Field required"),
        (GOOD.replace("name: mine", "name: other"), "says name: other"),
        (GOOD + "scenarios: {Ofline: {batch_size: 1}}\n", "Did you mean 'Offline'?"),
        (GOOD + "defaults: [1\n", "mine.yaml:"),
        ("just text\n", "Mend"),
    ],
)
def test_a_bad_profile_is_one_message_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(ProfileFile, "mine", _profile(tmp_path / "parameters", text))
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no profile 'cpuu'\. Did you mean 'cpu'\?"):
        load(ProfileFile, "cpuu")


def test_yaml_is_1_2_and_remembers_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e5\nb:\n  c: on\n  d: 010\n", encoding="utf-8")
    loaded = read_yaml(path, "a.yaml")
    assert loaded.content == {"a": 1e5, "b": {"c": "on", "d": 10}}
    assert loaded.where(("b", "d")) == "a.yaml:4"


def test_not_utf8_is_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(path, "a.yaml")

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nvkit.bench import PARTS, bench
from nvkit.errors import BackendUnavailableError, ConfigError, InputError
from nvkit.tables import Table


def test_wrong_names_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'server'"):
        bench(None, "offline,sever", 1)
    with pytest.raises(ConfigError, match="--reference"):
        bench(None, "reference", 1)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a checkout of mlcommons/inference"):
        next(bench(tmp_path, "reference", 1))


def test_parts_are_measured_in_turn_and_the_reference_only_when_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, tuple[object, ...]]] = []

    def part(module: str) -> object:
        name = module.rpartition(".")[2]

        def measure(store: object, repeat: int, *rest: object) -> Table:
            calls.append((name, repeat, rest))
            return Table(["part"], [[name]])

        return SimpleNamespace(measure=measure)

    monkeypatch.setattr("nvkit.bench.import_module", part)
    usual = [name for name in PARTS if name not in ("reference", "gpu")]
    assert [table.rows[0][0] for table in bench(None, "", 2)] == usual
    assert [table.rows[0][0] for table in bench(tmp_path, "", 1)] == [*usual, "reference"]
    assert [table.rows[0][0] for table in bench(tmp_path, "preprocess, offline", 1)] == ["preprocess", "offline"]
    assert calls[0] == ("offline", 2, ())
    assert ("reference", 1, (tmp_path,)) in calls


def test_part_gpu_refuses_a_profile_without_one_and_other_parts_refuse_its_settings() -> None:
    with pytest.raises(BackendUnavailableError, match="Profile cpu runs on onnxruntime"):
        next(bench(None, "gpu", 1, "cpu"))
    with pytest.raises(ConfigError, match="Settings, scenario and benchmark belong to part gpu"):
        next(bench(None, "offline", 1, overrides={"batch_size": 4}))

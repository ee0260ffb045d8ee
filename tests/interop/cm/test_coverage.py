from __future__ import annotations

from pathlib import Path

import pytest

from nvkit.config import parameters_folder
from nvkit.errors import ConfigError
from nvkit.interop.cm import coverage, data
from nvkit.interop.cm.data import Place
from nvkit.interop.cm.places import missing


def test_the_table_is_up_to_date(tmp_path: Path) -> None:
    written = coverage.main(tmp_path)
    committed = parameters_folder() / "coverage.md"
    assert written.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8"), (
        "parameters/coverage.md is not what nvkit does: run python -m nvkit.interop.cm.coverage"
    )


def test_all_variations_and_flags_have_a_place() -> None:
    variations, flags = coverage.variation_rows(), coverage.flag_rows()
    assert (len(variations), len(flags)) == (156, 45)
    assert [row.problem for row in (*variations, *flags) if row.problem] == []
    assert len(coverage.run_mode_rows()) == 7
    assert len(coverage.default_rows()) == 20


@pytest.mark.parametrize(
    "place",
    [
        Place("setting", "gpu_batch_size"),
        Place("setting", "offline", {"Ofline": "offline_expected_qps"}),
        Place("option", "roundabout"),
        Place("stage", "prebuild"),
        Place("doctor", "Tensorrt"),
        Place("pyproject", "torch"),
        Place("profile", "rtx_3090"),
        Place("benchmark", "gptj"),
        Place("none", ""),
    ],
)
def test_a_place_that_is_not_there_is_found_out(place: Place) -> None:
    assert missing(place)


def test_the_table_is_refused_when_something_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {**data.places(), "CM_MLPERF_NVIDIA_HARNESS_INPUT_FORMAT": Place("setting", "input_shape")}
    monkeypatch.setattr(coverage, "places", lambda: gone)
    monkeypatch.setattr(coverage, "variation_rows", list)
    with pytest.raises(ConfigError, match="--input_format: no setting input_shape"):
        coverage.text()


def test_the_eleven_defects_are_decided() -> None:
    assert len({decision.name for decision in data.decisions()}) >= 11
    assert {decision.choice for decision in data.decisions()} == {"mend", "reproduce"}
    known = set(data.places())
    for decision in data.decisions():
        for condition in ("env", "unset", "idle", "said_no"):
            assert known.issuperset(decision.when.get(condition, ()))
        assert set(data.flags()).issuperset(decision.when.get("flags", ()))

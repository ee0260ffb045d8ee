from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import ConfigError, InputError
from nvkit.record.stored_run import open_stored
from nvkit.record.submission import submit
from nvkit.record.submission_layout import Layout
from nvkit.record.submission_rules import entry, guessed_system_type, required_scenarios
from nvkit.record.submission_text import mlperf_conf
from nvkit.record.submission_tree import system_id, truncate

_CHECKER = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--input", required=True)
parser.add_argument("--version", choices=["v4.1"])
parser.add_argument("--submitter")
parser.add_argument("--csv")
parser.add_argument("--skip-power-check", action="store_true")
args = parser.parse_args()
names = os.listdir(os.path.join(args.input, "closed", args.submitter))
assert {{"systems", "results", "measurements", "compliance", "code", "documentation"}} == set(names), names
open(args.csv, "w").write("x")
{body}
"""


def _checkout(folder: Path, *lines: str) -> Path:
    script = folder / "tools" / "submission" / "submission_checker.py"
    script.parent.mkdir(parents=True)
    script.write_text(_CHECKER.format(body="\n".join(lines)))
    (folder / "mlperf.conf").write_text("*.*.qsl_rng_seed = 1\n")
    return folder


@pytest.fixture(scope="module")
def tree(complied: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test tree of a run with its compliance tests."""
    return submit([complied.run.path], "Example", "v4.1", tmp_path_factory.mktemp("tree") / "out", test=True).path


def test_a_quick_run_on_generated_data_is_refused_with_every_reason(complied: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        submit([complied.run.path], "Example", "v4.1", tmp_path / "out")
    for words in (
        "quick run, not an official result",
        "synthetic weights",
        "generated data",
        "min_duration is 300 ms",
        "below the accuracy target",
        "MultiStream is missing",
        "cooling must be filled in",
    ):
        assert words in caught.value.what
    assert "--test" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_the_old_layout_has_every_file_and_no_other(tree: Path) -> None:
    root = tree / "closed" / "Example"
    (system,) = (path.name for path in (root / "results").iterdir())
    for scenario in ("Offline", "SingleStream"):
        results = root / "results" / system / "resnet50" / scenario
        assert {p.name for p in (results / "performance" / "run_1").iterdir()} == {
            "mlperf_log_detail.txt",
            "mlperf_log_summary.txt",
        }
        assert {p.name for p in (results / "accuracy").iterdir()} == {
            "accuracy.txt",
            "mlperf_log_accuracy.json",
            "mlperf_log_detail.txt",
            "mlperf_log_summary.txt",
        }
        measurements = root / "measurements" / system / "resnet50" / scenario
        name = f"{system}_nvkit-onnxruntime_{scenario}.json"
        assert {p.name for p in measurements.iterdir()} == {"README.md", "mlperf.conf", "user.conf", name}
        facts = json.loads((measurements / name).read_text())
        assert facts["weight_data_types"] == "int8"
        assert "53 Conv" in facts["weight_transformations"]
        compliance = root / "compliance" / system / "resnet50" / scenario
        assert {p.name for p in compliance.iterdir()} == {"TEST01", "TEST04", "TEST05"}
        assert {p.name for p in (compliance / "TEST01").iterdir()} >= {"verify_accuracy.txt", "verify_performance.txt"}
        assert (compliance / "TEST01" / "accuracy" / "accuracy.txt").read_text().startswith("hash=")
        assert (compliance / "TEST05" / "performance" / "run_1" / "mlperf_log_detail.txt").is_file()
    assert (root / "code" / "resnet50" / "nvkit-onnxruntime" / "README.md").is_file()
    assert (root / "code" / "nvkit" / "nvkit" / "harness" / "sut.py").is_file()
    described = json.loads((root / "systems" / f"{system}.json").read_text())
    assert (described["submitter"], described["division"], described["system_type"]) == ("Example", "closed", "edge")
    bad = [p for p in tree.rglob("*") if p.name.startswith(".") or " " in p.name or p.name == "__pycache__"]
    assert not bad


def test_a_test_tree_says_so_everywhere(tree: Path) -> None:
    root = tree / "closed" / "Example"
    assert "generated data" in (tree / "TEST-TREE.md").read_text()
    (system,) = (root / "systems").iterdir()
    assert json.loads(system.read_text())["sw_notes"].startswith("test tree, not a submission")
    for readme in root.glob("measurements/*/*/*/README.md"):
        assert "Test tree, not a submission" in readme.read_text()
    assert "Test tree, not a submission" in (root / "documentation" / "calibration.md").read_text()


def test_calibration_is_told_from_what_was_done(tree: Path) -> None:
    text = (tree / "closed" / "Example" / "documentation" / "calibration.md").read_text()
    assert "8 samples of the calibration set" in text
    assert "Kullback-Leibler" in text
    assert "53 Conv" in text
    assert "- int8 on 16 validation samples: accuracy=" in text
    assert text.count(".JPEG") == 8


def test_readmes_give_the_command_that_runs_it_again(tree: Path) -> None:
    readme = next((tree / "closed" / "Example").glob("measurements/*/*/Offline/README.md")).read_text()
    assert "nvkit run resnet50 --profile cpu --round v4.1 --scenario Offline --mode both --power MaxP --quick" in readme
    assert "--synthetic-width 0.125" in readme


def test_the_checkers_verdict_is_shown(complied: Any, tmp_path: Path) -> None:
    lines = [
        'print("[2026-01-01 00:00:00,000 checker.py:1 ERROR] x Test duration less than 600s in user config.")',
        'print("[2026-01-01 00:00:00,000 submission_checker.py:1 ERROR] the moon is missing")',
        """print("[t x ERROR] y does not have all required scenarios, missing {'Offline'}")""",
        """print("[t x ERROR] y does not have all required scenarios, missing {'MultiStream'}")""",
        'print("[t x ERROR] SUMMARY: submission has errors")',
        "raise SystemExit(1)",
    ]
    said = submit(
        [complied.run.path],
        "Example",
        "v4.1",
        tmp_path / "a tree",
        test=True,
        inference=_checkout(tmp_path / "c", *lines),
    )
    assert said.verdict
    assert not said.verdict.passed
    assert said.verdict.code == 1
    assert [one.about for one in said.verdict.complaints] == [
        "shorter or smaller than the rules",
        "something else",
        "follows from another complaint",
        "a scenario is missing",
        "follows from another complaint",
    ]
    assert "NOT accepted" in said.headline()
    assert "1 something else" in str(said)
    conf = next((said.path / "closed" / "Example").glob("measurements/*/*/Offline/mlperf.conf"))
    assert conf.read_text() == "*.*.qsl_rng_seed = 1\n"


def test_a_tree_that_the_checker_accepts(complied: Any, tmp_path: Path) -> None:
    ok = 'print("[t x INFO] SUMMARY: submission looks OK")'
    said = submit(
        [complied.run.path], "Example", "v4.1", tmp_path / "tree", test=True, inference=_checkout(tmp_path / "c", ok)
    )
    assert said.verdict
    assert said.verdict.passed
    assert said.headline().endswith("accepted by MLCommons' submission checker")
    assert "test tree, not a submission" in said.headline()


def test_a_checker_of_another_round_is_refused(complied: Any, tmp_path: Path) -> None:
    checkout = _checkout(tmp_path / "c")
    script = checkout / "tools" / "submission" / "submission_checker.py"
    script.write_text(script.read_text().replace('choices=["v4.1"]', 'choices=["v5.0", "v5.1"]'))
    with pytest.raises(ConfigError, match=r"does not know v4\.1; it knows v5\.0, v5\.1"):
        submit([complied.run.path], "Example", "v4.1", tmp_path / "tree", test=True, inference=checkout)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"round": "v5.1"}, "its seeds are others"),
        ({"submitter": "a b"}, "cannot be a folder's name"),
        ({"division": "closd"}, "Did you mean 'closed'"),
        ({"system_type": "edgy"}, "no system type 'edgy'"),
        ({"status": "soon"}, "no status 'soon'"),
    ],
)
def test_what_cannot_be_submitted_is_refused_even_as_a_test(
    complied: Any, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    wanted = {"submitter": "Example", "round": "v4.1", **change}
    with pytest.raises((InputError, ConfigError)) as caught:
        submit([complied.run.path], out=tmp_path / "out", test=True, **wanted)
    assert words in str(caught.value)


def test_one_benchmark_of_one_system_is_given_once(complied: Any, tree: Path, tmp_path: Path) -> None:
    twice = [complied.run.path, complied.run.path]
    with pytest.raises(InputError, match="Two of the runs are of resnet50"):
        submit(twice, "Example", "v4.1", tmp_path / "out", test=True)
    with pytest.raises(InputError, match="exists already"):
        submit([complied.run.path], "Example", "v4.1", tree, test=True)
    with pytest.raises(InputError, match="No run was given"):
        submit([], "Example", "v4.1", tmp_path / "out")


def test_facts_of_the_system_are_the_users_to_give(complied: Any, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text('{"cooling": "air", "host_memory_configuration": "2x 16 GB"}')
    said = submit([complied.run.path], "Example", "v4.1", tmp_path / "out", test=True, facts=facts, system="mine")
    described = json.loads((said.path / "closed/Example/systems/mine.json").read_text())
    assert described["cooling"] == "air"
    assert not any("must be filled in" in one for one in said.objections)
    facts.write_text('{"coolin": "air"}')
    with pytest.raises(ConfigError, match="Did you mean 'cooling'"):
        submit([complied.run.path], "Example", "v4.1", tmp_path / "other", test=True, facts=facts)


def _as_if_real(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    stages = run / "stages"
    setup, results = json.loads((stages / "setup.json").read_text()), json.loads((stages / "run.json").read_text())
    change(setup, results)
    (stages / "setup.json").write_text(json.dumps(setup))
    (stages / "run.json").write_text(json.dumps(results))


def test_without_objections_a_run_is_a_submission(complied: Any, tmp_path: Path) -> None:
    """The rules are asked of a record that claims to follow all of them, not of the folder's origin."""
    run = Path(shutil.copytree(complied.run.path, tmp_path / "runs" / complied.run.path.name))
    config = json.loads((run / "config.json").read_text())
    config["quick"], config["rules"]["edge"], config["rules"]["accuracy_target"] = False, ["Offline", "SingleStream"], 0
    (run / "config.json").write_text(json.dumps(config))

    def real(setup: dict[str, Any], results: dict[str, Any]) -> None:
        setup["model"]["synthetic"] = setup["data"]["generated"] = False
        for test in results["tests"]:
            test["summary"]["departures"] = []
            test["summary"]["verdict"] = {"valid": True, "reasons": []}

    _as_if_real(run, real)
    for path in (run / "stages").glob("compliance-*-verified.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"performance": True}))
    assert entry(open_stored(run), "v4.1", "edge", "closed").objections == ()
    (run / "stages" / "compliance-Offline-TEST04-verified.json").unlink()
    assert entry(open_stored(run), "v4.1", "edge", "closed").objections == ("Offline: TEST04 was not run",)
    assert entry(open_stored(run), "v4.1", "edge", "open").objections == ()


def test_the_system_type_follows_the_scenarios(complied: Any) -> None:
    run = open_stored(complied.run.path)
    assert guessed_system_type([run]) == "edge"
    assert required_scenarios(run, "datacenter") == ("Server", "Offline")
    assert required_scenarios(run, "datacenter,edge") == ("Server", "Offline", "SingleStream", "MultiStream")
    with pytest.raises(InputError, match=r"There is no .*config\.json"):
        open_stored(complied.run.path.parent)


def test_the_new_layout_keeps_a_scenario_together() -> None:
    old, new = Layout(Path("r"), "v5.1"), Layout(Path("r"), "v6.0")
    assert old.compliance("s", "b", "Offline", "TEST01") == Path("r/compliance/s/b/Offline/TEST01")
    assert new.compliance("s", "b", "Offline", "TEST01") == Path("r/results/s/b/Offline/TEST01")
    assert new.measurements("s", "b", "Offline") == new.results("s", "b", "Offline")
    assert new.measurements_file("s", "i", "Offline") == "measurements.json"
    assert (old.code.name, new.code.name) == ("code", "src")
    assert not old.needs_mlperf_conf
    assert Layout(Path("r"), "v4.1").needs_mlperf_conf


def test_an_accuracy_log_is_shortened_to_its_ends(tmp_path: Path) -> None:
    whole = b"a" * 5000 + b"b" * 5000
    (tmp_path / "mlperf_log_accuracy.json").write_bytes(whole)
    (tmp_path / "accuracy.txt").write_text("accuracy=1.000%, good=1, total=100")
    digest = truncate(tmp_path)
    assert digest == hashlib.sha256(whole).hexdigest()
    assert (tmp_path / "mlperf_log_accuracy.json").read_bytes() == b"a" * 4096 + b"\n\n...\n\n" + b"b" * 4096
    assert (tmp_path / "accuracy.txt").read_text() == f"accuracy=1.000%, good=1, total=100\nhash={digest}\n"


def test_names_and_conf() -> None:
    assert system_id({"system_name": "8x NVIDIA H200 (SXM, 141 GB)"}, "tensorrt") == "8x_NVIDIA_H200_SXM_141_GB_TRT"
    lines = mlperf_conf("v4.1", "resnet50").splitlines()
    assert "*.*.qsl_rng_seed = 3066443479025735752" in lines
    assert "resnet50.Server.target_latency = 15" in lines
    assert "*.SingleStream.target_latency_percentile = 90" in lines
    assert "resnet50.*.performance_sample_count_override = 1024" in lines

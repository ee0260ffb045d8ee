from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nvkit.config import RunConfig, resolve
from nvkit.errors import BackendUnavailableError, ConfigError, MissingPackageError
from nvkit.power import applied, check, jetson, left_over, plan


class FakeNvml(types.ModuleType):
    """GPUs with power limits in mW; whatever else is asked is not supported."""

    NVML_CLOCK_SM = 1
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION = 3, 4

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            super().__init__({3: "Not Supported", 4: "Insufficient Permissions", 15: "GPU is lost"}[value])
            self.value = value

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.cards: list[dict[str, Any]] = []
        self.set_calls: list[tuple[int, int]] = []
        self.open = 0
        self.root = True

    def add(self, name: str = "NVIDIA A100 80GB PCIe", now: int = 300_000, least: int = 150_000, **more: Any) -> None:
        card = {"name": name, "now": now, "least": least, "most": 300_000, "default": 300_000, "cap": 10**9}
        self.cards.append(card | {"persistent": 1, "supported": True, "pci": 0x20B510DE, "lost": False} | more)

    def _card(self, index: int) -> dict[str, Any]:
        assert self.open, "NVML is used outside of nvmlInit and nvmlShutdown"
        card = self.cards[index]
        if card["lost"]:
            raise self.NVMLError(15)
        if not card["supported"]:
            raise self.NVMLError(3)
        return card

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetCount": lambda: len(self.cards),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: self.cards[index]["name"],
            "nvmlDeviceGetPciInfo": lambda index: types.SimpleNamespace(pciDeviceId=self.cards[index]["pci"]),
            "nvmlDeviceGetPowerManagementLimit": lambda index: self._card(index)["now"],
            "nvmlDeviceGetEnforcedPowerLimit": lambda index: min(self._card(index)["now"], self._card(index)["cap"]),
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda index: self._card(index)["default"],
            "nvmlDeviceGetPowerManagementLimitConstraints": lambda index: [
                self._card(index)["least"],
                self._card(index)["most"],
            ],
            "nvmlDeviceGetPersistenceMode": lambda index: self._card(index)["persistent"],
            "nvmlDeviceSetPowerManagementLimit": self._set,
        }
        if name.startswith("nvml") and name not in answers:
            return self._unsupported
        if name not in answers:
            raise AttributeError(name)
        return answers[name]

    def _unsupported(self, *_: Any) -> None:
        raise self.NVMLError(3)

    def _set(self, index: int, milliwatts: int) -> None:
        card = self._card(index)
        if not self.root or card.get("locked"):
            raise self.NVMLError(4)
        self.set_calls.append((index, milliwatts))
        card["now"] = milliwatts


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    yield fake
    assert fake.open == 0


def config(power: str = "MaxQ", profile: str = "a100_pcie", scenario: str = "Offline,Server", **more: Any) -> RunConfig:
    if more:
        return resolve(profile, "resnet50", scenario, round="v3.0", power=power, **more)
    return _config(power, profile, scenario)


@cache
def _config(power: str, profile: str, scenario: str) -> RunConfig:
    return resolve(profile, "resnet50", scenario, round="v3.0", power=power)


@cache
def orin(power: str = "MaxQ", implementation: str = "nvkit") -> RunConfig:
    return resolve("orin", "resnet50", "Offline", round="v2.1", power=power, implementation=implementation)


def limits_now(nvml: FakeNvml) -> list[float]:
    return [card["now"] / 1000 for card in nvml.cards]


def test_the_plan_has_the_commands_of_nvidias_limit_for_the_scenario_and_what_puts_it_back(nvml: FakeNvml) -> None:
    nvml.add()
    offline, server = (plan(config(), scenario).steps for scenario in ("Offline", "Server"))
    assert offline[0].commands == ("sudo nvidia-smi -i 0 -pl 195",)
    assert offline[0].back == ("sudo nvidia-smi -i 0 -pl 300",)
    assert server[0].commands == ("sudo nvidia-smi -i 0 -pl 200",)
    assert nvml.set_calls == []


def test_without_persistence_mode_a_limit_would_be_lost_so_its_commands_turn_it_on(nvml: FakeNvml) -> None:
    nvml.add(persistent=0)
    (step,) = plan(config(), "Offline").steps
    assert step.commands == ("sudo nvidia-smi -i 0 -pm 1", "sudo nvidia-smi -i 0 -pl 195")
    assert step.back == ("sudo nvidia-smi -i 0 -pl 300", "sudo nvidia-smi -i 0 -pm 0")
    assert "-pm 1; sudo nvidia-smi -i 0 -pl 195" in str(plan(config(), "Offline").table())


def test_maxp_sets_nothing_and_asks_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nothing = plan(config("MaxP"), "Offline")
    assert nothing.steps == ()
    with applied(nothing, apply=False, outputs=tmp_path) as record:
        pass
    assert record.to_json() == {"power": "MaxP", "scenario": "Offline", "apply": False, "steps": [], "notes": []}


def test_a_limit_that_the_user_gives_counts_at_maxp_too(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    limited = plan(config("MaxP", overrides={"power_limit": 250}), "Offline")
    with (
        pytest.raises(ConfigError, match=r"MaxP is not in force.*300 W, wanted 250 W"),
        applied(limited, apply=False, outputs=tmp_path),
    ):
        pytest.fail("the test must not begin")


@pytest.mark.parametrize("watts", [100, 301])
def test_a_limit_outside_of_what_the_gpu_takes_names_both_bounds_and_who_wants_it(nvml: FakeNvml, watts: int) -> None:
    nvml.add()
    with pytest.raises(ConfigError, match=rf"150 to 300 W; flag or notebook parameter wants {watts} W"):
        plan(config(overrides={"power_limit": watts}), "Offline")


def test_maxq_without_a_value_for_the_scenario_is_refused() -> None:
    with pytest.raises(ConfigError, match="MaxQ has no power limit or clock for resnet50 SingleStream"):
        plan(config(scenario="SingleStream"), "SingleStream")


def test_maxq_on_another_backend_says_why_nothing_is_set() -> None:
    with pytest.raises(ConfigError, match="it belongs to backends tensorrt, tensorrt-rtx; this is onnxruntime"):
        plan(config(overrides={"backend": "onnxruntime"}), "Offline")


def test_a_profile_without_gpu_has_no_power_mode(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Profile cpu has no MaxQ"):
        config(profile="cpu")
    parameters = tmp_path / "parameters"
    real = Path(__file__).parents[1] / "parameters"
    (parameters / "gpus").mkdir(parents=True)
    for folder in ("benchmarks", "rounds"):
        (parameters / folder).symlink_to(real / folder)
    cpu = (real / "gpus" / "cpu.yaml").read_text(encoding="utf-8")
    (parameters / "gpus" / "cpu.yaml").write_text(f"{cpu}\npower:\n  MaxQ: {{defaults: {{power_limit: 65}}}}\n")
    with pytest.raises(ConfigError, match="Profile cpu has no GPU, so there is nothing for MaxQ to set"):
        plan(config(profile="cpu", parameters=parameters), "Offline")


def test_without_driver_package_or_gpu_the_reason_is_clear(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailableError, match="shows no GPU"):
        plan(config(), "Offline")
    monkeypatch.setattr(nvml, "nvmlInit", nvml._unsupported)
    with pytest.raises(BackendUnavailableError, match="does not answer about power limits: Not Supported"):
        plan(config(), "Offline")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingPackageError, match="nvidia-ml-py"):
        plan(config(), "Offline")


def test_a_gpu_whose_limit_cannot_be_set_is_refused_at_maxq_and_free_at_maxn(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add(supported=False)
    with pytest.raises(ConfigError, match=r"GPU 0 \(NVIDIA A100 80GB PCIe\) does not let its power limit be set"):
        plan(config(), "Offline")
    free = plan(config("MaxN"), "Offline")
    with applied(free, apply=True, outputs=tmp_path) as record:
        pass
    assert [row.outcome for row in record.during.rows] == ["not checked", "not checked"]


def test_maxn_wants_the_profiles_limit_or_the_gpus_default_and_frees_the_clocks(nvml: FakeNvml) -> None:
    nvml.add(now=200_000)
    limit, clocks = plan(config("MaxN"), "Offline").steps
    assert limit.commands == ("sudo nvidia-smi -i 0 -pl 300",)
    assert clocks.commands == ("sudo nvidia-smi -i 0 -rgc",)
    nvml.cards[0]["default"] = 250_000
    free = config("MaxN")
    unsaid = replace(free, scenarios={"Offline": free.shared.model_copy(update={"power_limit": None})})
    assert plan(unsaid, "Offline").steps[0].wanted == 250


def test_only_gpus_of_the_product_are_limited_or_those_that_were_asked_for(nvml: FakeNvml) -> None:
    nvml.add("NVIDIA T400", now=31_000, least=20_000, most=31_000, pci=0x1FF210DE)
    nvml.add()
    nvml.add(pci=0xFFFF10DE)  # known by its name
    assert [step.gpu for step in plan(config(), "Offline").steps] == [1, 2]
    assert [step.gpu for step in plan(config(), "Offline", gpus=[2]).steps] == [2]
    with pytest.raises(ConfigError, match=r"There is no GPU 5\. This machine has GPU 0, 1, 2"):
        plan(config(), "Offline", gpus=[5])
    original = config(implementation="nvidia-original", overrides={"devices": "1"})
    assert [step.gpu for step in plan(original, "Offline").steps] == [1]
    with pytest.raises(ConfigError, match="'all' is not a list of GPU numbers"):
        plan(config(implementation="nvidia-original", overrides={"devices": "all"}), "Offline")


def test_a_gpu_that_no_profile_names_is_limited_too(nvml: FakeNvml) -> None:
    nvml.add("NVIDIA A100X", pci=0xFFFF10DE)
    assert [step.gpu for step in plan(config(), "Offline").steps] == [0]


def test_the_check_shows_found_and_wanted(nvml: FakeNvml) -> None:
    nvml.add()
    nvml.add(now=195_000)
    checks = check(plan(config(), "Offline"))
    assert [row.outcome for row in checks.rows] == ["FAIL", "PASS"]
    lines = str(checks).splitlines()
    assert lines[0] == "Power mode MaxQ, Offline"
    assert "300 W  195 W   FAIL" in lines[3]
    assert "195 W  195 W   PASS" in lines[4]


def test_a_limit_that_the_machine_undercuts_is_not_in_force(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add(now=195_000, cap=180_000)
    (row,) = check(plan(config(), "Offline")).rows
    assert (row.outcome, row.found) == ("FAIL", 180)
    assert "the machine allows less" in row.note
    with (
        pytest.raises(BackendUnavailableError, match="does not enforce it"),
        applied(plan(config(), "Offline"), apply=True, outputs=tmp_path),
    ):
        pytest.fail("the test must not begin")
    assert limits_now(nvml) == [195]


def test_without_apply_a_run_out_of_state_is_refused_with_the_commands(
    nvml: FakeNvml, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml.add()
    with pytest.raises(ConfigError) as refused, applied(plan(config(), "Offline"), apply=False, outputs=tmp_path):
        pytest.fail("the test must not begin")
    assert "power limit of GPU 0 (NVIDIA A100 80GB PCIe) is 300 W, wanted 195 W" in refused.value.what
    assert "Give sudo nvidia-smi -i 0 -pl 195, then run again" in refused.value.fix
    assert "afterwards, sudo nvidia-smi -i 0 -pl 300 puts it back" in refused.value.fix
    assert "--apply-power" in refused.value.fix
    assert "FAIL" in capsys.readouterr().out
    assert nvml.set_calls == []


def test_without_apply_a_run_in_state_goes_on_and_nothing_is_set(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add(now=195_000)
    with applied(plan(config(), "Offline"), apply=False, outputs=tmp_path) as record:
        pass
    (step,) = record.to_json()["steps"]
    assert (step["before"], step["during"], step["after"], step["restored"]) == (195, 195, 195, None)
    assert (step["outcome"], record.notes) == ("PASS", ())
    assert nvml.set_calls == []


def test_a_limit_that_changes_during_the_test_is_noted(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add(now=195_000)
    with applied(plan(config(), "Offline"), apply=False, outputs=tmp_path) as record:
        nvml.cards[0]["now"] = 300_000
    assert record.notes == (
        "The power mode did not hold during the test: power limit of GPU 0 (NVIDIA A100 80GB PCIe) is 300 W, "
        "wanted 195 W.",
    )


def test_apply_sets_every_gpu_and_puts_each_back_to_its_own_limit(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    nvml.add(now=250_000)
    nvml.add(now=195_000)
    with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path) as record:
        assert limits_now(nvml) == [195, 195, 195]
        assert nvml.open == 1  # without persistence mode the driver would drop the limits
        assert json.loads(next((tmp_path / "power").glob("*.json")).read_text()) == {"0": 300.0, "1": 250.0}
    assert limits_now(nvml) == [300, 250, 195]
    assert nvml.set_calls == [(0, 195_000), (1, 195_000), (0, 300_000), (1, 250_000)]
    assert not list((tmp_path / "power").glob("*.json"))
    written = json.loads(json.dumps(record.to_json()))
    found = [[step[when] for when in ("before", "during", "after", "restored")] for step in written["steps"]]
    assert found == [[300, 195, 195, 300], [250, 195, 195, 250], [195, 195, 195, 195]]
    assert {step["outcome"] for step in written["steps"]} == {"PASS"}


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(1)])
def test_limits_are_put_back_however_the_test_ends(nvml: FakeNvml, tmp_path: Path, error: BaseException) -> None:
    nvml.add()

    def interrupted_test() -> None:
        with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path):
            assert limits_now(nvml) == [195]
            raise error

    with pytest.raises(type(error)):
        interrupted_test()
    assert limits_now(nvml) == [300]
    assert left_over(tmp_path) == ()


def test_a_second_interrupt_while_putting_back_does_not_stop_it(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.add()
    nvml.add()
    calls = 0

    def interrupted(index: int, milliwatts: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        nvml._set(index, milliwatts)

    def interrupted_test() -> None:
        with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path):
            monkeypatch.setattr(nvml, "nvmlDeviceSetPowerManagementLimit", interrupted, raising=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_test()
    assert limits_now(nvml) == [300, 300]


def test_without_permission_the_command_is_given(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    nvml.root = False
    with (
        pytest.raises(BackendUnavailableError) as refused,
        applied(plan(config(), "Offline"), apply=True, outputs=tmp_path),
    ):
        pytest.fail("the test must not begin")
    assert refused.value.what == "Only root may set the power limit of GPU 0."
    assert "Give sudo nvidia-smi -i 0 -pl 195, then run again without --apply-power." in refused.value.fix
    assert left_over(tmp_path) == ()


def test_a_gpu_that_refuses_leaves_no_other_one_limited(
    nvml: FakeNvml, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml.add()
    nvml.add(locked=True)
    with (
        pytest.raises(BackendUnavailableError, match="power limit of GPU 1"),
        applied(plan(config(), "Offline"), apply=True, outputs=tmp_path),
    ):
        pytest.fail("the test must not begin")
    assert limits_now(nvml) == [300, 300]
    assert "not put back" not in capsys.readouterr().out


def test_a_limit_that_cannot_be_put_back_keeps_the_result_and_is_named_by_the_next_run(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    nvml.add()
    with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path) as record:
        nvml.root = False
    assert record.notes == (
        "Only root may set the power limit of GPU 0. It was not put back: sudo nvidia-smi -i 0 -pl 300 does that.",
    )
    (left,) = left_over(tmp_path)
    assert (left.gpu, left.before_w, left.now_w) == (0, 300, 195)
    with applied(plan(config("MaxP"), "Offline"), apply=False, outputs=tmp_path) as later:
        pass
    assert later.notes == (
        "A run that was killed left the power limit of GPU 0 at 195 W; before it was 300 W. "
        "sudo nvidia-smi -i 0 -pl 300 puts it back.",
    )
    nvml.root = True
    with applied(plan(config("MaxP"), "Offline"), apply=True, outputs=tmp_path) as later:
        assert limits_now(nvml) == [300]
    assert later.notes[0].endswith("It is put back now.")
    assert left_over(tmp_path) == ()


def test_a_lost_gpu_loses_no_result(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path) as record:
        nvml.cards[0]["lost"] = True
    assert (record.after, record.restored) == (None, None)
    assert [note.split(":")[0] for note in record.notes] == [
        "Whether the power mode held is not known",
        "The driver does not set the power limit of GPU 0 to 300 W",
        "What the power limits are now is not known",
    ]


def test_limits_that_the_user_put_back_are_forgotten(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path):
        nvml.root = False
    nvml.cards[0]["now"] = 300_000
    assert left_over(tmp_path) == ()
    assert not list((tmp_path / "power").glob("*.json"))


def test_one_run_at_a_time_sets_limits(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add()
    with applied(plan(config(), "Offline"), apply=True, outputs=tmp_path):
        assert left_over(tmp_path) == ()  # the run is alive and will put them back
        with (
            pytest.raises(ConfigError, match="Another nvkit run"),
            applied(plan(config(), "Server"), apply=True, outputs=tmp_path),
        ):
            pytest.fail("the test must not begin")
        assert limits_now(nvml) == [195]
    assert limits_now(nvml) == [300]


def test_a_killed_run_is_found_by_the_next_one(nvml: FakeNvml, tmp_path: Path) -> None:
    """A real process sets the limit of a fake GPU, kept in a file, and is killed inside the block."""
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from test_power import FakeNvml, config
        nvml = FakeNvml()
        nvml.add()
        sys.modules["pynvml"] = nvml
        from nvkit.power import applied, plan
        with applied(plan(config(), "Offline"), apply=True, outputs=Path(sys.argv[1])):
            print("INSIDE", flush=True)
            time.sleep(60)
    """)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout
    with child.stdout:
        assert any("INSIDE" in line for line in iter(child.stdout.readline, ""))
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    nvml.add(now=195_000)  # the limit outlives the process
    (left,) = left_over(tmp_path)
    assert left.command == "sudo nvidia-smi -i 0 -pl 300"


def test_vboost_belongs_to_nvidias_code_and_is_shown_not_checked(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.add("NVIDIA H200", now=700_000, least=200_000, most=700_000, pci=0x233510DE)
    h200 = resolve("h200_sxm", "bert-99", "Offline", round="v4.1", implementation="nvidia-original")
    (step,) = plan(h200, "Offline").steps
    assert step.commands == ("sudo nvidia-smi boost-slider --vboost 1",)
    with applied(plan(h200, "Offline"), apply=False, outputs=tmp_path) as record:
        pass
    assert record.to_json()["steps"][0]["outcome"] == "not checked"
    assert plan(resolve("h200_sxm", "bert-99", "Offline", round="v4.1"), "Offline").steps == ()


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Jetson AGX Orin of JetPack 6 at full clocks, whose DLA files only root may read."""
    root = tmp_path / "board"
    files = {
        "sys/class/devfreq/17000000.gpu/max_freq": "1300500000",
        "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 624750000 1300500000",
        "sys/kernel/nvpmodel_clk_cap/emc": "3199000000",
        "sys/devices/system/cpu/present": "0-11",
        "sys/devices/system/cpu/online": "0-11",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2201600",
        "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "2201600",
        "sys/devices/platform/bus@0/13e00000.host1x/15880000.nvdla0/clk_cap/dla0_core": "",
        "sys/devices/platform/bus@0/13e00000.host1x/158c0000.nvdla1/clk_cap/dla1_core": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n" if text else "")
    monkeypatch.setattr(jetson, "ROOT", root)
    return root


def test_the_plan_of_a_jetson_board_names_every_file_that_it_writes(board: Path) -> None:
    steps = {step.what: step for step in plan(orin(), "Offline").steps}
    assert [command.replace(str(board), "") for command in steps["highest GPU clock"].commands] == [
        "echo 624750000 | sudo tee /sys/class/devfreq/17000000.gpu/max_freq"
    ]
    assert len(steps["highest CPU clock"].commands) == 2
    assert len(steps["highest DLA clock"].commands) == 2
    off = "echo 0 | sudo tee /sys/devices/system/cpu/cpu{}/online"
    assert steps["CPU cores that are on"].commands[3:] == tuple(off.format(core) for core in range(4, 12))
    assert steps["CPU cores that are on"].back[10] == "echo 1 | sudo tee /sys/devices/system/cpu/cpu11/online"
    assert steps["highest memory clock"].unknowable == "0 leaves it to the board"
    assert steps["highest DLA clock"].unknowable == "only root may read its file"
    assert steps["highest DLA controller clock"].wanted == 441_600_000
    assert steps["highest DLA controller clock"].unknowable == "this JetPack has no file for it"


def test_a_jetson_board_is_checked_and_never_set(board: Path, tmp_path: Path) -> None:
    cpu = board / "sys/devices/system/cpu"
    with pytest.raises(ConfigError) as refused, applied(plan(orin(), "Offline"), apply=True, outputs=tmp_path):
        pytest.fail("the test must not begin")
    assert "CPU cores that are on is 12, wanted 4" in refused.value.what
    assert "--apply-power" not in refused.value.fix
    (cpu / "online").write_text("0-3\n")
    (board / "sys/class/devfreq/17000000.gpu/max_freq").write_text("624750000\n")
    (cpu / "cpufreq/policy0/scaling_max_freq").write_text("576000\n")
    with (
        pytest.raises(ConfigError, match="highest CPU clock is 2201600 kHz, wanted 576000 kHz"),
        applied(plan(orin(), "Offline"), apply=False, outputs=tmp_path),
    ):
        pytest.fail("one of two clusters is too fast")
    (cpu / "cpufreq/policy4/scaling_max_freq").write_text("576000\n")
    with applied(plan(orin(), "Offline"), apply=False, outputs=tmp_path) as record:
        pass
    outcomes = {step["what"]: step["outcome"] for step in record.to_json()["steps"]}
    assert outcomes["highest GPU clock"] == outcomes["highest CPU clock"] == "PASS"
    assert outcomes["highest DLA clock"] == "not checked"


def test_nvidias_code_sets_the_board_itself_if_it_may(board: Path, tmp_path: Path) -> None:
    config = orin(implementation="nvidia-original")
    with applied(plan(config, "Offline"), apply=True, outputs=tmp_path) as record:
        pass
    assert record.notes == ("NVIDIA's code sets the board itself, and puts it back to power model 0.",)
    with (
        pytest.raises(ConfigError, match="not in force"),
        applied(plan(config, "Offline"), apply=False, outputs=tmp_path),
    ):
        pytest.fail("nobody allowed it")


def test_maxn_of_a_board_is_all_cores_and_the_highest_clock(board: Path) -> None:
    free = plan(orin("MaxN"), "Offline")
    assert "sudo /usr/sbin/nvpmodel -m 0" in free.steps[0].commands
    assert [row.outcome for row in check(free).rows] == ["not checked", "PASS", "PASS"]
    (board / "sys/class/devfreq/17000000.gpu/max_freq").write_text("624750000\n")
    assert [row.outcome for row in check(free).rows] == ["not checked", "PASS", "FAIL"]


def test_values_of_another_kind_of_machine_are_refused(
    nvml: FakeNvml, board: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml.add()
    with pytest.raises(ConfigError, match=r"soc_gpu_freq .* belongs to Jetson boards; a100_pcie is none"):
        plan(config(overrides={"soc_gpu_freq": 624_750_000}), "Offline")
    board_of: dict[str, Any] = {"profile": "orin", "benchmark": "resnet50", "scenario": "Offline", "round": "v2.1"}
    with pytest.raises(ConfigError, match=r"power_limit .* belongs to GPUs on a card; orin is none"):
        plan(resolve(**board_of, power="MaxQ", overrides={"power_limit": 30}), "Offline")
    with pytest.raises(ConfigError, match="limits what MaxN sets free"):
        plan(resolve(**board_of, power="MaxN", overrides={"soc_gpu_freq": 624_750_000}), "Offline")
    with pytest.raises(ConfigError, match="The board has 12 CPU cores, not 16"):
        plan(resolve(**board_of, power="MaxQ", overrides={"orin_num_cores": 16}), "Offline")
    monkeypatch.setattr(jetson, "ROOT", tmp_path)
    with pytest.raises(BackendUnavailableError, match="This machine is no Jetson Orin"):
        plan(orin(), "Offline")

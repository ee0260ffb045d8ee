"""The YAML files of parameters/: where they are, how they are read, what shape they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from nvkit.errors import ConfigError, nearest

Scenario = Literal["Offline", "Server", "SingleStream", "MultiStream"]
SCENARIOS: tuple[Scenario, ...] = ("Offline", "Server", "SingleStream", "MultiStream")
Values = dict[str, Any]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(_File):
    """Values for every scenario, and values for single scenarios."""

    defaults: Values = Field(default_factory=dict)
    scenarios: dict[Scenario, Values] = Field(default_factory=dict)


class BenchmarkFile(Section):
    """parameters/benchmarks/<name>.yaml: what a benchmark needs on every machine.

    Attributes:
        package: Folder below nvkit/benchmarks/ that knows this benchmark; nvkit's own harness needs it.
        quick: Values that `--quick` puts over all files.
    """

    name: str
    title: str
    package: str
    quick: Section = Section()


class RoundBenchmark(Section):
    """One benchmark's rules in one round.

    Attributes:
        metric: Accuracy metric: acc, mAP, F1, DICE, AUC, WER.
        reference_accuracy: Score of the fp32 reference.
        accuracy_target: Least score of the closed division.
        dataset_size: Samples of the real data set.
        datacenter: Scenarios required there, empty if the round does not take it.
        edge: The same for edge systems.
        compliance: Compliance tests.
    """

    metric: str
    reference_accuracy: float
    accuracy_target: float
    dataset_size: int | None = None
    datacenter: list[Scenario]
    edge: list[Scenario]
    compliance: list[str] = Field(default_factory=list)

    @property
    def allowed(self) -> tuple[Scenario, ...]:
        """The scenarios of either system type, in nvkit's order."""
        return tuple(s for s in SCENARIOS if s in {*self.datacenter, *self.edge})


class RoundFile(Section):
    """parameters/rounds/<name>.yaml: the rules of an MLPerf Inference round."""

    name: str
    source: str
    benchmarks: dict[str, RoundBenchmark]


class Device(_File):
    """What identifies the accelerator of a profile and what it can run.

    Attributes:
        names: Product names as NVML gives them, without "NVIDIA ".
        pci_ids: Vendor and device as lspci prints them, e.g. "10de:27b8".
        memory_gb: Memory that the product is sold with, GB; for a memory class the least that belongs to it.
        memory_class: The profile stands for all GPUs of this memory, not for one product.
        power_limit_w: Default power limit, W.
        precisions: What the tensor cores compute in.
    """

    kind: Literal["cpu", "gpu"]
    names: list[str] = Field(default_factory=list)
    pci_ids: list[str] = Field(default_factory=list)
    compute_capability: str | None = None
    memory_gb: float | None = None
    power_limit_w: float | None = None
    form_factor: str | None = None
    memory_class: bool = False
    precisions: list[str] = Field(default_factory=list)
    dla_cores: int = 0


class NvidiaRound(_File):
    """What NVIDIA itself configured for this GPU in one round's submission.

    Attributes:
        system: NVIDIA's name of the single-GPU system, e.g. "L4x1".
        benchmarks: Values at full power (MaxP).
        maxq: Values that the power submission (MaxQ) changed.
        maxq_system: The system of that submission where it is another one, with several of these GPUs.
    """

    system: str
    maxq_system: str | None = None
    benchmarks: dict[str, Section] = Field(default_factory=dict)
    maxq: dict[str, Section] = Field(default_factory=dict)


class ProfileFile(Section):
    """parameters/gpus/<name>.yaml: the values that a machine runs best with.

    Attributes:
        source: Where `defaults`, `scenarios` and `benchmarks` come from; they win over the two below.
        based_on: Profile whose values hold where this one has none; for a named GPU its memory class.
        nvidia: Round to NVIDIA's own values, over those of `based_on`.
        power: Mode (MaxQ, MaxN) to values that it sets over all others of the profile.
    """

    name: str
    title: str
    source: str
    based_on: str | None = None
    device: Device
    benchmarks: dict[str, Section] = Field(default_factory=dict)
    nvidia: dict[str, NvidiaRound] = Field(default_factory=dict)
    power: dict[Literal["MaxQ", "MaxN"], Section] = Field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A YAML file: its content, and the line on which each key stands."""

    label: str
    content: Any
    lines: Mapping[tuple[str, ...], int]

    def where(self, path: tuple[str, ...]) -> str:
        """Return 'file:line' of a key."""
        line = self.lines.get(path)
        return f"{self.label}:{line}" if line else self.label


F = TypeVar("F", bound=_File)
_KINDS: dict[type[_File], tuple[str, str]] = {
    BenchmarkFile: ("benchmarks", "benchmark"),
    RoundFile: ("rounds", "round"),
    ProfileFile: ("gpus", "profile"),
}


def parameters_folder() -> Path:
    """Return the parameters/ folder of this clone (or of the current directory).

    Raises:
        ConfigError: there is none.
    """
    for base in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (base / "parameters" / "rounds").is_dir():
            return base / "parameters"
    raise ConfigError(
        "There is no parameters/ folder beside the nvkit package or in the current directory.",
        "Run nvkit from a clone of its repository.",
    )


def names(kind: type[_File], folder: Path | None = None) -> list[str]:
    """Return the names of all files of a kind, sorted."""
    return sorted(p.stem for p in ((folder or parameters_folder()) / _KINDS[kind][0]).glob("*.yaml"))


def load(kind: type[F], name: str, folder: Path | None = None) -> tuple[F, Loaded]:
    """Read parameters/<kind>/<name>.yaml.

    Raises:
        ConfigError: unknown name (the nearest is named), bad YAML, a duplicate, unknown or misplaced key.
    """
    folder = folder or parameters_folder()
    subfolder, noun = _KINDS[kind]
    path = folder / subfolder / f"{name}.yaml"
    if name not in names(kind, folder):
        raise ConfigError(f"There is no {noun} '{name}'.", nearest(name, names(kind, folder)))
    loaded = read_yaml(path, f"{folder.name}/{subfolder}/{name}.yaml")
    try:
        parsed = kind.model_validate(loaded.content)
    except ValidationError as error:
        raise _explained(error, loaded, kind) from None
    if getattr(parsed, "name", name) != name:
        raise ConfigError(f"{loaded.where(('name',))} says name: {parsed.name}.", f"Call it {name}, as its file.")  # type: ignore[attr-defined]
    return parsed, loaded


def read_yaml(path: Path, label: str) -> Loaded:
    """Read YAML 1.2 with duplicate keys as errors, remembering lines.

    Raises:
        ConfigError: with file, line and column.
    """
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        what = f"{label} is not UTF-8 text: {error.reason} at byte {error.start}."
        raise ConfigError(what, "Save it as UTF-8.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{label}:{mark.line + 1}:{mark.column + 1}" if mark else label
        problem = (error.problem or "is not valid YAML").splitlines()[0]
        raise ConfigError(f"{place}: {problem}.", "Mend this line of the file.") from None
    lines: dict[tuple[str, ...], int] = {}
    return Loaded(label, _plain(tree, (), lines), lines)


def _plain(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> Any:
    if isinstance(node, CommentedMap):
        for key in node:
            place = (*path, str(key))
            lines[place] = node.lc.data[key][0] + 1
        return {str(key): _plain(value, (*path, str(key)), lines) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, path, lines) for value in node]
    for plain in (bool, int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node


def _explained(error: ValidationError, loaded: Loaded, kind: type[BaseModel]) -> ConfigError:
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, path[:-1])
        return ConfigError(f"{loaded.where(path)}: unknown key '{key}'.", nearest(path[-1], known))
    if first["type"] == "literal_error" and path[-1:] == ("[key]",):
        return ConfigError(f"{loaded.where(path[:-1])}: unknown scenario '{path[-2]}'.", nearest(path[-2], SCENARIOS))
    return ConfigError(f"{loaded.where(path)}: {key}: {first['msg']} (found {first['input']!r}).", "Mend this value.")


def _fields_at(kind: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Return the keys that the file model knows at a path."""
    model: Any = kind
    for part in path:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        annotation: Any = field.annotation if field else model
        while getattr(annotation, "__args__", None) and not isinstance(annotation, type(BaseModel)):
            annotation = annotation.__args__[-1]
        model = annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []

"""What a release of NVIDIA's code says of itself, read from its files without importing them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import ConfigError

ENUM_NAMES = {
    "resnet50": "ResNet50",
    "retinanet": "Retinanet",
    "bert": "BERT",
    "3d-unet": "UNET3D",
    "rnnt": "RNNT",
    "dlrm": "DLRM",
    "dlrm-v2": "DLRMv2",
}
"""Folder of a benchmark to its member of the releases' `Benchmark` (code/common/constants.py)."""

_TARGET = re.compile(r"^([A-Za-z0-9_][\w-]*)\s*:(?![:=])", re.MULTILINE)
_RELEASE = re.compile(r"\bv\d+\.\d+")


@dataclass(frozen=True)
class Option:
    """One option of the release's code/main.py. None in the last four means: no restriction.

    Attributes:
        type: Source text of its type, e.g. "int", "bool", "Dict[str, int]".
        command_line: False for what only a benchmark configuration may hold.
        benchmarks: Members of the release's `Benchmark`.
        scenarios: Names of scenarios.
        systems: Conditions on the system, e.g. "is_soc".
        powers: Names of power settings.
    """

    name: str
    type: str = ""
    command_line: bool = True
    benchmarks: frozenset[str] | None = None
    scenarios: frozenset[str] | None = None
    systems: frozenset[str] | None = None
    powers: frozenset[str] | None = None

    def refused_by(self, benchmark: str, scenario: str, power: str) -> str:
        """Say why this workload may not have the option, "" if it may (benchmark: folder name; power: MaxP, MaxQ)."""
        member = ENUM_NAMES.get(benchmark, benchmark)
        if self.benchmarks is not None and member not in self.benchmarks:
            return f"belongs to {', '.join(sorted(self.benchmarks))}"
        if self.scenarios is not None and scenario not in self.scenarios:
            return f"belongs to {', '.join(sorted(self.scenarios))}"
        if self.powers is not None and power not in self.powers:
            return f"belongs to power setting {', '.join(sorted(self.powers))}"
        return ""


def release_of(root: Path) -> str | None:
    """Return the round that a closed/NVIDIA folder belongs to, e.g. "v3.0", None if it does not say.

    VERSION exists since v3.1; the heading of README.md names the round in every release.
    """
    for name, lines in (("VERSION", 1), ("README.md", 3)):
        text = "\n".join(_text(root / name).splitlines()[:lines])
        if found := _RELEASE.search(text):
            return found[0]
    return None


def make_targets(root: Path) -> frozenset[str]:
    """Return the targets of Makefile and of the Makefile.* beside it."""
    return frozenset(name for path in sorted(root.glob("Makefile*")) for name in _TARGET.findall(_text(path)))


def read_options(root: Path) -> tuple[dict[str, Option], frozenset[str]]:
    """Read the options of code/main.py.

    Since v2.1 main.py parses exactly the `Field`s of code/common/fields.py (later releases: also code/fields/*.py)
    and drops everything else without a word, also what the older code/common/arguments.py still lists.

    Returns:
        Option by name, and the names that only arguments.py has.

    Raises:
        ConfigError: neither file is there, or one is not Python.
    """
    paths = [root / "code/common/fields.py", *sorted((root / "code/fields").glob("*.py"))]
    options = {option.name: option for path in paths for option in _fields(path)}
    legacy = frozenset(_arguments(root / "code/common/arguments.py"))
    if not options:
        options = {name: Option(name) for name in legacy}
    if not options:
        raise ConfigError(
            f"{root} has no options: code/common/fields.py and code/common/arguments.py are missing or empty.",
            "Check the files out (a sparse or partial clone lacks them).",
        )
    return options, legacy - options.keys()


def parsed(path: Path) -> ast.Module:
    """Parse a file of the checkout; an absent one is empty.

    Raises:
        ConfigError: it is not Python.
    """
    try:
        return ast.parse(_text(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}.", "Restore it (git checkout).") from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _arguments(path: Path) -> Iterator[str]:
    for node in parsed(path).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        if any(isinstance(target, ast.Name) and target.id == "arguments_dict" for target in node.targets):
            yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))


def _fields(path: Path) -> Iterator[Option]:
    tree = parsed(path)
    constants: dict[str, frozenset[str] | None] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = _members(node.value, constants)
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field"):
            continue
        if not (call.args and isinstance(call.args[0], ast.Constant)):
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        kept = {
            ours: _members(given[theirs], constants)
            for theirs, ours in (
                ("supported_benchmarks", "benchmarks"),
                ("supported_scenarios", "scenarios"),
                ("supported_systems", "systems"),
                ("supported_power_settings", "powers"),
            )
            if theirs in given
        }
        hidden = given.get("no_argparse")
        yield Option(
            name=str(call.args[0].value),
            type=ast.unparse(given["value_type"]) if "value_type" in given else "",
            command_line=not (isinstance(hidden, ast.Constant) and hidden.value),
            **kept,
        )


def _members(node: ast.expr, constants: Mapping[str, frozenset[str] | None]) -> frozenset[str] | None:
    """Return the enum members that an expression of tuples, sets, + and - names; None for any other expression."""
    if isinstance(node, ast.Attribute):
        return frozenset([node.attr])
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        parts = [_members(part, constants) for part in node.elts]
        return None if None in parts else frozenset().union(*(part for part in parts if part))
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _members(node.args[0], constants)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        left, right = _members(node.left, constants), _members(node.right, constants)
        if left is None or right is None:
            return None
        return left | right if isinstance(node.op, ast.Add) else left - right
    return None

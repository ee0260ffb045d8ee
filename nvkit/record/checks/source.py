"""Do parameters and code of the record belong together: the commit, the resolved values, the keys of the stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nvkit.config import PATHS
from nvkit.errors import ConfigError
from nvkit.record.code import digests
from nvkit.record.findings import Outcome
from nvkit.record.opened import Record
from nvkit.runs import stage_key
from nvkit.store import digest_of


def code(record: Record) -> Outcome:
    """The code that the record names is that of its commit with its uncommitted difference."""
    tree, where = record.tree
    if tree is None:
        return Outcome(manual=[where])
    found = digests(tree)
    problems = [f"{part} of {where} are others" for part, value in found.items() if value != record.code[part]]
    changed = record.code["changed"]
    more = f"; {len(changed)} files differ from the commit, see record/uncommitted.diff" if changed else ""
    return Outcome.of(problems, f"code, notebooks and parameters are those of {where}{more}")


def parameters(record: Record) -> Outcome:
    """The resolved parameters have the digest in the run's name, and follow from what the user gave."""
    said = _values(record.config)
    problems, manual = [], []
    if hidden := sorted({key for values in said["scenarios"].values() for key in PATHS if _is_word(values.get(key))}):
        manual.append(f"the digest in the run's name covers {', '.join(hidden)}, whose paths are not in the record")
    else:
        expected = f"{said['profile']}-{said['benchmark']}-{digest_of(said)[:8]}"
        if not record.name.endswith(expected):
            problems.append(f"config.json has the digest of a run ...{expected}, the record is {record.name}")
    tree, _ = record.tree
    try:
        resolved = _values(record.resolved(tree / "parameters" if tree else None).to_json())
    except ConfigError as error:
        return Outcome(problems=[*problems, f"the parameters cannot be resolved again: {error.what}"])
    differing = list(_differences(said, resolved))
    if tree and record.same_code:
        problems += differing
    elif differing:
        manual.append(f"this nvkit, which is another one, resolves {len(differing)} values differently: {differing[0]}")
    return Outcome.of(problems, "every value follows from the files and what the user gave", manual)


def stage_keys(record: Record) -> Outcome:
    """Every stage's key is that of its inputs, so that each result belongs to the one before."""
    problems = []
    for stage, key in _expected_keys(record):
        stored = record.stages.get(stage, {}).get("key")
        if stored != stage_key(stage, key, record.code["code"]):
            problems.append(f"stage {stage} was not done with these inputs and this code")
    return Outcome.of(problems, "each stage was done with the results of the one before it")


def _expected_keys(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield stage and key as `nvkit.stages` makes them, as far as the record holds what they are made of."""
    keys = {name: stored["key"] for name, stored in record.stages.items()}
    said = _values(record.config)
    own = record.config["implementation"] == "nvkit"
    if not any(_is_word(values.get(key)) for values in said["scenarios"].values() for key in PATHS):
        checkout = {} if own else {"code": record.stages["setup"]["release"]["digest"]}
        yield "setup", {"config": digest_of(said), **checkout}
    yield "preprocess", {"setup": keys["setup"]}
    yield "calibrate", {"preprocess": keys["preprocess"]}
    if own:
        yield "build", {"calibrate": keys["calibrate"]}
        for test in record.tests:
            _, scenario, mode = test.stage.split("-")
            yield test.stage, {"build": keys["build"], "scenario": scenario, "mode": mode}
    yield "run", {"build": keys["build"]}
    yield "report", {"run": keys["run"], "finished": record.stages["run"]["finished"]}


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("origins", "unused")}


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _differences(said: Any, found: Any, where: str = "") -> Iterator[str]:
    if isinstance(said, dict) and isinstance(found, dict):
        for key in {**said, **found}:
            yield from _differences(said.get(key), found.get(key), f"{where}.{key}".strip("."))
    elif said != found and list(said if isinstance(said, (list, tuple)) else [said]) != list(
        found if isinstance(found, (list, tuple)) else [found]
    ):
        yield f"{where} is {said!r}, its files and the user's values give {found!r}"

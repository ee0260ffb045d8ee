"""Are the executed notebooks those of the commit, executed in order, and do they show the run's own results."""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Iterator
from typing import Any

from nvkit import RESULT_MIME
from nvkit.config import PATHS
from nvkit.notebooks import STAGES
from nvkit.record.findings import Outcome
from nvkit.record.opened import Record
from nvkit.record.reading import read_json
from nvkit.record.redact import FILE as REDACTION
from nvkit.stages.report import ReportResult

_NONE = Outcome(manual=["the stages were done without notebooks, or these are not in the record"])
_INJECTED = "injected-parameters"
_NAMES = ("profile", "benchmark", "round", "mode", "quick", "implementation", "power")


def code(record: Record) -> Outcome:
    """Cells are those of the commit's notebooks, in their order; only the injected parameters are added."""
    tree, where = record.tree
    if not record.notebooks:
        return _NONE
    if tree is None:
        return Outcome(manual=[where])
    problems = []
    for name, notebook in record.notebooks.items():
        source = read_json(tree / "notebooks" / name)["cells"]
        cells = [cell for cell in notebook["cells"] if _INJECTED not in _tags(cell)]
        if len(cells) != len(source):
            problems.append(f"{name} has {len(cells)} cells, its source {len(source)}")
        for number, (cell, original) in enumerate(zip(cells, source, strict=False), start=1):
            if (cell["cell_type"], _text(cell["source"])) != (original["cell_type"], _text(original["source"])):
                problems.append(f"{name}: cell {number} is not that of its source")
    return Outcome.of(problems, f"{len(record.notebooks)} notebooks have the cells of {where}")


def parameters(record: Record) -> Outcome:
    """The injected cells hold literal values of the notebook's parameters, and they are those of config.json."""
    if not record.notebooks:
        return _NONE
    problems = []
    for name, notebook in record.notebooks.items():
        cells = notebook["cells"]
        places = [i for i, cell in enumerate(cells) if _INJECTED in _tags(cell)]
        if len(places) != 1 or "parameters" not in _tags(cells[places[0] - 1]):
            problems.append(f"{name} has {len(places)} injected cells, or not behind its parameters")
            continue
        declared = {target for target, _ in _assigned(_text(cells[places[0] - 1]["source"]))}
        given = dict(_assigned(_text(cells[places[0]]["source"])))
        if unknown := sorted({key or "code" for key in given} - declared):
            problems.append(f"{name}: the injected cell holds {', '.join(unknown)}")
        problems += [f"{name}: {problem}" for problem in _against_config(given, record)]
    return Outcome.of(problems, "the injected parameters are those of config.json")


def execution(record: Record) -> Outcome:
    """Every notebook is there; its cells were executed once, in order; none failed; the last published the result."""
    if not record.notebooks:
        return _NONE
    problems = [f"{name} is missing" for _, name in STAGES if name not in record.notebooks]
    for name, notebook in record.notebooks.items():
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and _text(cell["source"]).strip()]
        if [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)):
            problems.append(f"{name}: not every cell was executed, in order")
        starts = [cell["metadata"].get("papermill", {}).get("start_time") or "" for cell in cells]
        if starts != sorted(starts):
            problems.append(f"{name}: the cells' times are out of order")
        outputs = [output for cell in cells for output in cell["outputs"]]
        if any(output["output_type"] == "error" for output in outputs):
            problems.append(f"{name}: a cell failed")
        if not cells or not any(RESULT_MIME in output.get("data", {}) for output in cells[-1]["outputs"]):
            problems.append(f"{name}: the last cell published no result")
    return Outcome.of(problems, "every cell was executed once and in order, none failed")


def results(record: Record) -> Outcome:
    """What each notebook published is the stored result of its stage."""
    if not record.notebooks:
        return _NONE
    problems = []
    for stage, name in STAGES:
        if name not in record.notebooks:
            continue
        published = [data[RESULT_MIME] for data in _data(record.notebooks[name]) if RESULT_MIME in data]
        if [_without_folders(value) for value in published] != [_without_folders(record.stages[stage])]:
            problems.append(f"{name}: what it published is not stages/{stage}.json")
    return Outcome.of(problems, "what each notebook published is its stage's result")


def tables(record: Record) -> Outcome:
    """The tables that a reader sees are those of the stored results."""
    if not record.notebooks:
        return _NONE
    problems = []
    for stage, name in STAGES:
        if name not in record.notebooks:
            continue
        shown = [_text(data.get("text/html", "")) for data in _data(record.notebooks[name])]
        text = _squeezed(" ".join(_text(data.get("text/plain", "")) for data in _data(record.notebooks[name])))
        for table in _tables(record.results[stage]):
            if not any(table._repr_html_() in html for html in shown) or _squeezed(str(table)) not in text:
                problems.append(
                    f"{name}: table '{table.title or table.headings[0]}' is not that of stages/{stage}.json"
                )
    if problems and not (record.same_code and (record.root / REDACTION).is_file()):
        why = (
            "this nvkit, which is another one, shows them otherwise" if not record.same_code else "paths stayed in them"
        )
        return Outcome(manual=[f"tables could not be compared, since {why}: {problems[0]}"])
    return Outcome.of(problems, "the tables in the notebooks are those of the results")


def pictures(record: Record) -> Outcome:
    """The pictures in the notebooks are the files in plots/."""
    if not record.notebooks:
        return _NONE
    problems, count = [], 0
    for name, notebook in record.notebooks.items():
        for data in _data(notebook):
            plot = record.root / "plots" / f"{_text(data.get('text/plain', ''))}.png"
            if "image/png" in data and plot.is_file():
                count += 1
                if base64.b64decode(_text(data["image/png"])) != plot.read_bytes():
                    problems.append(f"{name}: picture {plot.stem} is not plots/{plot.name}")
    return Outcome.of(problems, f"{count} pictures are those in plots/")


def _against_config(given: dict[str, Any], record: Record) -> Iterator[str]:
    config = record.config
    for key in _NAMES:
        if key in given and given[key] != config[key]:
            yield f"{key} is {given[key]!r}, in config.json {config[key]!r}"
    paths = {key: given[key] for key in PATHS if given.get(key)}
    values = {**given.get("overrides", {}), **paths}
    if values != record.user_values:
        yield "the overrides are not those of config.json"
    wanted = given.get("scenario", "all")
    if wanted != "all" and {part.strip() for part in wanted.split(",")} != set(config["scenarios"]):
        yield f"scenario is {wanted!r}, in config.json {','.join(config['scenarios'])!r}"


def _assigned(source: str) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each assignment of a literal; anything else has an empty name."""
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            yield "", None
            continue
        try:
            yield targets[0].id, ast.literal_eval(statement.value)  # type: ignore[attr-defined]
        except ValueError:
            yield "", None


def _tables(result: Any) -> list[Any]:
    try:
        found = result.tables()
    except FileNotFoundError:  # the table of samples reads the arrays, which stay where the run was
        return []
    return [*found, result.checks()] if isinstance(result, ReportResult) else list(found)


def _data(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output["data"] for cell in notebook["cells"] for output in cell.get("outputs", ()) if "data" in output]


def _tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def _text(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _squeezed(text: str) -> str:
    """Return a text without what the widths of columns change."""
    return re.sub(r"\s+|-{2,}", " ", text).strip()


def _without_folders(value: Any) -> Any:
    """Return a JSON value in which a path is its last part: a record may tell the folder by a word or keep it."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return value.rsplit("/", 1)[-1] if isinstance(value, str) and value.startswith(("/", "$")) else value

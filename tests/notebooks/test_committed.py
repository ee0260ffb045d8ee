"""The notebooks as they are committed: clean, alike, and without logic of their own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nvkit.notebooks import STAGES, notebooks_folder

PARAMETERS = {
    "profile": "auto",
    "benchmark": "resnet50",
    "scenario": "all",
    "mode": "both",
    "round": "v4.1",
    "quick": False,
    "implementation": "nvkit",
    "power": "MaxP",
    "data_dir": "",
    "model_path": "",
    "overrides": {},
    "outputs": "",
    "run_dir": "",
    "fresh": False,
}
OTHER_PARAMETERS: dict[str, dict[str, Any]] = {"80_verify": {"record": "", "keys": []}}
STAGE_NOTEBOOKS = [notebooks_folder() / name for _, name in STAGES]
NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_stage_has_its_notebook() -> None:
    assert set(STAGE_NOTEBOOKS) <= set(NOTEBOOKS)


def test_it_is_clean(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert len(notebook.cells) <= 12
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
    for cell in code(path):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_it_begins_with_its_purpose_and_the_parameters(path: Path) -> None:
    first, second = read(path).cells[:2]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert second.metadata.tags == ["parameters"]
    assigned: dict[str, Any] = {}
    for statement in ast.parse(second.source).body:
        assert isinstance(statement, ast.AnnAssign), "papermill infers the type from the annotation"
        assert isinstance(statement.target, ast.Name)
        assert isinstance(statement.value, ast.expr)
        assigned[statement.target.id] = ast.literal_eval(statement.value)
        assert ast.unparse(statement.annotation) == type(assigned[statement.target.id]).__name__
    assert assigned == OTHER_PARAMETERS.get(path.stem, PARAMETERS)


def test_it_holds_no_logic(path: Path) -> None:
    forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try)
    for cell in code(path):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
        assert not any(line.lstrip().startswith(("!", "%")) for line in cell.source.splitlines())


def test_it_names_no_absolute_path(path: Path) -> None:
    for cell in code(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("/", "~"))


def test_its_last_cell_publishes(path: Path) -> None:
    assert code(path)[-1].source.startswith("nvkit.publish(")


@pytest.mark.parametrize(("stage", "name"), STAGES)
def test_a_stage_notebook_calls_its_stage_once(stage: str, name: str) -> None:
    source = "\n".join(cell.source for cell in code(notebooks_folder() / name))
    assert source.count("nvkit.stages.") == 1
    assert f"nvkit.stages.{stage}(config, run, fresh=fresh)" in source


def test_links_lead_to_notebooks() -> None:
    start = read(notebooks_folder() / "00_start.ipynb").cells[0].source
    for _, name in STAGES:
        assert f"({name})" in start

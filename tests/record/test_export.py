"""A record as one HTML that loads nothing, and as one zip."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import ExecutionError, InputError, MissingPackageError
from nvkit.record.export import export, external, to_html


def test_one_html_and_one_zip(made: Any, tmp_path: Path) -> None:
    page, archive = export(made.run, tmp_path)
    text = page.read_text()
    assert page.name == f"{made.run.name}.html"
    assert external(text) == []
    assert "<script" not in text
    assert "http" not in "".join(re.findall(r"<(?:link|script|img)[^>]{0,200}", text))
    assert text.count("data:image/png;base64,") >= 6
    for heading in ("1. Setup", "6. Report", "signed by key", "quick run, not an official result"):
        assert heading in text
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert names == sorted(names)
        inside = {name.partition("/")[2] for name in names}
        assert zipped.testzip() is None
    on_disk = {path.relative_to(made.run).as_posix() for path in made.run.rglob("*") if path.is_file()}
    assert inside == on_disk
    before = archive.read_bytes(), page.read_bytes()
    export(made.run, tmp_path)
    assert (archive.read_bytes(), page.read_bytes()) == before


def test_only_what_is_sealed_goes_into_the_zip(copy: Path, tmp_path: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    _, archive = export(copy)
    assert archive.parent == copy.parent.parent / "exports"
    with zipfile.ZipFile(archive) as zipped:
        assert not [name for name in zipped.namelist() if name.endswith("notes.txt")]


def test_html_that_would_load_something_is_refused(copy: Path) -> None:
    path = copy / "60_report.ipynb"
    notebook = json.loads(path.read_text())
    data = {"text/html": "<img src='https://example.org/pixel.png'>"}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    next(c for c in notebook["cells"] if c["cell_type"] == "code")["outputs"] = [output]
    path.write_text(json.dumps(notebook))
    with pytest.raises(ExecutionError, match=r"img https://example\.org"):
        to_html(copy)


@pytest.mark.parametrize(
    "page",
    [
        '<link rel="stylesheet" href="https://x/y.css">',
        "<style>@import 'x.css';</style>",
        "<style>a { background: url(https://x/y.png) }</style>",
        '<p style="background:url(y.png)">',
        '<script src="x.js"></script>',
    ],
)
def test_what_loads_something_is_found(page: str) -> None:
    assert external(page)


def test_what_is_inside_is_no_load() -> None:
    assert (
        external('<a href="https://x">x</a><img src="data:image/png;base64,AA"><style>a{b:url(data:x)}</style>') == []
    )


def test_an_unsealed_run_and_a_missing_package_are_told(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not a sealed record"):
        export(tmp_path)
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    with pytest.raises(MissingPackageError, match="nbconvert"):
        to_html(copy)

"""A record to hand on: one HTML file that needs nothing else, and one zip.

The HTML is all executed notebooks in order, pictures inside, without scripts; it loads nothing from anywhere.
The same record gives the same bytes each time.
"""

from __future__ import annotations

import html
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from nvkit.errors import ExecutionError, InputError, MissingPackageError
from nvkit.notebooks import STAGES
from nvkit.record.reading import ENVELOPE, PROVENANCE, files, read_json
from nvkit.record.seal import INTEGRITY_ONLY, read_envelope
from nvkit.store import file_digest, replacing, write_text

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
_STYLE_LOADS = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)


def export(run: Path, to: Path | None = None) -> tuple[Path, Path]:
    """Write `<run>.html` and `<run>.zip`; return their paths.

    Args:
        run: Folder of a sealed run.
        to: Folder for the two; exports/ beside the runs if None.

    Raises:
        InputError: it is not a sealed record, or has no executed notebooks.
        MissingPackageError: nbconvert is not installed.
        ExecutionError: the HTML would load something.
    """
    if not (run / PROVENANCE).is_file():
        raise InputError(f"{run} is not a sealed record.", "nvkit seal RUN makes one.")
    folder = to or run.resolve().parent.parent / "exports"
    page, archive = folder / f"{run.resolve().name}.html", folder / f"{run.resolve().name}.zip"
    write_text(page, to_html(run))
    to_zip(run, archive)
    return page, archive


def to_html(run: Path) -> str:
    """Return all executed notebooks of a record as one HTML text.

    Raises:
        InputError: the record has no executed notebooks.
        MissingPackageError: nbconvert is not installed.
        ExecutionError: the HTML would load something.
    """
    try:
        import nbformat
        from nbconvert import HTMLExporter
    except ImportError:
        raise MissingPackageError(
            "The HTML is made by nbconvert, which is not installed.", 'Install it: pip install -e ".[lab]".'
        ) from None
    executed = [run / name for _, name in STAGES if (run / name).is_file()]
    if not executed:
        raise InputError(f"{run} holds no executed notebooks.", "nvkit run makes them; or share the zip alone.")
    whole = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(_cover(run), id="cover")])
    for path in executed:
        notebook = nbformat.read(path, as_version=4)
        whole.metadata = notebook.metadata
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{path.stem}-{number}"
            whole.cells.append(cell)
    exporter = HTMLExporter(template_name="lab", embed_images=True)
    body, _ = exporter.from_notebook_node(whole, resources={"metadata": {"name": run.resolve().name}})
    page = _SCRIPT.sub("", body)
    if loads := external(page):
        raise ExecutionError(f"The HTML would load {', '.join(loads)}.", "Remove that output from the notebook.")
    return page


def to_zip(run: Path, path: Path) -> None:
    """Write the files of a sealed record, and no others, into a zip: sorted, without the times of the disk."""
    sealed = {subject["name"] for subject in read_json(run / PROVENANCE)["subject"]}
    seals = [name for name in (PROVENANCE, ENVELOPE) if (run / name).is_file()]
    names = sorted([*(name for name in files(run) if name in sealed), *seals])
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"{run.resolve().name}/{name}", _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as into, (run / name).open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    into.write(chunk)


def external(page: str) -> list[str]:
    """Return what an HTML text would load when it is opened: scripts, style sheets, pictures, fonts."""
    reader = _Reader()
    reader.feed(page)
    return reader.loads


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads."""
        values = dict(attrs)
        address = values.get(_LOADED.get(tag, ""))
        if address and not address.startswith(("data:", "#")):
            self.loads.append(f"{tag} {address[:80]}")
        if _STYLE_LOADS.search(values.get("style") or ""):
            self.loads.append(f"style of {tag}")
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a style sheet."""
        self._style = False

    def handle_data(self, data: str) -> None:
        """Note what a style sheet loads."""
        if self._style and (found := _STYLE_LOADS.search(data)):
            self.loads.append(f"style {data[found.start() : found.start() + 80]}")


def _cover(run: Path) -> str:
    """Return the first page: what the record is of, and what its seal is worth."""
    provenance = read_json(run / PROVENANCE)
    definition, details = (provenance["predicate"][part] for part in ("buildDefinition", "runDetails"))
    said: dict[str, Any] = definition["externalParameters"]
    envelope = read_envelope(run)
    signed = f"signed by key {', '.join(envelope.signatures)}" if envelope else INTEGRITY_ONLY
    nvkit = definition["resolvedDependencies"][0]["digest"]
    rows = {
        "benchmark": f"{said['benchmark']}, {', '.join(said['scenarios'])}, round {said['round']}",
        "profile": said["profile"],
        "finished": details["metadata"]["finishedOn"],
        "nvkit": f"{details['builder']['version']['nvkit']}, commit {nvkit.get('gitCommit', 'unknown')}",
        "seal": f"{len(provenance['subject'])} files, {signed}",
        "SHA-256 of provenance.json": file_digest(run / PROVENANCE),
    }
    lines = [f"| {name} | {html.escape(str(value))} |" for name, value in rows.items()]
    notes = [f"- {note}" for note in read_json(run / "stages" / "report.json")["notes"]]
    check = "Check the record itself, not this page: `nvkit verify` on the folder or the zip, with the public key."
    title = f"# Record {html.escape(str(details['metadata']['invocationId']))}"
    return "\n".join([title, "", *notes, "", "| | |", "|---|---|", *lines, "", check])

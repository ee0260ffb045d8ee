"""The table of everything that the script has and what became of it in nvkit: parameters/coverage.md.

Every place is looked for in nvkit itself, and every combined variation is translated, so the table cannot name a
place that is not there. `python -m nvkit.interop.cm.coverage` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvkit.config import SCENARIOS, Settings, parameters_folder
from nvkit.config.settings import instead
from nvkit.errors import ConfigError
from nvkit.interop.cm.data import (
    EDITIONS,
    Place,
    Variation,
    decisions,
    dependencies,
    edition,
    flags,
    places,
    raw,
)
from nvkit.interop.cm.outcomes import LEFT_OUT, NOTHING
from nvkit.interop.cm.places import missing
from nvkit.interop.cm.translate import Translation, translate
from nvkit.store import write_text

_TAGS = ",".join(raw("variations")["script"]["tags"])
_MEMBER = {"bert_": "bert-99", "3d-unet_": "3d-unet-99", "dlrm_": "dlrm-v2-99"}
_GROUPS = {
    "loadgen-scenario": ("scenario", "CM_MLPERF_LOADGEN_SCENARIO"),
    "model": ("benchmark", "CM_MODEL"),
}
_KIND_WORDS = {
    "setting": "setting",
    "option": "option",
    "stage": "stage",
    "doctor": "`nvkit doctor`",
    "pyproject": "package",
    "none": "none",
}


@dataclass(frozen=True)
class Row:
    """One thing of the script and where it is in nvkit.

    Attributes:
        name: The thing.
        cells: What the table says of it, besides the name.
        problem: Why it has no place, or None.
    """

    name: str
    cells: tuple[str, ...]
    problem: str | None = None


def variation_rows() -> list[Row]:
    """Return all variations of both editions; each is looked for in nvkit, combined ones by translating them."""
    rows = {}
    for name in reversed(EDITIONS):
        for variation in edition(name).variations.values():
            rows[variation.name] = variation
    return [_variation_row(variation) for _, variation in sorted(rows.items())]


def flag_rows() -> list[Row]:
    """Return all flags of both editions."""
    older = flags("v2.1")
    rows = []
    for flag, variable in sorted(flags("v3.x").items()):
        variables = " / ".join(dict.fromkeys([variable, older.get(flag, variable)]))
        place = places()[variable]
        known = ", ".join(name for name in sorted(EDITIONS) if flag in flags(name))
        problem = missing(place) or ("a flag needs a place" if place.kind == "none" else None)
        rows.append(Row(f"--{flag}", (known, f"`{variables}`", _place_text(place)), problem))
    return rows


def default_rows() -> list[Row]:
    """Return the default environment of both editions."""
    rows = []
    for name in sorted(EDITIONS):
        for variable, value in {**edition(name).default_env, **edition(name).fixed_env}.items():
            place = places()[variable]
            rows.append(Row(variable, (name, f"`{value}`", _place_text(place)), missing(place)))
    return rows


def run_mode_rows() -> list[Row]:
    """Return the run modes."""
    rows = []
    for name in edition("v3.x").of_group("run-mode"):
        variation = edition("v3.x").variations[name]
        step = raw("variations")["run_modes"][variation.env["MLPERF_NVIDIA_RUN_COMMAND"]]
        option = missing(Place("option", "run_mode"))
        stage = missing(Place("stage", step["stage"])) if "stage" in step else None
        ours = f"`nvkit {step['stage']}`" if "stage" in step else "nothing to do"
        rows.append(Row(f"_{name}", (ours, f"`nvkit run --run-mode={step['run_mode']}`"), option or stage))
    return rows


def dependency_rows() -> list[Row]:
    """Return the scripts that the script and its variations call."""
    rows = []
    for entry in dependencies():
        callers = ", ".join(f"`_{name}`" for name in entry.of) or "the script"
        cells = (callers, ", ".join(sorted(entry.editions)), _place_text(entry.place))
        rows.append(Row(entry.tags, cells, missing(entry.place)))
    return rows


def text() -> str:
    """Return the content of coverage.md.

    Raises:
        ConfigError: something of the script has no place in nvkit.
    """
    variations, found_flags = variation_rows(), flag_rows()
    tables: list[tuple[str, list[str], list[Row]]] = [
        ("Variations", ["variation", "group", "editions", "in nvkit"], variations),
        ("Flags", ["flag", "editions", "variable", "in nvkit"], found_flags),
        ("Default environment", ["variable", "edition", "value", "in nvkit"], default_rows()),
        ("Run modes", ["variation", "nvkit's own harness", "NVIDIA's code"], run_mode_rows()),
        ("Scripts that it calls", ["tags", "called by", "editions", "in nvkit"], dependency_rows()),
    ]
    lost = [f"{row.name}: {row.problem}" for _, _, rows in tables for row in rows if row.problem]
    if lost:
        raise ConfigError(f"Without a place in nvkit: {'; '.join(lost)}.", "Mend the data files of nvkit/interop/cm.")
    source = " and ".join(f"{name} ({edition(name).readme}, {edition(name).source})" for name in sorted(EDITIONS))
    lines = [
        "# What became of the CM script",
        "",
        "Written by `python -m nvkit.interop.cm.coverage` from nvkit/interop/cm/*.yaml; a test writes it anew and",
        f"compares. The script is `{raw('variations')['script']['name']}` in its editions {source}.",
        f"Together they have {len(variations)} variations and {len(found_flags)} flags. `nvkit from-cm 'COMMAND'`",
        "translates a command and says what became of each word.",
    ]
    for title, headings, rows in tables:
        lines += ["", f"## {title} ({len(rows)})", "", *_markdown(headings, ([f"`{r.name}`", *r.cells] for r in rows))]
    lines += ["", f"## Decisions ({len(decisions())})", ""]
    told = ([d.name, d.choice, d.script, d.nvkit, d.why] for d in decisions())
    lines += _markdown(["what", "choice", "the script", "nvkit", "why"], told)
    return "\n".join(lines) + "\n"


def main(folder: Path | None = None) -> Path:
    """Write coverage.md into parameters/ (or `folder`) and return its path."""
    path = (folder or parameters_folder()) / "coverage.md"
    write_text(path, text())
    return path


def _variation_row(variation: Variation) -> Row:
    known = [name for name in sorted(EDITIONS) if variation.name in edition(name).variations]
    said, problem = _combined(variation) if variation.combined else _simple(variation)
    return Row(f"_{variation.name}", (variation.group or "", ", ".join(known), said), problem)


def _simple(variation: Variation) -> tuple[str, str | None]:
    """Say what one tag becomes, and look for it in nvkit."""
    if variation.group in _GROUPS:
        kind, variable = _GROUPS[variation.group]
        return f"{kind} `{variation.env[variable]}`", missing(Place(kind, variation.env[variable]))
    if variation.group in ("gpu-name", "device-memory"):
        profile = raw("variations")["profiles"][variation.name]
        return f"profile `{profile}`", missing(Place("profile", profile))
    if variation.group == "gpu-connection":
        with_it = {"sxm": "a100", "pcie": "a100,pcie"}[variation.name]
        profile = raw("variations")["profiles"][with_it]
        return f"with `_a100`: profile `{profile}`", missing(Place("profile", profile))
    if variation.group == "device":
        profile = "cpu" if variation.name == "cpu" else "auto"
        return f"profile `{profile}` where no GPU is named", missing(Place("profile", profile))
    if variation.group == "run-mode":
        step = raw("variations")["run_modes"][variation.env["MLPERF_NVIDIA_RUN_COMMAND"]]
        said = f"`nvkit {step['stage']}`" if "stage" in step else f"`nvkit run --run-mode={step['run_mode']}`"
        return said, missing(Place("stage", step["stage"])) if "stage" in step else None
    if not variation.env:
        members = [
            v.name for name in sorted(EDITIONS) for v in edition(name).variations.values() if variation.name in v.base
        ]
        members = list(dict.fromkeys(members))
        gone = next((problem for name in members if (problem := missing(Place("benchmark", name)))), None)
        return f"family of {', '.join(f'`{name}`' for name in members)}", gone
    used = {name: places()[name] for name in variation.env if places()[name].kind != "none"}
    problem = next((found for place in used.values() if (found := missing(place))), None)
    said = ", ".join(dict.fromkeys(_place_text(place) for place in used.values()))
    return said, problem if used else "it sets nothing that nvkit has"


def _combined(variation: Variation) -> tuple[str, str | None]:
    """Translate the commands of a combined variation, and say what it set and where that is."""
    scenarios = [name.lower() for name in SCENARIOS]
    parts = [_MEMBER.get(part, part) for part in variation.parts]
    own = [name for name in scenarios if name in parts]
    said: dict[str, None] = {}
    for scenario in own or scenarios:
        tags = ",".join(f"_{tag}" for tag in dict.fromkeys([*parts, scenario]))
        try:
            found = translate([f"cm run script --tags={_TAGS},{tags}"])
        except ConfigError as error:
            return f"refused: {error.what}", None if error.what.startswith("No round has") else error.what
        if variation.name not in found.selected:
            return "", f"{variation.name} does not apply"
        said |= dict.fromkeys(_said(variation, found))
    return "; ".join(said), None if said else "it sets nothing that nvkit has, and no decision says why"


def _said(variation: Variation, found: Translation) -> Iterator[str]:
    """Say what became of the values of a combined variation; what came to nothing needs a decision."""
    rows = [(became, note) for word, _, became, note in found.outcomes.rows if word == f"(_{variation.name})"]
    if in_profile := [f"`{became}`" for became, note in rows if note.endswith("has it")]:
        yield f"{', '.join(in_profile)} in profile `{found.names['profile']}`"
    yield from (f"`{became}`" for became, _ in rows if became.startswith("--"))
    decided = [d for d in found.decisions if not set(d.when.get("env", ())).isdisjoint(variation.env)]
    for became, note in rows:
        if decided and (became == LEFT_OUT or rows == [(NOTHING, note)]):
            setting = note.partition(" ")[0]
            own = (d for d in decided if setting in {places()[variable].name for variable in d.when["env"]})
            yield f"{became} ({note}), see the decision on {next(own, decided[0]).name}"


def _place_text(place: Place) -> str:
    if place.kind == "none":
        return f"none: {place.name}"
    names = [*(place.by_scenario.values() or [place.name]), *([place.also] if place.also else [])]
    flagged = [f"--{name.replace('_', '-')}" if place.kind in ("setting", "option") else name for name in names]
    shown = ", ".join(f"`{name}`" for name in dict.fromkeys(flagged))
    value = f" `{place.value}`" if place.value else ""
    does = dict.fromkeys(filter(None, (instead(name) for name in names if name in Settings.model_fields)))
    why = place.why or "; ".join(f"of NVIDIA's own code; {text}" for text in does)
    return f"{_KIND_WORDS[place.kind]} {shown}{value}" + (f": {why}" if why else "")


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


if __name__ == "__main__":
    print(main())

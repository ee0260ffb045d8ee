"""Which of nvkit's decisions touch a command."""

from __future__ import annotations

from collections.abc import Iterator

from nvkit.interop.cm.data import Decision, decisions, places
from nvkit.interop.cm.parse import Parsed
from nvkit.interop.cm.select import Selection
from nvkit.interop.cm.target import Target
from nvkit.interop.cm.values import truth


def touching(selection: Selection, parsed: Parsed, target: Target) -> tuple[Decision, ...]:
    """Return the decisions that the command is touched by, in the order of their file."""
    facts = _facts(selection, parsed, target)
    return tuple(
        decision
        for decision in decisions()
        if all(_holds(condition, values, facts) for condition, values in decision.when.items())
    )


def _holds(condition: str, values: tuple[str, ...], facts: dict[str, set[str]]) -> bool:
    if condition == "unset":
        return facts["env"].isdisjoint(values)
    if condition == "without":
        return facts["named"].isdisjoint(values)
    return not facts[condition].isdisjoint(values)


def _facts(selection: Selection, parsed: Parsed, target: Target) -> dict[str, set[str]]:
    named = {c.variation.name for c in selection.chosen if c.named}
    return {
        "tags": named,
        "named": named,
        "flags": set(parsed.flags),
        "env": set(selection.env),
        "idle": set(_idle(selection, target)),
        "said_no": set(_said_no(selection)),
        "lost": set(_lost(selection)),
        "modes": {selection.env["CM_MLPERF_LOADGEN_MODE"]},
        "run_modes": {target.run_mode},
        "scenarios": {target.scenario},
        "models": {target.benchmark},
    }


def _idle(selection: Selection, target: Target) -> Iterator[str]:
    """Yield variables that have no meaning in the scenario."""
    for variable in selection.env:
        place = places().get(variable)
        if place and place.by_scenario and not place.settings(target.scenario):
            yield variable


def _said_no(selection: Selection) -> Iterator[str]:
    """Yield yes-or-no variables that are set to no."""
    for variable, text in selection.env.items():
        place = places().get(variable)
        if place and (place.read_as == "bool" or place.value) and not truth(text):
            yield variable


def _lost(selection: Selection) -> Iterator[str]:
    """Yield chosen variations of which another variation has overridden a value."""
    for entry in selection.chosen:
        for variable in entry.variation.env:
            if selection.set_by(variable) != entry.tag:
                yield entry.variation.name

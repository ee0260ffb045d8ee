"""Is the record labelled as what it is, and does it say of machine and artefacts the same everywhere."""

from __future__ import annotations

from pathlib import Path

from nvkit.config import QUICK_NOTE
from nvkit.record.artefacts import lists
from nvkit.record.findings import Outcome
from nvkit.record.opened import Record
from nvkit.record.reading import read_json
from nvkit.record.redact import FILE as REDACTION
from nvkit.store import file_digest

_BRANDS = {"synthetic weights": ("model", "synthetic"), "generated data": ("data", "generated")}


def claims(record: Record) -> Outcome:
    """Quick runs, synthetic weights and generated data are named in every result, and only where it is so."""
    problems, manual = [], []
    setup = record.stages["setup"]
    brands = {QUICK_NOTE: bool(record.config["quick"])}
    if record.config["implementation"] == "nvkit":
        brands |= {brand: bool(setup[part][flag]) for brand, (part, flag) in _BRANDS.items()}
        if not setup["model"]["synthetic"]:
            manual.append(f"the weights are said to be real: SHA-256 {setup['model']['digest']}, compare it")
        if not setup["data"]["generated"]:
            manual.append(f"the data set is said to be real: {len(setup['data']['files'])} files")
    holders = {name: stored.get("notes", ()) for name, stored in record.stages.items() if name != "setup"}
    holders |= {f"{test.stage} (summary)": test.summary.notes for test in record.tests}
    for name, notes in {"setup": setup["notes"], **holders}.items():
        text = " ".join(notes)
        for brand, holds in brands.items():
            if holds != (brand in text):
                problems.append(f"{name} {'does not say' if holds else 'says'} '{brand}'")
    said = [brand for brand, holds in brands.items() if holds] or ["official length"]
    return Outcome.of(problems, f"every result says: {', '.join(said)}", manual)


def system(record: Record) -> Outcome:
    """The description of the machine, in MLPerf's schema, is that of the setup stage; packages are the same."""
    said = read_json(record.root / "record" / "system.json")
    found = record.results["setup"].system
    names = ", ".join(dict.fromkeys(gpu.name for gpu in found.gpus))
    pairs = {
        "host_processor_model_name": found.cpu.model,
        "accelerators_per_node": str(len(found.gpus)),
        "accelerator_model_name": names or "N/A",
        "host_memory_capacity": f"{found.ram_gib:.0f} GiB",
        "operating_system": f"{found.os}, kernel {found.kernel}",
    }
    problems = [f"{key} is '{said[key]}', setup found '{value}'" for key, value in pairs.items() if said[key] != value]
    for name, version in found.packages.items():
        installed = record.packages.get(name, {}).get("version")
        if installed != version:
            problems.append(f"{name} was {version} at setup and {installed} at the end")
    return Outcome.of(problems, f"{said['system_name']}; {len(record.packages)} packages")


def artefacts(record: Record) -> Outcome:
    """Data list, calibration set, model, ranges and engines are those whose digests were recorded."""
    rows = read_json(record.root / "record" / "artefacts.json")
    problems, at_hand, away = [], 0, 0
    if [row for row in rows if "path" not in row] != lists(record.stages):
        problems.append("the lists of data and calibration set are not those of the setup stage")
    for row in rows:
        if "path" not in row:
            continue
        path = Path(record.places.show(row["path"]))
        if not path.is_file():
            away += 1
            continue
        at_hand += 1
        if file_digest(path) != row["sha256"]:
            problems.append(f"{row['what']} ({path.name}) is another one than was recorded")
    model = [row["sha256"] for row in rows if row["what"] == "model"]
    if model and model != [record.stages["setup"]["model"]["digest"]]:
        problems.append("the model's digest is not that of the setup stage")
    missing = [f"{away} files are not on this machine; their digests are in record/artefacts.json"] if away else []
    return Outcome.of(problems, f"{at_hand} files have their recorded digests", missing)


def privacy(record: Record) -> Outcome:
    """Names and paths of the machine were replaced."""
    if not (record.root / REDACTION).is_file():
        return Outcome(manual=["names and paths of the machine were left in the record, as its maker asked"])
    said = read_json(record.root / REDACTION)
    return Outcome.of(
        (), f"{sum(said['replaced'].values())} names and paths replaced by words", said["in LoadGen's logs"]
    )


def attested(record: Record) -> Outcome:
    """What only a person at the machine can confirm."""
    said = read_json(record.root / "record" / "system.json")
    return Outcome(manual=[f"that the machine was {said['system_name']}, cooled and configured as it is said to be"])

"""The script of a bundle that predicts new files without this package: ``predict_onnx.py`` and its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifs_tune.config.data import DataSpec, SeriesSpec, TableSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data.columns import MISSING
from aifs_tune.data.series.reader import TIME_NAMES
from aifs_tune.publishing.bundle.files import ONNX
from aifs_tune.trainers.factory import find_trainer_entry
from aifs_tune.trainers.trees import BOOSTING

SCRIPT, SETTINGS = "predict_onnx.py", "predict_onnx.json"
_PARTS = Path(__file__).parent / "scripts"
"""Parts of the script: plain Python files, which this package never imports."""
_READERS = {"images": ("images",), "table": ("texts", "table"), "series": ("texts", "series")}
_WHAT = {
    "images": "Images in the formats of Pillow, and TIFF if tifffile is installed",
    "table": "Rows of CSV files",
    "series": "Series, a CSV file each,",
}


@dataclass(frozen=True)
class Script:
    """The script: its files with name and description, or the reason why there is none in ``missing``."""

    about: Mapping[str, tuple[str, str]]
    missing: str | None = None


def write_script(folder: Path, spec: SweepSpec, members: Sequence[str], name: str) -> Script:
    """Write the script for the members of a model, each in a folder below ``folder``.

    Nothing is written if it could give other answers than ``aifs-tune predict``; the reason is returned then.
    """
    entry = find_trainer_entry(spec)
    kind = "" if entry is None else entry.kind
    described = [folder / member / "weights" / "weights.json" for member in members]
    if not described or not all(file.is_file() for file in described):
        return Script({}, "it is written for networks and boosted trees of aifs-tune whose weights are kept")
    facts = json.loads(described[0].read_bytes())
    has_trees = spec.trainer is not None and spec.trainer.name == BOOSTING
    files = [f"{member}/weights/weights.npz" if has_trees else f"{member}/{ONNX}" for member in members]
    if not all((folder / file).is_file() for file in files):
        return Script({}, f"it needs {ONNX}, which is not there")
    data = spec.data or DataSpec()
    if (reason := _not_written_for(kind, data, facts)) is not None:
        return Script({}, reason)
    settings = {"name": name, "members": files, "classes": facts["classes"], "targets": facts.get("targets", [])}
    settings |= _SETTINGS[kind](data, facts)
    text = json.dumps(settings, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")
    (folder / SCRIPT).write_text(_script(kind, has_trees=has_trees), encoding="utf-8")
    return Script(
        {
            SCRIPT: ("Script", f"Predicts new files without aifs-tune: python {SCRIPT} FILES -o answers.csv"),
            SETTINGS: ("Settings of the script", f"How the training data were prepared, for {SCRIPT}."),
        }
    )


def _not_written_for(kind: str, data: DataSpec, facts: Mapping[str, Any]) -> str | None:
    """The setting of the study for which the script is not written; None if it is written for all of them."""
    if kind not in _READERS:
        return f"it is not written for {kind}; aifs-tune predict reads them from this folder"
    given: dict[str, bool] = {}
    if kind == "table":
        table = data.table or TableSpec()
        given = {
            "tables with genes, counts or other matrices": "counts" in facts["inputs"],
            "data.table.orientation": table.orientation != "rows",
            "data.table.header": not table.header,
            "data.table.decimal": table.decimal != "auto",
            "data.table.thousands": table.thousands != "auto",
            "data.table.time_format": table.time_format is not None,
            "columns of dates": any("time_format" in column for column in facts["inputs"].get("columns", ())),
        }
    elif kind == "series":
        series, layout = data.series or SeriesSpec(), facts["inputs"].get("layout", "files")
        given = {
            f"many series in one file (layout {layout})": layout != "files",
            "data.series.header": not series.header,
            "data.series.quality": series.quality is not None,
            "data.series.time_format": series.time_format is not None,
            "data.series.sort": series.sort,
        }
    reasons = ", ".join(name for name, is_given in given.items() if is_given)
    return f"it is not written for {reasons}; aifs-tune predict reads them from this folder" if reasons else None


def _of_images(data: DataSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image": facts["architecture"].get("image") or facts["architecture"]["inputs"],
        "fit": data.fit,
        "range16": facts["range16"],
    }


def _of_table(data: DataSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    missing = list((data.table or TableSpec()).missing)
    return {"columns": facts["inputs"]["columns"], "missing": missing, "missing_words": sorted(MISSING)}


def _of_series(data: DataSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    spec, inputs = data.series or SeriesSpec(), facts["inputs"]
    channels = inputs["channels"]
    return {
        "columns": inputs.get("columns") or [each["name"] for each in channels if each["role"] == "value"],
        "chosen": list(spec.columns),
        "time": spec.time,
        "time_names": list(TIME_NAMES),
        "missing": list(spec.missing),
        "missing_words": sorted(MISSING),
        "channels": channels,
        "steps": inputs["steps"],
        "keep": inputs.get("keep", "last"),
        "scaling": inputs.get("scaling", "set"),
        "is_forecast": "forecast" in inputs,
    }


_SETTINGS = {"images": _of_images, "table": _of_table, "series": _of_series}


def _script(kind: str, *, has_trees: bool) -> str:
    """Text of the script: the parts one below the other, and all that they import at the top."""
    packages = ["numpy", *(["pillow"] if kind == "images" else []), *([] if has_trees else ["onnxruntime"])]
    parts = ["reading", *_READERS[kind], "trees" if has_trees else "onnx", "command"]
    imports, bodies = set[str](), list[str]()
    for part in parts:
        _, _, code = (_PARTS / f"{part}.py").read_text(encoding="utf-8").partition('"""\n')
        lines = code.splitlines()
        found = [line for line in lines if line.startswith(("import ", "from "))]
        imports |= {line for line in found if not (_PARTS / f"{line.split()[1]}.py").is_file()}
        bodies.append("\n".join(line for line in lines if line not in found).strip())
    head = f'''"""Predict new files with the model in this folder, without aifs-tune and TensorFlow.

    pip install {" ".join(packages)}
    python {SCRIPT} FILES... -o answers.csv

{_WHAT[kind]} are read, and prepared as the training data were. A file that cannot be read, or could be read
in two ways, is named and left out; aifs-tune predict reads more forms of files.
"""
'''
    return "\n\n\n".join([head + "\n" + "\n".join(sorted(imports)), *bodies]) + "\n"

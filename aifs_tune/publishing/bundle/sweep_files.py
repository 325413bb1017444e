"""Sweep files of a bundle: the sweep of the study, and its best configuration for ``aifs-tune run``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import DamagedError, RequestError
from aifs_tune.space.search_space import fixed_entry


def published(spec: SweepSpec) -> SweepSpec:
    """``spec`` with file names instead of paths: paths of this machine are private, and useless elsewhere."""
    found: dict[str, Any] = {}
    if spec.data is not None:
        found["data"] = _named(spec.data)
    if spec.trainer is not None and spec.trainer.weights is not None:
        found["trainer"] = spec.trainer.model_copy(update={"weights": Path(spec.trainer.weights.name)})
    return spec.model_copy(update=found)


def _named(data: DataSpec) -> DataSpec:
    update: dict[str, Any] = {}
    if data.folder is not None:
        update["folder"] = Path(data.folder.name)
    for section, key in (
        ("labels", "file"),
        ("table", "file"),
        ("series", "path"),
        ("frames", "manifest"),
        ("bodies", "catalogue"),
    ):
        held = getattr(data, section)
        if held is not None and getattr(held, key) is not None:
            update[section] = held.model_copy(update={key: Path(getattr(held, key).name)})
    if data.url is not None and data.url.startswith("file:"):
        raise RequestError(
            "data.url: names a file of this machine; allowed in a bundle: a folder or file, or a URL of s3, gs or az"
        )
    return data.model_copy(update=update)


def local_data(spec: SweepSpec) -> str | None:
    """Name of the data folder or file of ``spec``; None for simulated data, bundled data or a URL."""
    data = spec.data
    if data is None:
        return None
    table, series, frames, bodies = data.table, data.series, data.frames, data.bodies
    paths = [
        data.folder,
        None if table is None else table.file,
        None if series is None else series.path,
        None if frames is None else frames.manifest,
        None if bodies is None else bodies.catalogue,
    ]
    return next((str(path) for path in paths if path is not None), None)


def data_name(spec: SweepSpec) -> str | None:
    """Description of the data of ``spec``: a name, a URL or their origin; None without data."""
    data = spec.data
    if data is None:
        return None
    if data.table is not None and data.table.file is None and data.table.bundled is not None:
        return f"the table {data.table.bundled} of scikit-learn"
    return local_data(spec) or data.url or "simulated data, generated from the settings in the sweep file"


def best_sweep(spec: SweepSpec, summary: Mapping[str, Any]) -> SweepSpec:
    """A sweep of one trial with the configuration of ``summary``, the object that ``best --json`` prints.

    All parameters are fixed, inactive ones are left out, and changes by population-based training are replayed.
    """
    document = spec.model_dump(mode="json")
    document["space"] = {name: fixed_entry(value) for name, value in summary["params"].items()}
    document["replay"] = summary.get("replay", document["replay"])
    document |= {"constraints": [], "mixtures": [], "exclude": []}
    document["search"] = spec.search.without_search(trials=1)
    return parse_sweep(document)


def sweep_text(spec: SweepSpec, comment: str) -> str:
    """YAML with all defaults written out, so that a change of a default has no effect."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    document = spec.model_dump(mode="json")
    document["space"] = {name: _short(entry) for name, entry in document["space"].items()}
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _short(entry: Mapping[str, Any]) -> Any:
    """A parameter of a sweep file; a fixed one without other settings as its value alone."""
    others = [value for key, value in entry.items() if key not in ("type", "value")]
    return fixed_entry(entry["value"]) if entry["type"] == "fixed" and not any(others) else entry


def read_sweep(file: Path) -> SweepSpec:
    """Read a sweep file of a bundle.

    Raises
    ------
    DamagedError
        If the file is not a valid sweep file.
    """
    try:
        return load_sweep_file(file)
    except RequestError as error:
        raise DamagedError(f"{error}") from error

"""Comparison of studies as a JSON object: what differs between them, and the verdict of ``aifs-tune compare``."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aifs_tune.analysis.candidates import chosen_candidates, study_of
from aifs_tune.analysis.confirmation import Confirmation, confirmation_spec, confirmations_of
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.execution.confirm import DEFAULT_CV
from aifs_tune.publishing.report.formatting import listed
from aifs_tune.publishing.verdict import comparison_entry
from aifs_tune.space.search_space import ParameterRow
from aifs_tune.storage.projects import split_name
from aifs_tune.study.record import StudyRecord

_PARTS = ("objective", "trade_off", "search", "constraints", "mixtures", "exclude", "limits", "cross_validation")
"""Parts of a sweep file whose values are compared one by one."""


def compare_studies(studies: Sequence[StudyRecord]) -> dict[str, Any]:
    """Return what differs between studies, and whether their best configurations were trained again.

    Parameters
    ----------
    studies : sequence of StudyRecord
        Two or more studies of one project; the first one is the baseline of the command.

    Returns
    -------
    dict
        ``parameters`` has each parameter of the search spaces, with its ``definitions`` in words by study; ``settings``
        has the other settings that differ, with their ``values`` by study; ``data`` says whether all studies have the
        same data. ``verdicts`` are those of ``aifs-tune compare`` between these studies, the newest of each set.
        ``next_step`` says in a sentence what to do next, with ``command``; both are None after a comparison of all.
    """
    verdicts = _verdicts(studies)
    everything = {study.name for study in studies}
    is_done = any(compared == everything for compared in verdicts)
    next_step, words = (None, None) if is_done else _next(studies)
    return {
        "parameters": _parameters(studies),
        "settings": _settings(studies),
        "data": _data(studies),
        "verdicts": [_verdict(found) for found in verdicts.values()],
        "next_step": next_step,
        "command": None if words is None else shlex.join(("aifs-tune", *words)),
    }


def _parameters(studies: Sequence[StudyRecord]) -> list[dict[str, Any]]:
    by_study = [{row.name: _definition(row) for row in study.spec.space.rows()} for study in studies]
    entries = []
    for name in dict.fromkeys(name for rows in by_study for name in rows):
        definitions = [rows.get(name) for rows in by_study]
        entries.append({"name": name, "is_equal": len(set(definitions)) == 1, "definitions": definitions})
    return entries


def _definition(row: ParameterRow) -> str:
    """Return type, range, default and condition: ``float, 600 to 1400 K, default 800, if gas is air``."""
    unit, default, condition = (row.unit, f"default {row.default}", f"if {row.condition}")
    parts = [row.type, f"{row.range} {unit}" if unit else row.range]
    parts += [default] if row.default and row.type != "fixed" else []
    return ", ".join(parts + ([condition] if row.condition else []))


def _settings(studies: Sequence[StudyRecord]) -> list[dict[str, Any]]:
    by_study = []
    for study in studies:
        document = study.spec.model_dump(mode="json", include=set(_PARTS))
        by_study.append({"trainer": study.trainer} | _flat({part: document[part] for part in _PARTS}))
    rows = []
    for name in dict.fromkeys(name for values in by_study for name in values):
        values = [each.get(name) for each in by_study]
        if any(value != values[0] for value in values):
            rows.append({"name": name, "values": values})
    return rows


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their path, such as ``search.epochs``."""
    leaves: dict[str, Any] = {}
    for key, value in document.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _data(studies: Sequence[StudyRecord]) -> dict[str, Any]:
    """Whether all studies have the same data, None where that is not known, and the same in words."""
    names = defaultdict[str, list[str]](list)
    unknown: list[str] = []
    for study in studies:
        (unknown if study.fingerprint is None else names[study.fingerprint]).append(_name(study))
    groups = [f"{listed(each)} (fingerprint {fingerprint[:12]})" for fingerprint, each in names.items()]
    rest = f" No data were recorded for {listed(unknown)}." if unknown else ""
    if not names:
        return {"is_equal": None, "text": "Not known: no study has recorded data."}
    if len(names) > 1:
        text = f"Not equal: content, labels or split differ between {listed(groups)}, and so may the values."
        return {"is_equal": False, "text": text + rest}
    if unknown:
        return {"is_equal": None, "text": f"Not known for all: {groups[0]}.{rest}"}
    return {"is_equal": True, "text": f"Equal: content, labels and split are the same for {groups[0]}."}


def _verdicts(studies: Sequence[StudyRecord]) -> dict[frozenset[str], Confirmation]:
    """Return the newest comparison of each set of these studies."""
    everything = {study.name for study in studies}
    found: dict[frozenset[str], Confirmation] = {}
    for study in studies:
        for made in confirmations_of(study, "compare"):
            compared = frozenset(study_of(candidate, study) for candidate in made.candidates)
            earlier = found.get(compared)
            is_newer = earlier is None or made.study.id > earlier.study.id
            if len(compared) > 1 and compared <= everything and is_newer:
                found[compared] = made
    return found


def _verdict(found: Confirmation) -> dict[str, Any]:
    return {
        "confirmation": _name(found.study),
        "baseline": found.candidates[0].name,
        "n_splits": len(found.scores.splits),
        "comparisons": [comparison_entry(each) for each in found.comparisons],
    }


def _next(studies: Sequence[StudyRecord]) -> tuple[str, tuple[str, ...] | None]:
    """Advice on studies that were not compared, and the words of the command if it can be given."""
    first, *others = studies
    names = tuple(study.name for study in others)
    has_data = first.spec.data is not None
    cv = DEFAULT_CV if has_data else CrossValidation(folds=1, repeats=DEFAULT_CV.n_splits)
    try:
        chosen_candidates(first, names)
        confirmation_spec(first.spec, cv)
    except (ConflictError, NotFoundError, RequestError) as error:
        reason = str(error).removesuffix(".")
        return f"The best configurations cannot be trained again and compared: {reason}.", None
    options = () if has_data else ("--folds", "1", "--repeats", str(cv.repeats))
    advice = "Train the best configurations again, on the same splits, before you rely on a difference between them."
    return advice, ("compare", first.name, *names, *options)


def _name(study: StudyRecord) -> str:
    return split_name(study.name)[1]

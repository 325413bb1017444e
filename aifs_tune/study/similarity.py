"""Similarity of studies: which earlier ones a new study can learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.samplers.transfer import MIN_TRIALS
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import UnreadableStudy, each_study, find_study, get_study, study_names
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.warm_start import WARM_START, check_source, common_parameters, has_warm_started

AUTO = "auto"
"""Instead of a study's name: the studies that are similar to the new one."""
DATA_FACTS = "data"
"""Fact of a study: properties of its data, see :func:`aifs_tune.data.sources.facts_of`."""
MAX_SIMILAR = 3
MIN_SHARED = 0.5
"""Fraction of the new study's searched parameters that an earlier study must have searched too."""
FACTORS = {"classes": 2.0, "side_px": 2.0, "train": 10.0}
"""Factor by which each property of similar data may differ, up or down."""


@dataclass(frozen=True)
class WarmStartSources:
    """Earlier studies to learn from, and why each of the other studies is not used."""

    studies: tuple[StudyRecord, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """One line of text for each study that is not used."""
        return [f"warm start: study {name} is not used: {reason}" for name, reason in self.others.items()]


def named_sources(
    storage: Storage, spec: SweepSpec, names: Sequence[str], *, besides: tuple[Storage, str]
) -> list[StudyRecord]:
    """The named earlier studies, each checked as a source for a new study with ``spec``; :data:`AUTO` is left out.

    ``besides`` are storage and name of the new study. Empty if that study exists and has warm started already.

    Raises
    ------
    RequestError
        As :func:`aifs_tune.study.warm_start.check_source`, or if a name is that of the new study or occurs twice.
    """
    found: list[StudyRecord] = []
    there = find_study(*besides) if names and besides[1] in study_names(besides[0]) else None
    if there is not None and there.fact(WARM_START) is not None:
        return []
    for name in names:
        if name == AUTO:
            continue
        if (storage.url, name) == (besides[0].url, besides[1]):
            raise RequestError(f"study {name!r} cannot warm start from itself; allowed: another study")
        if any(name == study.name for study in found):
            raise RequestError(f"warm start: study {name!r} is named twice; allowed: different studies")
        study = get_study(storage, name)
        check_source(spec, study)
        found.append(study)
    return found


def sources_for(study: StudyRecord, storage: Storage) -> WarmStartSources:
    """The studies of ``storage`` that ``search.warm_start`` of ``study`` names.

    None if it names none, or if the study has warm started already.

    Raises
    ------
    RequestError
        As :func:`named_sources`.
    """
    names = study.spec.search.warm_start
    if not names or (study.fact(WARM_START) is not None and (AUTO in names or has_warm_started(study, names))):
        return WarmStartSources()  # what it took over is stored in the study itself; the sources may be gone
    named = named_sources(storage, study.spec, names, besides=(study.storage, study.name))
    if AUTO not in names:
        return WarmStartSources(tuple(named))
    found = find_similar(storage, study)
    return WarmStartSources((*named, *(like for like in found.studies if like.name not in names)), found.others)


def find_similar(storage: Storage, study: StudyRecord) -> WarmStartSources:
    """The studies of ``storage`` that are most similar to ``study``, at most :data:`MAX_SIMILAR`.

    A similar study has the same trainer and objective, at least half of the searched parameters, and the same or
    similar data: the same kind and channels, and classes, examples and image side within :data:`FACTORS`.
    """
    found: list[tuple[tuple[float, ...], StudyRecord]] = []
    others: dict[str, str] = {}
    for earlier in each_study(storage):
        if (storage.url, earlier.name) == (study.storage.url, study.name):
            continue
        if isinstance(earlier, UnreadableStudy):
            others[earlier.name] = earlier.problem
        elif (reason := _why_dissimilar(study, earlier)) is not None:
            others[earlier.name] = reason
        else:
            found.append(((-_similarity(study, earlier), -earlier.id), earlier))
    ordered = [earlier for _, earlier in sorted(found, key=lambda entry: entry[0])]
    for earlier in ordered[MAX_SIMILAR:]:
        others[earlier.name] = f"{MAX_SIMILAR} other studies are more similar"
    return WarmStartSources(tuple(ordered[:MAX_SIMILAR]), others)


def _why_dissimilar(study: StudyRecord, earlier: StudyRecord) -> str | None:
    """Why a study cannot learn from an earlier one; None if it can."""
    spec, asked = study.spec, earlier.spec
    if earlier.trainer != study.trainer:
        return f"its trainer is {earlier.trainer or 'none'}"
    if asked.cross_validation is not None and spec.cross_validation is None:
        return "its trials were trained on several folds of the data"
    if asked.objective != spec.objective:
        return f"its objective is {asked.objective.metric} ({asked.objective.mode})"
    try:
        check_source(spec, earlier)
    except RequestError as error:
        return str(error).partition(": ")[2] or str(error)
    searched = [name for name, parameter in spec.space.items() if parameter.type != "fixed"]
    shared = common_parameters(spec.space, asked.space)
    if len(shared) < MIN_SHARED * len(searched):
        return f"it searched {len(shared)} of the {len(searched)} parameters of this study"
    n_known = sum(count for state, count in earlier.counts().items() if state in ("complete", "pruned"))
    if n_known < MIN_TRIALS:
        return f"it has {n_known} results; at least {MIN_TRIALS} are needed"
    if study.fingerprint is not None and study.fingerprint == earlier.fingerprint:
        return None
    return _other_data(study.fact(DATA_FACTS), earlier.fact(DATA_FACTS))


def _other_data(here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> str | None:
    """Why the data of two studies are not similar; None if they are, or if neither study has data."""
    if here is None and there is None:
        return None
    if here is None or there is None:
        return (
            "the properties of its data were not recorded" if there is None else "it has data and this study has none"
        )
    for fact in ("kind", "channels"):
        if here.get(fact) != there.get(fact):
            return f"its data have {fact} {there.get(fact)}, those of this study {here.get(fact)}"
    for fact, factor in FACTORS.items():
        mine, theirs = here.get(fact) or 0, there.get(fact) or 0
        if bool(mine) != bool(theirs) or (mine and not 1 / factor <= theirs / mine <= factor):
            return f"its data have {fact} {theirs}, those of this study {mine}; allowed: a factor of up to {factor:g}"
    return None


def _similarity(study: StudyRecord, earlier: StudyRecord) -> float:
    """Similarity, larger is more similar: the same data first, then shared parameters, then similar data."""
    shared = len(common_parameters(study.spec.space, earlier.spec.space))
    if study.fingerprint is not None and study.fingerprint == earlier.fingerprint:
        return 1000.0 + shared
    here, there = study.fact(DATA_FACTS) or {}, earlier.fact(DATA_FACTS) or {}
    apart = sum(abs(math.log(there[fact] / here[fact])) for fact in FACTORS if here.get(fact) and there.get(fact))
    return shared - 0.1 * apart

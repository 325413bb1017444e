"""The verdict on a study as a JSON object: whether its result is confirmed, by how much, and what to do next."""

from __future__ import annotations

import shlex
from typing import Any

from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.confirmation import CANDIDATES, Confirmation, newest_confirmation, read_confirmation
from aifs_tune.analysis.final_model import ExpectedScore, FinalModel, expected_score
from aifs_tune.analysis.noise import noise_of
from aifs_tune.analysis.paired import Comparison
from aifs_tune.analysis.test_part import TEST_EVALUATION
from aifs_tune.errors import NotFoundError, RequestError, WorkError
from aifs_tune.execution.finalize import check_has_model
from aifs_tune.publishing.remarks import remarks_on
from aifs_tune.publishing.report.context import ReportContext, gather
from aifs_tune.publishing.report.verdict import (
    best_confirmed,
    caveats,
    confirmed_text,
    test_set_text,
    unconfirmed_text,
)
from aifs_tune.storage.projects import split_name
from aifs_tune.study.record import StudyRecord

CONFIRMED, NOT_CONFIRMED, NOT_YET = "confirmed", "not confirmed", "not confirmed yet"


def verdict_summary(study: StudyRecord) -> dict[str, Any]:
    """The verdict on a study, from its newest confirmation.

    Returns
    -------
    dict
        ``outcome`` is "confirmed", "not confirmed", "not confirmed yet", or None for a study that measures noise or
        the test set of another; ``text`` is the verdict in words. ``confirmation`` names the study that trained again,
        ``score`` is that of the configuration that leads in it, with its interval, and ``comparisons`` are those with
        the baseline. ``noise`` is the standard deviation of one measurement, with its ``source``. ``final`` is the
        final model, if one is trained. ``next_step`` says in a sentence what to do next, with ``command``.
    """
    if study.fact(CANDIDATES) is not None:
        return _of_confirmation(study)
    if study.fact(TEST_EVALUATION) is not None:
        return _summary(None, "This study evaluates a configuration of another study on its test set.")
    try:
        context = gather(study, with_data=False)
    except NotFoundError:
        return _summary(NOT_YET, "Not confirmed yet. No trial is complete.")
    found, noise = context.confirmation, context.measured_noise
    said = remarks_on(study)
    remarks = [f"{text}." for text in said.texts]
    if found is not None:
        remarks += caveats(context, found)
    if context.tested is not None:
        remarks.append(test_set_text(context))
    next_step, words = _next_of_unconfirmed(context, said.next) if found is None else _next_of(context, found)
    if found is None:
        summary = _summary(NOT_YET, unconfirmed_text(context))
    else:
        summary = _of_comparisons(found)
    return summary | {
        "noise": None if noise is None else {"sd": noise[0], "source": noise[1]},
        "remarks": remarks,
        "final": None if context.final is None else _final(context.final),
        "next_step": next_step,
        "command": None if words is None else shlex.join(("aifs-tune", *words)),
    }


def confirmed_result(study: StudyRecord) -> dict[str, Any] | None:
    """The result of a study's newest confirmation, for a list of studies; None without one.

    Returns
    -------
    dict or None
        ``outcome`` is "confirmed" or "not confirmed". ``configuration`` has the mean score ``mean`` with its
        ``interval``, and is better than the baseline by ``difference``, whichever the mode.
    """
    found = newest_confirmation(study)
    if found is None:
        return None
    told = _of_comparisons(found)
    score, name = told["score"] or {}, _leader(found)
    compared = next((each for each in found.comparisons if each.name == name), None)
    return {
        "outcome": told["outcome"],
        "configuration": name,
        "mean": score.get("mean"),
        "interval": score.get("interval"),
        "difference": None if compared is None else compared.difference,
    }


def _summary(outcome: str | None, text: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("confirmation", "score", "noise", "final", "next_step", "command"))
    return {"outcome": outcome, "text": text, **nothing, "comparisons": [], "remarks": []}


def _of_comparisons(found: Confirmation) -> dict[str, Any]:
    leader = _leader(found)
    candidate = next(each for each in found.candidates if each.name == leader)
    return _summary(CONFIRMED if best_confirmed(found) else NOT_CONFIRMED, confirmed_text(found)) | {
        "confirmation": split_name(found.study.name)[1],
        "score": _score(leader, expected_score(found, candidate)),
        "comparisons": [comparison_entry(each) for each in found.comparisons],
    }


def _of_confirmation(study: StudyRecord) -> dict[str, Any]:
    """The verdict of a study that is itself a confirmation, or measures the noise of one configuration."""
    try:
        found = read_confirmation(study.storage, study.name)
    except NotFoundError:
        return _summary(NOT_YET, "Not confirmed yet. No training run has ended.")
    if found.comparisons:
        return _of_comparisons(found)
    name = "the default configuration" if found.candidates[0].name == BASELINE else found.candidates[0].name
    try:
        noise = noise_of(found)
    except WorkError as error:
        return _summary(None, f"This study measures the noise of {name}: {error}.")
    source = f"{noise.n} training runs of {name}"
    return _summary(None, f"This study measures the noise of {name}.") | {"noise": {"sd": noise.sd, "source": source}}


def _leader(found: Confirmation) -> str:
    better = best_confirmed(found)
    return found.leader.name if better is None else better.name


def _score(name: str, score: ExpectedScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    entry = score.to_json()
    del entry["confirmation"]
    return {"configuration": name, **entry}


def comparison_entry(comparison: Comparison) -> dict[str, Any]:
    """Return what is told of a comparison with the baseline."""
    kept = ("name", "verdict", "difference", "interval", "confidence", "p_adjusted", "text")
    entry = comparison.to_dict()
    return {name: entry[name] for name in kept}


def _final(final: FinalModel) -> dict[str, Any]:
    return {"study": split_name(final.study.name)[1], "name": final.name, "score": _score(final.name, final.expected)}


def _next_of_unconfirmed(context: ReportContext, words: tuple[str, ...]) -> tuple[str, tuple[str, ...] | None]:
    """Advice on a study without a confirmation, and the words of the command, which ``remarks_on`` chose."""
    spec = context.study.spec
    if spec.refit:
        return "Measure this final model on examples that it was not trained on.", None
    if words[0] == "analyse":
        return "Find out first why trials failed.", words
    if spec.trainer is None:
        return "Measure the best configuration and the one in use again before you rely on this value.", words
    if words[0] == "confirm":
        return "Train the best configurations and the baseline again before you rely on this value.", words
    if spec.cross_validation is not None:
        return "The trials are compared over several splits of the data already; try the best on new data.", None
    return "Run more trials, or train the best configuration again with other seeds, before you rely on it.", None


def _next_of(context: ReportContext, found: Confirmation) -> tuple[str, tuple[str, ...] | None]:
    """Advice after a confirmation, and the words of the command."""
    name = context.study.name
    better = best_confirmed(found)
    if better is None:
        cv = found.study.spec.cross_validation
        again = ("confirm", name, "--repeats", str(2 * cv.repeats)) if cv is not None else None
        if all(each.verdict == "not tested" for each in found.comparisons):
            return "Confirm again with more repeats, so that the difference can be tested.", again
        smallest = noise_of(found).smallest
        return (
            f"Keep the baseline, or confirm again with more repeats to find differences below about {smallest:.2g}.",
            again,
        )
    if context.final is not None:
        return "Use the final model; a bundle takes it elsewhere.", ("export", name, "-o", f"{name}-bundle")
    try:
        check_has_model(context.study)
    except RequestError:
        return f"Use {better.name}.", None
    return f"Train {better.name} on the training and validation sets together, and use that model.", ("finalize", name)

"""What the answers of a model come from: contributions of pixels, time steps or columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.shapley import shapley_values
from aifs_tune.data.images.folder import SkippedFile, shown
from aifs_tune.data.new_files import NewExamples, files_in
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.keras_files import read_inputs

if TYPE_CHECKING:
    from aifs_tune.analysis.model import Model, UserModel

Progress = Callable[[str, int, int], None]
MOST, MOST_ROWS = 20, 200
"""Number of images or series, and of rows, that are explained unless more are asked for."""
_MOST_EVALUATIONS = 400_000
"""Number of rows that a model predicts at most to explain a table."""
_MOST_ORDERS = 32
_COLOUR = 255
_DIGITS = 6
"""Significant digits of an entry, which was scaled in single precision."""
_ERROR = 0.05
"""Difference between the sum of contributions and that of both answers, as a share of the latter, that is told."""


@dataclass(frozen=True)
class Explanation:
    """What the answer for one example comes from.

    Parameters
    ----------
    name
        The file, or file and row, of the example.
    of
        Class or target that is explained.
    answer, reference
        Its probability, or the number in its unit, for the example and for the reference that it is compared with.
    inputs
        What the model looked at: an image (height, width, bands), a series (steps, columns) in its units, or entries of
        a row (columns,), where the median stands in for a missing number.
    contributions
        How much each of them moved the answer away from that of the reference, of the same shape as the inputs, in the
        unit of the answer.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.analysis.explanation import Explanation
    >>> row, given = np.array([1.5, "sea"], object), np.array([0.6, 0.1])
    >>> one = Explanation("new.csv row 1", "star", answer=0.9, reference=0.2, inputs=row, contributions=given)
    >>> bool(np.isclose(one.contributions.sum(), one.answer - one.reference))
    True
    """

    name: str
    of: str
    answer: float
    reference: float
    inputs: NDArray[Any]
    contributions: NDArray[np.float64]


@dataclass(frozen=True)
class Explanations:
    """What the answers of a model come from.

    Parameters
    ----------
    kind
        What the examples are: ``image``, ``series`` or ``table``.
    model
        Name of the model.
    unit
        Unit of answers and contributions: ``probability``, that of the target, or empty.
    method
        How the contributions were computed, and what the examples were compared with, in words.
    columns
        Names of the columns of a table or series.
    each
        The explained examples.
    skipped
        Files that could not be read, with the reasons.
    remarks
        What else should be known.

    Examples
    --------
    >>> import numpy as np
    >>> from aifs_tune.analysis.explanation import Explanation, Explanations
    >>> row, given = np.array([1.5, "sea"], object), np.array([0.6, -0.1])
    >>> one = Explanation("new.csv row 1", "star", answer=0.7, reference=0.2, inputs=row, contributions=given)
    >>> columns = ("mass", "site")
    >>> found = Explanations("table", "trial 0", "probability", "Shapley values", columns, (one,), (), ())
    >>> found.importance
    {'mass': 0.6, 'site': 0.1}
    """

    kind: Literal["image", "series", "table"]
    model: str
    unit: str
    method: str
    columns: tuple[str, ...]
    each: tuple[Explanation, ...]
    skipped: tuple[SkippedFile, ...]
    remarks: tuple[str, ...]

    @property
    def importance(self) -> dict[str, float]:
        """Absolute contribution of each column, summed over steps; the mean over all examples, the largest first."""
        if not self.columns or not self.each:
            return {}
        sums = [np.abs(one.contributions.reshape(-1, len(self.columns))).sum(axis=0) for one in self.each]
        means = np.mean(sums, axis=0)
        return {self.columns[i]: float(means[i]) for i in np.argsort(-means, kind="stable")}


_INTEGRATED = "integrated gradients (Sundararajan et al. 2017)"
_METHODS = {
    "image": f"{_INTEGRATED}; each image was compared with a plain one, which has the median of each band everywhere",
    "series": f"{_INTEGRATED}; each series was compared with a flat one at the same times, which has the mean of the "
    "training set",
}


def explain_files(
    model: Model, files: Sequence[str | Path], *, of: str | None, most: int | None, progress: Progress | None
) -> Explanations:
    """See :meth:`aifs_tune.analysis.model.Model.explain_files`."""
    kind = model.preparation.kind
    if kind == "bodies":
        raise RequestError(f"{model.name} is a detector, which answers for each body; allowed: a model of one answer")
    n_most = most or (MOST_ROWS if kind == "table" else MOST)
    n_classes, units = len(model.classes), {target.name: target.unit for target in model.targets}
    names = (*model.classes, *units)
    chosen = _number_of(of, names)
    remarks = list[str]()
    if chosen is None and not model.classes:
        chosen = 0
        if len(names) > 1:
            remarks.append(f"the answer that is explained is {names[0]}; the others are {', '.join(names[1:])}")
    new = _first_examples(model, files, n_most, remarks)
    if not new.names:
        return Explanations(_KINDS[kind], model.name, "", "", (), (), tuple(new.skipped), tuple(new.remarks))
    outputs = model.predict(*new.inputs)
    numbers = outputs[:, :n_classes].argmax(axis=1) if chosen is None else np.full(len(outputs), chosen)
    unit = "probability" if numbers[0] < n_classes else (units[names[numbers[0]]] or "")
    examine = {"table": _of_rows, "series": _of_series}.get(kind, _of_images)
    found, columns, method = examine(model, new, numbers.astype(np.int64), progress)
    each = tuple(
        Explanation(name, names[number], *one) for name, number, one in zip(new.names, numbers, found, strict=True)
    )
    remarks = [*new.remarks, *remarks, *_errors(each)]
    return Explanations(_KINDS[kind], model.name, unit, method, columns, each, tuple(new.skipped), tuple(remarks))


_KINDS: dict[str, Literal["image", "series", "table"]] = {
    "images": "image",
    "frames": "image",
    "series": "series",
    "table": "table",
}
_Found = list[tuple[float, float, NDArray[Any], NDArray[np.float64]]]
"""Answer, answer for the reference, inputs and contributions of each example."""


def _number_of(of: str | None, names: Sequence[str]) -> int | None:
    if of is None:
        return None
    if of not in names:
        raise RequestError(f"of: {of!r} is not predicted by this model; allowed: {', '.join(names)}")
    return list(names).index(of)


def _first_examples(model: Model, files: Sequence[str | Path], most: int, remarks: list[str]) -> NewExamples:
    """The first examples of files, at most ``most``."""
    how = "--most explains more, and other files others"
    if model.preparation.kind == "table":
        n_groups = len({column["name"] for column in model.preparation.facts["columns"]})
        most_possible = max(1, _MOST_EVALUATIONS // (2 * (n_groups + 1)))
        if most > most_possible:
            most, how = most_possible, f"with {n_groups} columns more would take long"
    batches, n, has_more = list[NewExamples](), 0, False
    found = files_in(files)
    for batch in model.preparation.batches(found):
        batches.append(batch)
        n += len(batch.names)
        if n >= most:
            n_seen = sum(len(each.names) + len(each.skipped) for each in batches)
            has_more = n > most or (model.preparation.kind != "table" and n_seen < len(found))
            break
    if has_more:
        remarks.append(f"explained: the first {most} examples; {how}")
    inputs = tuple(np.concatenate(arrays)[:most] for arrays in zip(*(each.inputs for each in batches), strict=True))
    return NewExamples(
        inputs,
        [name for each in batches for name in each.names][:most],
        [one for each in batches for one in each.skipped],
        list(dict.fromkeys(text for each in batches for text in each.remarks)),
    )


def _gradients_of(
    model: Model,
    inputs: Sequence[NDArray[Any]],
    references: NDArray[Any],
    numbers: NDArray[np.int64],
    progress: Progress | None,
) -> list[tuple[float, float, NDArray[np.float64]]]:
    """Answer, answer for the reference, and contributions of each example: means over the members."""
    members = []
    for member in model.members:
        if not hasattr(member, "attributions"):
            raise RequestError(f"explain: {model.name} is no network; allowed: networks, and models of tables")
        members.append(member)
    found = []
    for i in range(len(references)):
        own, only = [array[i : i + 1] for array in inputs], slice(i, i + 1)
        made = [member.attributions(own, references[only], numbers[only]) for member in members]
        answer, reference = (float(np.mean([getattr(m, part) for m in made])) for part in ("answers", "references"))
        found.append((answer, reference, np.mean([m.contributions[0] for m in made], axis=0)))
        if progress is not None:
            progress("explaining", i + 1, len(references))
    return found


def _of_images(
    model: Model, new: NewExamples, numbers: NDArray[np.int64], progress: Progress | None
) -> tuple[_Found, tuple[str, ...], str]:
    images = new.inputs[0].astype(np.float32)
    found = _gradients_of(model, (images,), _of_one_colour(images), numbers, progress)
    top = _COLOUR if new.inputs[0].dtype == np.uint8 else 1
    made = [(a, b, image / top, given) for image, (a, b, given) in zip(images, found, strict=True)]
    return made, (), _METHODS["image"]


def _of_one_colour(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images (n, height, width) or (n, height, width, bands) with the median of each band everywhere."""
    return np.broadcast_to(np.median(images, axis=(1, 2), keepdims=True), images.shape).astype(np.float32)


def _of_series(
    model: Model, new: NewExamples, numbers: NDArray[np.int64], progress: Progress | None
) -> tuple[_Found, tuple[str, ...], str]:
    values, lengths = new.inputs
    facts = model.preparation.facts
    channels = [fact for fact in facts["channels"] if fact["role"] == "value"]
    references = values.copy()
    references[..., : len(channels)] = 0
    found = _gradients_of(model, (values, lengths), references, numbers, progress)
    made: _Found = []
    for series, length, (answer, reference, given) in zip(values, lengths.tolist(), found, strict=True):
        own = series[:length, : len(channels)].astype(np.float64)
        if facts.get("scaling", "set") == "set":
            own = own * [fact["scale"] for fact in channels] + [fact["centre"] for fact in channels]
        made.append((answer, reference, own, given[:length, : len(channels)]))
    return made, tuple(str(fact["name"]) for fact in channels), _METHODS["series"]


def _of_rows(
    model: Model, new: NewExamples, numbers: NDArray[np.int64], progress: Progress | None
) -> tuple[_Found, tuple[str, ...], str]:
    (rows,), columns = new.inputs, model.preparation.facts["columns"]
    groups: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        groups.setdefault(column["name"], []).append(i)
    reference = np.array([-0.5 if "level" in c else (c["median"] - c["centre"]) / c["scale"] for c in columns])
    n_orders = _MOST_EVALUATIONS // (2 * len(rows) * (len(groups) + 1))
    n_orders = min(_MOST_ORDERS, max(1, n_orders))
    n_done = 0

    def predict(mixed: NDArray[np.float32]) -> NDArray[np.float64]:
        nonlocal n_done
        if progress is not None:
            progress("explaining", min(n_done, len(groups)), len(groups))
        n_done += 1
        picked = np.resize(numbers, len(mixed))
        return model.predict(mixed)[np.arange(len(mixed)), picked].astype(np.float64)

    values = shapley_values(
        predict, rows, reference.astype(np.float32), list(groups.values()), n_orders=n_orders, seed=0
    )
    answers, references = predict(rows), predict(np.tile(reference.astype(np.float32), (len(rows), 1)))
    entries = [[entry_of(row, [columns[i] for i in own], own) for own in groups.values()] for row in rows]
    made = [
        (float(a), float(b), np.array(entry, object), one)
        for a, b, entry, one in zip(answers, references, entries, values, strict=True)
    ]
    method = (
        f"Shapley values, estimated from {2 * n_orders} orders of the columns (Castro et al. 2009); each row was "
        "compared with a typical one, which has the median of each number in the training set"
        + (", and none of the entries of text" if any("level" in column for column in columns) else "")
    )
    return made, tuple(groups), method


def entry_of(row: NDArray[np.float32], columns: Sequence[dict[str, Any]], places: Sequence[int]) -> float | str:
    """The entry of a row in one column of the table: a number, or text."""
    if "level" in columns[0]:
        present = (column["level"] for column, i in zip(columns, places, strict=True) if row[i] > 0)
        return str(next(present, "other"))
    centre, scale = (float(columns[0][name]) for name in ("centre", "scale"))
    n_decimals = _DIGITS - 1 - math.floor(math.log10(max(abs(centre), scale)))
    return round(float(row[places[0]]) * scale + centre, n_decimals) + 0.0  # no -0.0


def _errors(each: Sequence[Explanation]) -> list[str]:
    """How many explanations do not add up to what they explain."""
    gaps = [abs(one.contributions.sum() - (one.answer - one.reference)) for one in each]
    wide = [gap > max(_ERROR * abs(one.answer - one.reference), 1e-3) for gap, one in zip(gaps, each, strict=True)]
    if not any(wide):
        return []
    return [
        f"the contributions of {sum(wide)} examples do not add up to the change of the answer within "
        f"{_ERROR:.0%}; the largest difference is {max(gaps):.2g}"
    ]


def explain_users_files(
    model: UserModel, files: Sequence[str | Path], *, of: str | None, most: int | None, progress: Progress | None
) -> Explanations:
    """See :meth:`aifs_tune.analysis.model.UserModel.explain_files`."""
    names, each, skipped, remarks = list[str](), list[Explanation](), list[SkippedFile](), list[str]()
    n_most, found, n_axes = most or MOST, files_in(files), 3
    for done, file in enumerate(found, start=1):
        if len(each) >= n_most:
            remarks.append(f"explained: the first {n_most} examples; --most explains more")
            break
        try:
            inputs = np.asarray(read_inputs(file, model.read), np.float32)[: n_most - len(each)]
            outputs = model.predict(inputs)
        except (DataError, ValueError, TypeError) as error:
            skipped.append(SkippedFile(shown(str(file)), str(error)))
            continue
        n_axes = inputs.ndim - 1
        if n_axes > 3:
            raise RequestError(f"explain: inputs of shape {inputs.shape[1:]} cannot be drawn; allowed: 1 to 3 axes")
        names = list(model.classes)
        if len(names) != outputs.shape[1]:
            names = [f"output_{i}" for i in range(outputs.shape[1])]
        chosen = _number_of(of, names)
        numbers = outputs.argmax(axis=1) if chosen is None else np.full(len(outputs), chosen)
        references = _of_one_colour(inputs) if n_axes > 1 else np.zeros_like(inputs)
        made = model.member.attributions(inputs, references, numbers.astype(np.int64))
        for i, number in enumerate(numbers):
            name = str(file) if len(inputs) == 1 else f"{file}[{i}]"
            shape = (*inputs.shape[1:], 1) if n_axes < 3 else inputs.shape[1:]
            own = inputs[i].reshape(shape), made.contributions[i].reshape(shape)
            each.append(Explanation(name, names[number], float(made.answers[i]), float(made.references[i]), *own))
        if progress is not None:
            progress("explaining", done, len(found))
    kind: Literal["image", "series"] = "image" if n_axes > 1 else "series"
    method = _METHODS["image"] if n_axes > 1 else f"{_INTEGRATED}; each example was compared with zeros"
    unit = "probability" if model.classes else ""
    columns = () if n_axes > 1 else ("input",)
    remarks += _errors(each)
    return Explanations(kind, model.name, unit, method, columns, tuple(each), tuple(skipped), tuple(remarks))

"""Writing of explanations as a folder: a picture for each example, tables, and a page that says how to read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune._util.atomic_files import write_folder
from aifs_tune.analysis.explanation import Explanation, Explanations
from aifs_tune.errors import ConflictError, StorageError, WorkError
from aifs_tune.publishing.bundle.model import load_model
from aifs_tune.publishing.explanation.pictures import CAVEAT, importance_picture, picture_of
from aifs_tune.study.dataframe import table_bytes

_MOST_PICTURES = 20
"""Number of rows of a table that get a picture."""


def explain(
    study: str | Path,
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    storage: str | None = None,
    trial: int | None = None,
    of: str | None = None,
    most: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Explanations:
    """Explain the answers of a model for new files, and write pictures and tables into a folder.

    Networks of images, frames and series are explained by integrated gradients, models of tables by Shapley values. An
    attribution says what the model looked at. It is not a cause.

    Parameters
    ----------
    study : str or Path
        Name of the study, or the folder of a bundle.
    files : sequence of str or Path
        Files or folders of new examples, as for ``predict_files`` of :func:`aifs_tune.load_model`.
    folder : str or Path
        Folder to write. It must be new or empty.
    storage : str, optional
        Storage of the study. Default: the storage that commands use without ``--storage``.
    trial : int, optional
        Number of a trial whose model to take. Default: the final model, or the model of the best trial.
    of : str, optional
        Class or target to explain. Default: the likeliest class of each example, or the first target.
    most : int, optional
        Number of examples to explain, the first ones. Default: 20 images or series, 200 rows.
    progress : callable, optional
        Called with ``"explaining"``, the number of steps done and that of all steps. Default: nothing is called.

    Returns
    -------
    Explanations
        The contributions for each example, and the files that could not be read.

    Raises
    ------
    ConflictError
        If the folder already exists and is not empty.
    NotFoundError
        If there is no such study, or no weights are kept.
    RequestError
        If ``of`` is not predicted, or the model cannot be explained.
    DataError
        If a file does not exist, or a table lacks a column.
    WorkError
        If no file can be read.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> try:
    ...     aifs_tune.explain("furnace", ["new.csv"], "explained")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(error)
    Study 'furnace' has no trainer, so it has no model; allowed: a study of a sweep
    """
    target = Path(folder)
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConflictError(f"{target}: already exists; allowed: a new or an empty folder")
    model = load_model(study, storage=storage, trial=trial)
    found = model.explain_files(files, of=of, most=most, progress=progress)
    if not found.each:
        reasons = "; ".join(map(str, found.skipped[:3]))
        raise WorkError(f"no file could be explained, of {len(found.skipped)} ({reasons})")
    try:
        write_folder(target, lambda partial: _write(found, partial))
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    return found


def _write(found: Explanations, folder: Path) -> None:
    import pandas as pd

    folder.chmod(0o755)
    pictures = [
        "" if found.kind == "table" and i >= _MOST_PICTURES else _name(one, i) for i, one in enumerate(found.each)
    ]
    for one, name in zip(found.each, pictures, strict=True):
        if name:
            (folder / f"{name}.png").write_bytes(picture_of(found, one))
        if found.kind == "image":
            np.savetxt(folder / f"{name}.csv", one.contributions.sum(axis=-1), fmt="%.6g", delimiter=",")
    unit = f" [{found.unit}]" if found.unit else ""
    answers = pd.DataFrame(
        {
            "file": [one.name for one in found.each],
            "explained": [one.of for one in found.each],
            f"answer{unit}": [one.answer for one in found.each],
            f"answer_for_reference{unit}": [one.reference for one in found.each],
            f"sum_of_contributions{unit}": [float(one.contributions.sum()) for one in found.each],
            "picture": [f"{name}.png" if name else "" for name in pictures],
        }
    )
    (folder / "answers.csv").write_bytes(table_bytes(answers, "csv"))
    if found.kind != "image":
        rows = pd.DataFrame([row for one in found.each for row in _rows(found, one, unit)])
        (folder / "contributions.csv").write_bytes(table_bytes(rows, "csv"))
        overall = {
            "column": list(found.importance),
            f"mean_absolute_contribution{unit}": list(found.importance.values()),
        }
        (folder / "columns.csv").write_bytes(table_bytes(pd.DataFrame(overall), "csv"))
    if found.kind == "table":
        (folder / "columns.png").write_bytes(importance_picture(found))
    (folder / "README.md").write_text(_page(found), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


def _name(one: Explanation, number: int) -> str:
    """Name of the files of an example."""
    stem = re.sub(r"[^\w.-]+", "_", Path(one.name).name.rpartition(".")[0] or Path(one.name).name)
    row = one.name.rpartition(" row ")[2] if " row " in one.name else ""
    return f"{number + 1:03d}-{stem[:60]}" + (f"-row{row}" if row.isdigit() else "")


def _rows(found: Explanations, one: Explanation, unit: str) -> list[dict[str, Any]]:
    """Rows of the table of contributions: one for each column, and step of a series."""
    head = {"file": one.name, "explained": one.of}
    key = f"contribution{unit}"
    if found.kind == "table":
        return [
            {**head, "column": column, "entry": entry, key: float(given)}
            for column, entry, given in zip(found.columns, one.inputs, one.contributions, strict=True)
        ]
    return [
        {**head, "step": step, "column": column, "value": float(value), key: float(given)}
        for step, (values, row) in enumerate(zip(one.inputs, one.contributions, strict=True), start=1)
        for column, value, given in zip(found.columns, values, row, strict=True)
    ]


_FILES = {
    "image": (
        "`NNN-NAME.png` shows an image beside the contributions of its pixels, slightly smoothed; `NNN-NAME.csv` has "
        "the contributions as they were computed, a line for each row of pixels."
    ),
    "series": (
        "`NNN-NAME.png` shows a series with the contribution of each step in colour; `contributions.csv` has the "
        "numbers, and `columns.csv` the sums of their absolute values, as means over all series."
    ),
    "table": (
        "`columns.png` and `columns.csv` show which columns count over all rows; `NNN-NAME.png` shows one row, and "
        "`contributions.csv` has the numbers of all explained rows. The entry of a missing number is the median, which "
        "stood in for it and contributes nothing."
    ),
}


def _page(found: Explanations) -> str:
    """The page that says how to read the folder."""
    lines = [
        f"# What the answers of {found.model} come from",
        f"**{CAVEAT}** A model may look at what only goes along with the cause, such as a scale bar or the day of a "
        "measurement; then that is what is shown here.",
        f"Method: {found.method}. The contributions of an example add up to the difference between its answer and that "
        f"for the reference. Unit: {found.unit or 'that of the answer'}.",
        _FILES[found.kind] + " `answers.csv` has a row for each example.",
    ]
    lines += [f"Note: {text}." for text in found.remarks]
    lines += [f"Left out: {each}." for each in found.skipped]
    return "\n\n".join(lines) + "\n"

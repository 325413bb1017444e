"""Selection of the columns that count in the table of a study, written as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from aifs_tune._util.atomic_files import write_folder
from aifs_tune._util.scalars import brief
from aifs_tune.analysis.column_graph import ColumnEdge
from aifs_tune.analysis.column_selection import SelectedColumns, Selection
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.errors import ConflictError, RequestError, StorageError
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.execution.columns import stable_columns
from aifs_tune.publishing.columns.graphml import graphml_of
from aifs_tune.publishing.columns.pictures import graph_picture, importance_picture
from aifs_tune.study.dataframe import table_bytes

_MOST = 10_000
_EDGE_COLUMNS = [field.name for field in fields(ColumnEdge)]


def select_columns(
    study: str,
    folder: str | Path,
    *,
    top: int = 20,
    folds: int = 5,
    repeats: int = 3,
    seed: int = 0,
    correlated: float = 0.7,
    min_frequency: float = 0.8,
    permutations: int = 10,
    shuffles: int = 20,
    storage: str | None = None,
    callback: SweepCallback | None = None,
) -> SelectedColumns:
    """Find the columns of a table, such as genes, that predict its target again and again, and how they are connected.

    The training part of the table is divided into folds, several times; all folds but one are a training set. Each
    training set selects the columns that predict the target best on their own. Columns that go together are named
    together, and a group is chosen if enough training sets select one of its columns. The best configuration of the
    study is trained on each training set, and measures the importance of the chosen groups on the fold that is left
    out. The graph joins columns that depend on each other once all other chosen ones are known. The test set is not
    used.

    Parameters
    ----------
    study : str
        Name of the study; its trainer learns from a table.
    folder : str or Path
        Folder to write. It must be new or empty.
    top : int, default 20
        Number of columns that each training set selects.
    folds, repeats : int
        Folds, from 2 to 100, and how often they are drawn. Default: 5 and 3, that is 15 training sets.
    seed : int, default 0
        Seed of the folds, the training, the permutations and the shuffles.
    correlated : float, default 0.7
        Columns go together if all their pairs have at least this absolute correlation, above 0 and at most 1. Of
        classes, it is that within a class.
    min_frequency : float, default 0.8
        Share of the training sets that must select a group, above 0 and at most 1. Meinshausen and Buehlmann (2010,
        section 2.3) advise 0.6 to 0.9.
    permutations : int, default 10
        How often each group is permuted to measure its importance.
    shuffles : int, default 20
        How often the target is shuffled, to count the groups that chance chooses.
    storage : str, optional
        Storage of the study. Default: the storage that commands use without ``--storage``.
    callback : SweepCallback, optional
        Told of the progress.

    Returns
    -------
    SelectedColumns
        The groups, how many chance would choose, and the graph.

    Raises
    ------
    ConflictError
        If the folder already exists and is not empty.
    NotFoundError
        If there is no such study, or none of its trials is complete.
    RequestError
        If the study does not learn from a table, or a number is not allowed.
    DataError
        If a class is too rare for so many folds.
    WorkError
        If no column is selected often enough, or the graph has no solution.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> try:
    ...     aifs_tune.select_columns("furnace", "selected")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(error)
    Study 'furnace' has no trainer, so there is no model to train; allowed: a study of a built-in trainer
    """
    target = Path(folder)
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConflictError(f"{target}: already exists; allowed: a new or an empty folder")
    _check_numbers(
        {
            "top": (top, 1, _MOST),
            "folds": (folds, 2, 100),
            "repeats": (repeats, 1, 100),
            "seed": (seed, 0, 2**31 - 1),
            "permutations": (permutations, 1, _MOST),
            "shuffles": (shuffles, 1, _MOST),
        },
        {"correlated": correlated, "min_frequency": min_frequency},
    )
    found = stable_columns(
        study,
        cv=CrossValidation(folds=folds, repeats=repeats, seed=seed),
        selection=Selection(top, correlated, min_frequency),
        permutations=permutations,
        shuffles=shuffles,
        storage=storage,
        callback=callback,
    )
    try:
        write_folder(target, lambda partial: _write(found, partial))
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    return found


def _check_numbers(counts: Mapping[str, tuple[int, int, int]], shares: Mapping[str, float]) -> None:
    """Check each count, given with the smallest and largest that are allowed, and each share."""
    for name, (count, least, most) in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
            raise RequestError(f"{name}: {brief(count)} is not allowed; allowed: {least} to {most}")
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise RequestError(f"{name}: {brief(share)} is not allowed; allowed: above 0, at most 1")


def _write(found: SelectedColumns, folder: Path) -> None:
    import pandas as pd

    folder.chmod(0o755)
    graph = found.graph
    edges = pd.DataFrame([asdict(edge) for edge in graph.edges], columns=_EDGE_COLUMNS)
    correlations = pd.DataFrame(graph.correlations, columns=graph.columns)
    correlations.insert(0, "column", list(graph.columns), allow_duplicates=True)
    tables = {"columns.csv": found.table, "graph.csv": edges, "correlations.csv": correlations}
    for name, table in tables.items():
        (folder / name).write_bytes(table_bytes(table, "csv"))
    (folder / "graph.graphml").write_bytes(graphml_of(found))
    (folder / "columns.png").write_bytes(importance_picture(found))
    (folder / "graph.png").write_bytes(graph_picture(found))
    (folder / "README.md").write_text(_page(found), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


def _page(found: SelectedColumns) -> str:
    """The page that says how to read the folder."""
    graph, share = found.graph, f"{found.min_frequency:.0%}"
    kept = sum(edge.frequency >= found.min_frequency for edge in graph.edges)
    lines = [
        f"# Columns that count in study {found.study}",
        "**A column that predicts the target, or is joined to another in the graph, is not thereby its cause.** These "
        "are candidates for an experiment.",
        f"{len(found.chosen)} groups of columns are chosen: at least {share} of the training sets select one of their "
        f"columns. With a shuffled target it would be {found.by_chance:.3g}, the mean over shuffles.",
        "`columns.csv` has each column that any training set selects. `frequency` is the share of the training sets "
        "that do, `group` the number of the columns that can stand in for each other, and `group_frequency` the share "
        "that selects any of them. `importance`, of chosen groups, is how much the squared error (of classes, the "
        f"Brier score) of {found.model} grows on rows that it has not seen if all its columns are permuted together: "
        "the mean over the training sets, with its standard deviation. A group that is not important may hold what "
        "another one holds too. `columns.png` shows the importances.",
        f"`graph.csv` and `graph.graphml` have the {len(graph.edges)} pairs of the {len(graph.columns)} chosen columns "
        "that are correlated even if all others are known (graphical lasso; the penalty from cross-validation is "
        f"{graph.penalty:.3g}). `frequency` is the share of the training sets whose graph has the edge. `graph.png` "
        f"shows the {kept} with at least {share}: orange is positive, blue negative, and the width is the partial "
        "correlation. A column that is not chosen may be what joins two others.",
        "`correlations.csv` has the correlations of all pairs. Of classes, the mean of each class is taken out before, "
        "here, in the groups and in the graph.",
    ]
    lines += [f"Note: {text}." for text in found.remarks]
    return "\n\n".join(lines) + "\n"

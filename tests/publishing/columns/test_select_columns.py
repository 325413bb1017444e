"""The folder of the columns that count, of simulated genes whose regulators are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.cli.main import app
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import AifsTuneError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study

QUICK = {"folds": 2, "repeats": 1, "top": 4, "permutations": 3, "shuffles": 2}


def genes(n: int = 150, n_genes: int = 60) -> pd.DataFrame:
    """Two tissues. MYB and its twin differ between them, GATA too; MYB drives DOWN, which drives LAST."""
    random = np.random.default_rng(0)
    is_brain = np.arange(n) % 2 == 1
    frame = pd.DataFrame(random.normal(size=(n, n_genes)), columns=[f"g{i}" for i in range(n_genes)])
    frame["MYB"] = random.normal(size=n) + 2.0 * is_brain
    frame["GATA"] = random.normal(size=n) - 1.8 * is_brain
    frame["TWIN"] = frame["MYB"] + 0.2 * random.normal(size=n)
    frame["DOWN"] = frame["MYB"] + 1.2 * random.normal(size=n)
    frame["LAST"] = frame["DOWN"] + 1.2 * random.normal(size=n)
    return frame.assign(tissue=np.where(is_brain, "brain", "liver"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study of genes, with one complete trial of logistic regression."""
    folder = tmp_path_factory.mktemp("lab")
    genes().to_csv(folder / "genes.csv", index=False)
    data = {"table": {"file": str(folder / "genes.csv"), "target": "tissue"}}
    url = f"sqlite:///{folder}/lab.db"
    started(url, data, "val_macro_f1", "sklearn.linear_model:LogisticRegression", "C")
    return url


def started(url: str, data: dict[str, Any], metric: str, estimator: str, parameter: str) -> None:
    spec = parse_sweep(
        {
            "name": "genes",
            "trainer": {"name": estimator, "folds": 3},
            "data": data,
            "objective": {"metric": metric, "mode": "min" if metric == "val_loss" else "max"},
            "search": {"scheduler": "none", "epochs": 1},
            "space": {parameter: {"type": "float", "low": 0.01, "high": 9, "default": 0.1}},
        }
    )
    study = start_study(Storage(url, create=True), spec, "genes")
    study.tell(study.ask(), {metric: 0.5})
    study.storage.close()


@pytest.fixture(scope="module")
def folder(lab: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes."""
    made = tmp_path_factory.mktemp("made") / "out"
    small = ["--folds", "3", "--repeats", "1", "--top", "8", "--storage", lab]
    done = CliRunner().invoke(app, ["select-columns", "genes", "-o", str(made), *small])
    assert done.exit_code == 0, done.output
    assert "MYB" in done.stdout
    assert "3 training sets, drawn from the 90 rows of the training part; the 30 rows of the validation" in done.stderr
    return made


def test_regulators_are_chosen_with_their_copies_and_the_graph_has_their_targets(folder: Path) -> None:
    table = pd.read_csv(folder / "columns.csv")
    chosen = table[table["is_chosen"]]
    groups = {frozenset(rows["column"]): rows["importance"].iloc[0] for _, rows in chosen.groupby("group")}
    regulators = [groups.pop(frozenset({"MYB", "TWIN"})), groups.pop(frozenset({"GATA"}))]
    assert min(regulators) > max(0.02, *groups.values())
    edges = pd.read_csv(folder / "graph.csv")
    found = {frozenset((edge.first, edge.second)): edge for edge in edges.itertuples()}
    assert found[frozenset({"MYB", "TWIN"})].partial_correlation > 0.5
    assert found[frozenset({"DOWN", "LAST"})].frequency == 1
    assert frozenset({"MYB", "GATA"}) not in found, "they differ between the same tissues, and that is all"


def test_tables_pictures_and_the_graph_agree_and_others_read_them(folder: Path) -> None:
    names = ["README.md", "columns.csv", "columns.png", "correlations.csv", "graph.csv", "graph.graphml", "graph.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    table = pd.read_csv(folder / "columns.csv").set_index("column")
    assert table["frequency"].between(0, 1).all()
    assert (table["group_frequency"] >= table["frequency"]).all()
    assert table["importance"].notna().equals(table["is_chosen"])
    chosen = list(table.index[table["is_chosen"]])
    correlations = pd.read_csv(folder / "correlations.csv", index_col="column")
    assert set(correlations.columns) == set(correlations.index) == set(chosen)
    edges = pd.read_csv(folder / "graph.csv")
    networkx = pytest.importorskip("networkx")
    graph = networkx.read_graphml(folder / "graph.graphml")
    assert not graph.is_directed()
    assert set(graph.nodes) == set(chosen)
    assert graph.nodes["MYB"]["frequency"] == pytest.approx(table.loc["MYB", "frequency"], rel=1e-5)
    assert graph.number_of_edges() == len(edges)
    for edge in edges.itertuples():
        read = graph.edges[edge.first, edge.second]["partial_correlation"]
        assert read == pytest.approx(edge.partial_correlation, rel=1e-5)
    for name in ("columns.png", "graph.png"):
        with Image.open(folder / name) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20, "something is drawn"
    assert "is not thereby its cause" in (folder / "README.md").read_text()


def test_numbers_are_predicted_too_and_the_same_seed_finds_the_same(url: str, tmp_path: Path) -> None:
    frame = genes().drop(columns="tissue")
    frame["dose"] = 3 * frame["GATA"] + frame["g1"] + 20
    frame.loc[::10, "g2"] = np.nan
    frame.to_csv(tmp_path / "doses.csv", index=False)
    data = {"table": {"file": str(tmp_path / "doses.csv"), "target": "dose", "predict": "values"}}
    started(url, data, "val_loss", "sklearn.linear_model:Ridge", "alpha")
    one, other = (aifs_tune.select_columns("genes", tmp_path / name, storage=url, **QUICK) for name in "ab")
    assert one.chosen[0].columns == ("GATA",)
    assert one.chosen[0].importance > 0.3, "without it little of the variance is explained"
    assert one.table.equals(other.table)
    assert any("15 missing values are the median" in text for text in one.remarks)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": 0}, "top: 0 is not allowed; allowed: 1 to 10000"),
        ({"folds": 1}, "folds: 1 is not allowed; allowed: 2 to 100"),
        ({"correlated": 0}, "correlated: 0 is not allowed; allowed: above 0, at most 1"),
        ({"min_frequency": 1.5}, "min_frequency: 1.5 is not allowed; allowed: above 0, at most 1"),
        ({"top": 1, "min_frequency": 1.0, "folds": 60}, "for the folds; allowed: at least 60, one for each fold"),
    ],
)
def test_what_cannot_be_asked_for(lab: str, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(AifsTuneError, match=message.replace("(", r"\(")):
        aifs_tune.select_columns("genes", tmp_path / "out", storage=lab, **{**QUICK, **given})
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(lab: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AifsTuneError, match="already exists; allowed: a new or an empty folder"):
        aifs_tune.select_columns("genes", tmp_path, storage=lab)


def test_of_quantiles_the_median_counts_and_classes_beside_numbers_are_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = genes(60, 6)
    frame["dose"] = 3 * frame["GATA"]
    frame.to_csv(tmp_path / "genes.csv", index=False)
    shapes = []

    def measured(predict: Any, inputs: Any, outputs: Any, groups: Any, **_: Any) -> Any:
        shapes.append((predict(inputs).shape, outputs.shape))
        return np.zeros(len(groups))

    monkeypatch.setattr("aifs_tune.execution.columns.permutation_importances", measured)
    for name, table in {
        "median": {"target": "dose", "predict": "values", "leave_out": ["tissue"]},
        "both": {"target": "tissue", "numbers": {"dose": "mg"}},
    }.items():
        spec = parse_sweep(
            {
                "name": name,
                "trainer": "mlp",
                "data": {"table": {"file": str(tmp_path / "genes.csv"), **table}},
                "objective": {"metric": "val_loss", "mode": "min"},
                "search": {"scheduler": "none", "epochs": 1},
                "space": {"layers": 0, **({"loss": "quantiles"} if name == "median" else {})},
            }
        )
        study = start_study(Storage(url, create=True), spec, name)
        study.tell(study.ask(), {"val_loss": 0.5})
    aifs_tune.select_columns("median", tmp_path / "out", storage=url, **QUICK)
    assert all(predicted == true and predicted[1] == 1 for predicted, true in shapes)
    with pytest.raises(AifsTuneError, match="learns classes and numbers together; allowed: one that learns either"):
        aifs_tune.select_columns("both", tmp_path / "other", storage=url, **QUICK)

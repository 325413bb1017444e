"""Descriptors of choices: how they are read, and what they do for the search."""

from __future__ import annotations

import numpy as np
import pytest

from aifs_tune import open_study
from aifs_tune.config.loading import load_sweep_file, parse_sweep
from aifs_tune.errors import SweepFileError
from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.search_space import SearchSpace

NAMES = [f"solvent {i}" for i in range(16)]
POLARITY = {name: (7 * i % 16) / 15 for i, name in enumerate(NAMES)}


def encoding_of(**options) -> Encoding:
    space = {"solvent": {"type": "choice", "choices": NAMES, **options}}
    return SearchSpace.of(parse_sweep({"name": "s", "space": space})).encoding()


def test_choices_with_similar_numbers_are_near():
    encoding = encoding_of(descriptors={"polarity": list(POLARITY.values()), "constant": [3.0] * 16})
    x = encoding.features(np.array([[encoding.axes[0].unit_point(name)] for name in NAMES]))
    gaps = ((x[:, None] - x[None]) ** 2).sum(-1)
    polarity = np.array(list(POLARITY.values()))
    upper = np.triu_indices(16, 1)
    assert np.mean(gaps[upper]) == pytest.approx(1.1)
    assert np.corrcoef(np.sqrt(gaps[upper]), np.abs(polarity[:, None] - polarity[None])[upper])[0, 1] > 0.95
    assert gaps[upper].min() > 0.1, "choices with equal numbers still differ"


def test_a_descriptor_that_repeats_another_counts_once():
    once = {"polarity": list(POLARITY.values())}
    twice = {
        **once,
        "in_percent": [100 * value for value in POLARITY.values()],
        "reversed": [-v for v in once["polarity"]],
    }
    points = np.linspace(0.01, 0.99, 7)[:, None]
    assert np.allclose(encoding_of(descriptors=once).features(points), encoding_of(descriptors=twice).features(points))


def test_the_best_of_many_choices_is_found_sooner_with_descriptors(url):
    names = [f"solvent {i}" for i in range(60)]
    polarity = {name: (23 * i % 60) / 59 for i, name in enumerate(names)}

    def losses(descriptors) -> list[float]:
        """The smallest losses after 14 of 60 choices; without descriptors all untried choices are alike."""
        found = []
        for seed in range(4):
            space = {"solvent": {"type": "choice", "choices": names, **descriptors}}
            study = open_study(f"{len(descriptors)}_{seed}", space=space, storage=url, mode="min", seed=seed)
            for _ in range(14):
                trial = study.ask()
                study.tell(trial, abs(polarity[trial.params["solvent"]] - 0.77))
            found.append(study.best.value)
        return found

    assert max(losses({"descriptors": {"polarity": list(polarity.values())}})) < 0.01
    assert np.mean(losses({})) > 0.01


def sweep_with(folder, table: str, name: str = "solvents.csv") -> str:
    (folder / "solvents.csv").write_text(table)
    text = f"""name: lab
search: {{scheduler: none}}
space:
  solvent:
    type: choice
    choices: [DMAc, water, 3]
    descriptors: {folder / name}
"""
    (folder / "sweep.yaml").write_text(text)
    return str(folder / "sweep.yaml")


def test_a_file_is_read_into_the_sweep(tmp_path):
    table = "\ufeffname,polarity,bp\nwater, 10.2 ,100\nethanol,x,\n3.0,1e1,7\n DMAc ,6.5,-165\n"
    spec = load_sweep_file(sweep_with(tmp_path, table))
    assert spec.space["solvent"].descriptors == {"polarity": (6.5, 10.2, 10.0), "bp": (-165.0, 100.0, 7.0)}
    assert parse_sweep(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,p\nwater,1\n3,2\n", r"sweep.yaml:7: space.solvent.descriptors: \S+solvents.csv has no row for 'DMAc'"),
        ("name,p\nwater,1\n3,2\nDMAc,1\nDMAc,2\n", "has 2 rows for 'DMAc'; allowed: one row for each choice"),
        (
            "name,p\nDMAc,1\nwater,\n3,2\n",
            "'' in column p, row 'water', of .* is not a number; allowed: numbers",
        ),
        ("name,smiles\nDMAc,CC\nwater,O\n3,C\n", "'CC' in column smiles, row 'DMAc', of .* is not a number"),
        ("name,p\nDMAc,nan\nwater,1\n3,2\n", "'nan' in column p, .* is not a number"),
        ("name,p\nDMAc,6,4\nwater,1\n3,2\n", "row 'DMAc' of .* has 3 cells and the first row 2; allowed: as many"),
        (
            "name;p\nDMAc;1\n",
            r"the first row of .* is 'name;p', separated by semicolons\?; allowed: a name",
        ),
        ("name,p,p\nDMAc,1,2\n", "the first row of .* is 'name, p, p'; allowed"),
        ("", "solvents.csv is empty; allowed: a CSV file in UTF-8"),
        ("name,p\nDMAc,1\nwater,1\n3,1\n", "space.solvent.descriptors: no descriptor differs between choices"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, table, message):
    with pytest.raises(SweepFileError, match=message):
        load_sweep_file(sweep_with(tmp_path, table))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(SweepFileError, match=r"descriptors: there is no file \S+none.csv; allowed: a CSV file"):
        load_sweep_file(sweep_with(tmp_path, "", "none.csv"))
    file = sweep_with(tmp_path, "")
    (tmp_path / "solvents.csv").write_bytes("name,p\nDMAc,1 µ\n".encode("latin-1"))
    with pytest.raises(SweepFileError, match=r"solvents.csv is not a CSV file in UTF-8"):
        load_sweep_file(file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"descriptors": {"p": [1.0, 2.0]}}, "descriptors.p: 2 numbers for 16 choices; allowed: one number for each"),
        ({"descriptors": {}}, r"space.solvent.*descriptors"),
        ({"descriptors": {"p": ["a"] * 16}}, "descriptors.p.0"),
        ({"descriptors": {"p": list(range(16))}, "ordered": True}, "the order of the choices says already which"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(SweepFileError, match=message):
        encoding_of(**options)


def test_a_file_is_looked_for_where_one_works_and_must_be_a_file(tmp_path):
    space = {"dry": {"type": "choice", "choices": [True, False], "descriptors": "flags.csv"}}
    with pytest.raises(SweepFileError, match=r"there is no file flags.csv in /"):
        open_study("a", space=space, storage=f"sqlite:///{tmp_path}/a.db")
    space["dry"]["descriptors"] = str(tmp_path)
    with pytest.raises(SweepFileError, match="is not a file"):
        open_study("a", space=space, storage=f"sqlite:///{tmp_path}/a.db")
    (tmp_path / "flags.csv").write_text("dry,p\nTrue,1\nFALSE,2\n")
    space["dry"]["descriptors"] = tmp_path / "flags.csv"
    opened = open_study("a", space=space, storage=f"sqlite:///{tmp_path}/a.db")
    assert opened.spec.space["dry"].descriptors == {"p": (1.0, 2.0)}


def test_descriptors_of_any_size_give_finite_features():
    for smallest in (1e-300, 5e-324, 1e150):
        values = [smallest * i * i for i in range(16)]
        encoding = encoding_of(descriptors={"p": values})
        with np.errstate(all="raise", under="ignore"):
            assert np.isfinite(encoding.features(np.linspace(0.01, 0.99, 7)[:, None])).all()

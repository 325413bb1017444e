"""Simulated showers have the physics that they are said to have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec, Showers, TableSpec
from aifs_tune.data.simulate.showers import (
    CONVERSION_X0,
    CRITICAL_GEV,
    INTERACTION_X0,
    LAYER_X0,
    N_LAYERS,
    TRACK_GEV,
    simulate_showers,
)
from aifs_tune.data.tables import prepare_table

LAYERS = [f"layer{i:02d}" for i in range(1, N_LAYERS + 1)]
CENTRES = (np.arange(N_LAYERS) + 0.5) * LAYER_X0


@pytest.fixture(scope="module")
def showers() -> pd.DataFrame:
    return simulate_showers(Showers(events=20_000, resolution=0.2, seed=3))


def of(showers: pd.DataFrame, particle: str, low: float = 1, high: float = 100) -> pd.DataFrame:
    frame = showers[showers["particle"] == particle]
    return frame if particle == "muon" else frame[frame["energy"].between(low, high)]


def test_the_same_seed_draws_the_same_and_all_kinds_are_as_many(showers: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(simulate_showers(Showers(events=60)), simulate_showers(Showers(events=60)))
    assert not simulate_showers(Showers(events=60)).equals(simulate_showers(Showers(events=60, seed=1)))
    assert showers["particle"].value_counts().to_dict() == dict.fromkeys(("electron", "muon", "photon", "pion"), 5_000)
    assert showers["energy"].isna().sum() == showers["start"].isna().sum() == 5_000


@pytest.mark.parametrize("energy", [2, 10, 50])
def test_the_sum_of_the_layers_has_the_resolution_of_an_electron(showers: pd.DataFrame, energy: float) -> None:
    frame = of(showers, "electron", 0.8 * energy, 1.2 * energy)
    ratio = frame[LAYERS].sum(axis=1) / frame["energy"]
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    noise = 0.005 * N_LAYERS**0.5 / energy
    assert ratio.std() == pytest.approx(np.hypot(0.2 / energy**0.5, noise), rel=0.1)


@pytest.mark.parametrize("energy", [3, 30])
def test_a_shower_is_largest_where_longo_and_sestili_say(showers: pd.DataFrame, energy: float) -> None:
    profile = of(showers, "electron", 0.9 * energy, 1.1 * energy)[LAYERS].mean().to_numpy()
    maximum, b = np.log(energy / CRITICAL_GEV) - 0.5, 0.5
    assert abs(CENTRES[profile.argmax()] - maximum) <= LAYER_X0
    middle = (profile * CENTRES).sum() / profile.sum()
    assert middle == pytest.approx(maximum + 1 / b, abs=0.15), "the mean of a gamma distribution, a / b"


@pytest.mark.parametrize(("particle", "mean"), [("photon", CONVERSION_X0), ("pion", INTERACTION_X0), ("electron", 0)])
def test_the_first_interaction_has_an_exponential_depth(showers: pd.DataFrame, particle: str, mean: float) -> None:
    start = of(showers, particle)["start"]
    assert start.mean() == pytest.approx(mean, rel=0.05, abs=1e-9)
    assert start.std() == pytest.approx(mean, rel=0.05, abs=1e-9)


def test_tracks_are_minimum_ionising_and_end_where_a_pion_interacts(showers: pd.DataFrame) -> None:
    expected = TRACK_GEV * LAYER_X0
    np.testing.assert_allclose(of(showers, "muon")[LAYERS].mean(), expected, rtol=0.02)
    late = of(showers, "pion").query("start > 20")[LAYERS].mean()
    np.testing.assert_allclose(late[:10], expected, rtol=0.1)
    assert late.iloc[12:].max() > 5 * expected
    photons = of(showers, "photon").query("start > 4")[LAYERS].mean()
    assert photons.iloc[0] < 0.1 * expected, "nothing is seen before a photon becomes a pair"


def test_less_of_a_pion_is_seen_and_with_a_larger_spread(showers: pd.DataFrame) -> None:
    pions, electrons = (of(showers, name, 15, 60).query("start < 10") for name in ("pion", "electron"))
    seen = [frame[LAYERS].sum(axis=1) / frame["energy"] for frame in (pions, electrons)]
    assert 0.6 < seen[0].mean() < 0.95 < seen[1].mean()
    assert seen[0].std() > 2 * seen[1].std()


def test_a_table_of_showers_has_classes_and_numbers() -> None:
    table = TableSpec(showers=Showers(events=400), target="particle", numbers={"energy": "GeV", "start": "X0"})
    prepared = prepare_table(DataSpec(table=table))
    examples = prepared.examples
    assert examples.classes == ("electron", "muon", "photon", "pion")
    assert examples.inputs[0].shape == (400, N_LAYERS)
    assert np.isnan(examples.numbers[examples.labels == 1]).all()
    assert not np.isnan(examples.numbers[examples.labels != 1]).any()
    assert prepared.lines[0] == "simulated showers: 400 rows, 33 columns"
    with pytest.raises(ValueError, match="showers: cannot be combined with simulate"):
        TableSpec.model_validate({"showers": {}, "simulate": {}})

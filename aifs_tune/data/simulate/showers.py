"""Simulated particles in a calorimeter: the energy that each layer measures, with the truth about each particle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from aifs_tune.config.data import Showers

if TYPE_CHECKING:
    import pandas

PARTICLES = ("electron", "photon", "pion", "muon")
N_LAYERS, LAYER_X0 = 30, 2.0
"""Layers of iron, and the thickness of each in radiation lengths X0."""
CRITICAL_GEV = 0.02168
"""Energy of an electron in iron at which it loses as much by ionisation as by radiation."""
INTERACTION_X0 = 9.545
"""Nuclear interaction length of iron (132.1 g/cm2) in radiation lengths (13.84 g/cm2)."""
CONVERSION_X0 = 9 / 7
"""Mean depth in which a photon of high energy becomes a pair."""
TRACK_GEV = 0.0201
"""Energy that a minimum ionising particle loses in a radiation length of iron (1.451 MeV cm2/g)."""
DECAY = 0.5
"""Decay of an electromagnetic shower per radiation length."""
_ENERGIES_GEV = (1.0, 100.0)
_HADRON_RESOLUTION = 0.5
_E_OVER_H = 1.4  # response to the electromagnetic part of a hadronic shower over that to the rest of it
_NOISE_GEV = 0.005
_SHARE, _SHARE_SPREAD = 0.4634, 0.15  # mean and standard deviation of the electromagnetic part
_LANDAU_WIDTH = 0.1
_MOYAL_MEAN = 1.2704  # Euler's constant plus ln 2

Floats = NDArray[np.float64]


def simulate_showers(asked: Showers) -> pandas.DataFrame:
    """Draw particles of 1 to 100 GeV, as many of each kind, and what 30 layers of a calorimeter of iron measure.

    An electron showers at once, a photon where it becomes a pair, at an exponential depth of 9/7 radiation lengths.
    Their energy is deposited as dE/dt ~ (bt)^(a-1) e^(-bt) (Longo and Sestili 1975) with b = 0.5 and the maximum at
    (a-1)/b = ln(E/E_c) - 0.5. A pion is a track until its first interaction, at an exponential depth of an interaction
    length; its shower then has an electromagnetic and a hadronic part with the mean profiles of Bock et al. (1981),
    whose shares vary from shower to shower, and of the hadronic part 1/1.4 is seen. A muon is a track through all
    layers, with the fluctuations of Moyal (1955). What a layer sees of a shower of energy E has a gamma distribution,
    so that the sum of all has the resolution a / sqrt(E), E in GeV: ``asked.resolution`` for electrons and photons, 0.5
    for pions. Each layer has noise of 5 MeV. Profiles do not vary otherwise, and energy behind the last layer is lost.

    Parameters
    ----------
    asked : Showers
        Number of particles, resolution and seed.

    Returns
    -------
    pandas.DataFrame
        ``layer01`` to ``layer30`` in GeV, ``particle``, ``energy`` in GeV, and ``start``, the depth of the first
        interaction in radiation lengths. Energy and start of a muon, which leaves only a track, are missing.
    """
    import pandas

    random, n = np.random.default_rng([asked.seed, 19]), asked.events
    kind = random.permutation(np.arange(n) % len(PARTICLES))
    energy = np.exp(random.uniform(math.log(_ENERGIES_GEV[0]), math.log(_ENERGIES_GEV[1]), n))
    depths = np.array([0.0, CONVERSION_X0, INTERACTION_X0, np.inf])[kind]
    start = np.where(depths < np.inf, random.exponential(1.0, n), 1.0) * depths
    is_pion, is_muon = (kind == PARTICLES.index(name) for name in ("pion", "muon"))
    seen = np.where(is_pion[:, None], _of_pions(energy, start, random), _of_electrons(energy, start))
    noise = np.where(is_pion, _HADRON_RESOLUTION, asked.resolution)[:, None] ** 2
    layers = random.gamma(seen / noise) * noise
    layers += np.where((is_pion | is_muon)[:, None], _track(start, random), 0.0)
    layers += random.normal(0, _NOISE_GEV, layers.shape)
    frame = pandas.DataFrame(layers.round(6), columns=[f"layer{i:02d}" for i in range(1, N_LAYERS + 1)])
    known = {"energy": energy.round(4), "start": start.round(4)}
    truth = {name: np.where(is_muon, np.nan, values) for name, values in known.items()}
    return frame.assign(particle=np.array(PARTICLES)[kind], **truth)


def _behind(start: Floats) -> Floats:
    """Depths of the edges of the layers behind ``start`` (n,), in radiation lengths, shape (n, layers + 1)."""
    return np.asarray(np.maximum(np.arange(N_LAYERS + 1) * LAYER_X0 - start[:, None], 0.0))


def _deposited(shape: Floats, scaled: Floats) -> Floats:
    """Share of a gamma profile with this ``shape`` (n,) in each layer; ``scaled`` are the edges times its decay."""
    return np.asarray(np.diff(gammainc(shape[:, None], scaled), axis=1))


def _of_electrons(energy: Floats, start: Floats) -> Floats:
    """Mean energy in each layer of electromagnetic showers, shape (n, layers)."""
    shape = 1 + DECAY * (np.log(energy / CRITICAL_GEV) - 0.5)
    return energy[:, None] * _deposited(shape, DECAY * _behind(start))


def _of_pions(energy: Floats, start: Floats, random: np.random.Generator) -> Floats:
    """Mean visible energy in each layer of hadronic showers, shape (n, layers)."""
    concentration = _SHARE * (1 - _SHARE) / _SHARE_SPREAD**2 - 1
    share = random.beta(_SHARE * concentration, (1 - _SHARE) * concentration, len(energy))[:, None]
    shape, behind = 0.6165 + 0.3183 * np.log(energy), _behind(start)
    electromagnetic = _deposited(shape, 0.2198 * behind)
    decay = (0.9099 - 0.0237 * np.log(energy))[:, None]
    hadronic = _deposited(shape, decay * behind / INTERACTION_X0)
    return energy[:, None] * (share * electromagnetic + (1 - share) / _E_OVER_H * hadronic)


def _track(start: Floats, random: np.random.Generator) -> Floats:
    """Energy that a minimum ionising particle loses in each layer before ``start``, shape (n, layers)."""
    edges = np.minimum(np.arange(N_LAYERS + 1) * LAYER_X0, start[:, None])
    moyal = -np.log(random.normal(size=(len(start), N_LAYERS)) ** 2)
    return np.asarray(TRACK_GEV * np.diff(edges, axis=1) * (1 + _LANDAU_WIDTH * (moyal - _MOYAL_MEAN)))

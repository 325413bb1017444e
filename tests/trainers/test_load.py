from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_images import SMALL_NET, blobs

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import read_state, write_state
from aifs_tune.trainers.load import load_classifier
from aifs_tune.trainers.models.cnn import CnnTrainer

IMAGES = blobs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    trainer = CnnTrainer(IMAGES, SMALL_NET)
    trainer.epoch()
    trainer.save_best(folder)
    np.save(folder / "expected.npy", trainer.predict(IMAGES.images))
    return folder


def test_predicts_as_the_trainer_did(folder: Path) -> None:
    classifier = load_classifier(folder)
    assert classifier.classes == IMAGES.classes
    np.testing.assert_array_equal(classifier.predict(IMAGES.images), np.load(folder / "expected.npy"))


def test_the_json_says_what_it_is_from(folder: Path) -> None:
    facts = json.loads((folder / "weights.json").read_text())
    assert facts["version"] == 2
    assert facts["params"]["filters"] == 4
    assert facts["architecture"]["image"] == [16, 16, 3]
    assert (facts["epoch"], facts["metric"], facts["fingerprint"]) == (1, "val_macro_f1", IMAGES.fingerprint)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"image": [16, 16, 3]}},
        {"architecture": "import os"},
        {"architecture": {"image": [16, 16, 3], "n_classes": 3, "conv_blocks": 99}},
        {"classes": None},
    ],
)
def test_a_description_of_no_network_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    arrays, facts = read_state(folder, "weights")
    facts = {name: fact for name, fact in facts.items() if name not in ("version", "sha256")}
    write_state(tmp_path, "weights", arrays, facts | change)
    with pytest.raises(TrainerError, match=r"weights\.json does not describe a network"):
        load_classifier(tmp_path)


def test_arrays_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    arrays, facts = read_state(folder, "weights")
    del arrays["dense.bias"]
    facts = {name: fact for name, fact in facts.items() if name not in ("version", "sha256")}
    write_state(tmp_path, "weights", arrays, facts)
    with pytest.raises(TrainerError, match="its arrays do not fit the network"):
        load_classifier(tmp_path)

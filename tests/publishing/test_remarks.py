"""Results that are no results are called so, and the next command depends on what happened."""

from __future__ import annotations

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.publishing.remarks import remarks_on
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.similarity import DATA_FACTS
from aifs_tune.study.study import NOISE

SPACE = {"dropout": {"type": "float", "low": 0.0, "high": 0.5}}


def swept(tmp_path, values, *, metric="val_macro_f1", classes=4, trainer="cnn", noise=None, failed=0):
    document = {"name": "lab", "objective": {"metric": metric}, "space": SPACE, "search": {"sampler": "random"}}
    spec = parse_sweep({**document, **({"trainer": trainer} if trainer else {})})
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), spec, "lab", with_default=False)
    study.record_fact(DATA_FACTS, {"kind": "images", "classes": classes})
    if noise is not None:
        study.record_fact(NOISE, {"sd": noise, "freedom": 9, "study": "lab-noise"})
    for value in values:
        study.tell(study.ask(), {metric: value})
    for _ in range(failed):
        study.tell(study.ask(), state="failed", reason="OSError: no file")
    return study


GOOD = [0.5, 0.55, 0.6, 0.7, 0.6, 0.5, 0.65, 0.8]


@pytest.mark.parametrize(
    ("case", "says", "next_words"),
    [
        ({"values": GOOD}, [], ("confirm", "lab")),
        ({"values": GOOD[:5]}, [], ("trials", "lab")),
        (
            {"values": [0.1, 0.25]},
            [r"no result: .* same one of 4 classes has a macro F1 of up to 0.25"],
            ("trials", "lab"),
        ),
        ({"values": [0.1, 0.27]}, ["hardly a result: guessing among 4 classes"], ("trials", "lab")),
        ({"values": [0.1, 0.3]}, [], ("trials", "lab")),
        ({"values": [0.4, 0.5], "metric": "val_balanced_accuracy", "classes": 2}, ["no result"], ("trials", "lab")),
        ({"values": [0.49], "metric": "val_auc", "classes": 2}, ["area under the curve of 0.5"], ("trials", "lab")),
        ({"values": [0.1], "metric": "val_r2", "classes": 0}, [], ("trials", "lab")),
        (
            {"values": [0.60, *GOOD[:7]], "noise": 0.05},
            ["Within the noise: the best differs by 0.1"],
            ("trials", "lab"),
        ),
        ({"values": GOOD, "noise": 0.05}, [], ("confirm", "lab")),
        (
            {"values": GOOD, "failed": 3},
            [r"3 of 11 trials failed; 3 of 3 .*OSError"],
            ("analyse", "lab", "--table", "failures"),
        ),
        ({"values": GOOD, "failed": 1}, [], ("confirm", "lab")),
        ({"values": GOOD, "trainer": "mylab:train"}, [], ("trials", "lab")),
        ({"values": GOOD, "trainer": None}, [], ("recommend", "lab")),
        ({"values": []}, [], ("trials", "lab")),
    ],
)
def test_remarks(tmp_path, case, says, next_words):
    found = remarks_on(swept(tmp_path, **case))
    assert len(found.texts) == len(says), found.texts
    for text, pattern in zip(found.texts, says, strict=True):
        with pytest.raises(AssertionError, match=pattern):
            raise AssertionError(text)
    assert found.next == next_words


def test_best_says_so(tmp_path, run):
    study = swept(tmp_path, [0.1, 0.25])
    assert "This is no result: a model that always answers" in run("best", "lab", "--storage", study.storage.url).err

"""Corners of a space that cannot work with the data are found before any training, named, and never proposed."""

from __future__ import annotations

import numpy as np
import pytest

from aifs_tune.config.loading import load_sweep_file, parse_sweep
from aifs_tune.data.sources import prepare
from aifs_tune.errors import RequestError
from aifs_tune.trainers.corners import impossible_corners
from aifs_tune.trainers.models.cnn import CnnShape


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Location of prepared images of 24 px, in two classes or more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIFS_TUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = {"simulate": {"images": 60, "size": 24}, "image_size": 24}
        spec = parse_sweep({"name": "a", "trainer": "cnn", "data": data, "space": {"filters": 8}})
        yield prepare(spec.data, "images", strict=False, tell=lambda _: None, progress=lambda *_: None).location


def spec_of(**space):
    rate = {"type": "float", "low": 0.001, "high": 0.1, "log": True}
    return parse_sweep({"name": "a", "trainer": "cnn", "space": {"learning_rate": rate, **space}})


def integers(low, high, **more):
    return {"type": "int", "low": low, "high": high, **more}


def test_too_many_blocks_are_found_alone_and_with_a_large_kernel(sky):
    spec = spec_of(conv_blocks=integers(1, 5), kernel_size={"type": "choice", "choices": [3, 5]}, filters=8)
    found = [dict(corner.values) for corner in impossible_corners(spec, sky)]
    assert found == [
        {"conv_blocks": 4},
        {"conv_blocks": 5},
        {"conv_blocks": 3, "kernel_size": 5},
    ]
    allowed = spec.model_copy(update={"exclude": tuple(found)})
    for blocks in range(1, 6):
        for kernel in (3, 5):
            works = True
            try:
                CnnShape((24, 24, 3), 3, filters=8, conv_blocks=blocks, kernel_size=kernel)
            except RequestError:
                works = False
            assert allowed.allows({"learning_rate": 0.01, "conv_blocks": blocks, "kernel_size": kernel}) is works


def test_the_reason_is_that_of_the_trainer(sky):
    (corner,) = impossible_corners(spec_of(conv_blocks=integers(2, 4), filters=8), sky)
    assert str(corner).startswith("conv_blocks 4: conv_blocks: 4 with kernel_size 3 is too many for images of 24x24 px")


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (
            {"conv_blocks": integers(4, 6)},
            "space: no configuration can work with these data; the first: conv_blocks: 4",
        ),
        (
            {"conv_blocks": integers(1, 5, default=5), "filters": integers(8, 16, default=8)},
            "space: the default configuration cannot work with these data: conv_blocks: 5",
        ),
    ],
)
def test_a_space_or_a_default_that_cannot_work_is_refused(sky, space, says):
    rate = {"type": "float", "low": 0.001, "high": 0.1, "default": 0.01}
    with pytest.raises(RequestError, match=says):
        impossible_corners(spec_of(**space, learning_rate=rate), sky)


def test_spaces_that_work_have_no_corners(sky):
    assert impossible_corners(spec_of(conv_blocks=integers(1, 3), filters=integers(8, 64)), sky) == []
    assert impossible_corners(spec_of(filters=8), sky) == []
    assert impossible_corners(load_sweep_file("quick_sky"), sky) == []


def test_what_is_excluded_is_never_proposed(sky, tmp_path):
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.open import start_study

    spec = spec_of(conv_blocks=integers(1, 5), kernel_size={"type": "choice", "choices": [3, 5]}, filters=8)
    corners = impossible_corners(spec, sky)
    spec = spec.model_copy(update={"exclude": tuple(dict(corner.values) for corner in corners)})
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), spec, "lab", with_default=False)
    for _ in range(15):
        trial = study.ask()
        assert trial.params["conv_blocks"] <= (2 if trial.params["kernel_size"] == 5 else 3)
        study.tell(trial, {"val_macro_f1": float(np.sin(trial.number))})

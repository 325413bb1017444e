"""The real image sets: shares of parts and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aifs_tune.config.data import DataSpec
from aifs_tune.data import open_images, prepare_images

pytestmark = pytest.mark.shared
FIELD = r"^(.*?)_[0-9]+_[0-9]+_[0-9]+\.jpg$"


def test_fields_of_a_survey_stay_whole_with_even_classes(shared: Path, tmp_path: Path) -> None:
    data = DataSpec(folder=shared / "data" / "aries-star-galaxy", group_by=FIELD)
    result = prepare_images(data, strict=True, cache=tmp_path)
    found = result.preflight
    assert (found.n_images, found.n_groups, found.classes) == (3986, 27, ("galaxy", "star"))
    assert found.warnings == ()
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        counts = found.counts[part]
        assert abs(sum(counts.values()) / 3986 - share) < 0.02
        assert abs(counts["star"] / sum(counts.values()) - 3044 / 3986) < 0.02
    assert result.images.shape == (64, 64, 1)


def test_subset_folders_of_blood_cells(shared: Path, tmp_path: Path) -> None:
    result = prepare_images(DataSpec(folder=shared / "data" / "bccd-cells"), strict=True, cache=tmp_path)
    assert result.preflight.counts == {
        "train": {"Platelets": 209, "RBC": 2381, "WBC": 214},
        "val": {"Platelets": 83, "RBC": 967, "WBC": 87},
        "test": {"Platelets": 69, "RBC": 805, "WBC": 71},
    }
    opened = open_images(result.location)
    assert np.bincount(opened.labels[opened.val]).tolist() == [83, 967, 87]

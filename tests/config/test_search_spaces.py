"""Every sweep file that ships."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from strategies import RandomSource

from aifs_tune.config.loading import json_schema, load_sweep_file, parse_sweep, shipped_sweep_files
from aifs_tune.config.yaml import read_yaml
from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.models.cnn import ALLOWED, CnnParams, CnnShape
from aifs_tune.trainers.models.cnn1d import Cnn1dParams
from aifs_tune.trainers.models.cnn_values import CnnValuesParams
from aifs_tune.trainers.models.residual import ResidualParams, ResidualShape
from aifs_tune.trainers.models.rnn import RnnParams
from aifs_tune.trainers.registry import TRAINERS

FILES = shipped_sweep_files()
NOT_SEARCHED = {"schedule", "warmup_epochs", "clip_norm", "label_smoothing", "focal_gamma", "mixup", "cutmix"}
NOT_SEARCHED |= {"rotation_90", "blur", "read_noise", "shot_noise", "random_erasing"}
SEED_CNN = {
    "learning_rate": 1e-4,
    "dropout": 0.5,
    "rotation_deg": 20.0,
    "width_shift": 0.2,
    "height_shift": 0.2,
    "horizontal_flip": True,
    "vertical_flip": False,
    "batch_size": 32,
    "optimizer": "adam",
    "filters": 32,
    "dense_units": 256,
    "conv_blocks": 2,
    "kernel_size": 3,
}


def data_of(file: Path) -> Any:
    return read_yaml(file.read_text(encoding="utf-8"), source=str(file)).data


def test_the_files_that_ship() -> None:
    assert set(FILES) == {
        "blood_cell_boxes",
        "blood_cells",
        "breast_cancer",
        "celestial_cnn",
        "crystal_growth",
        "forecast",
        "gene_expression",
        "gene_expression_trees",
        "hazards",
        "light_curves",
        "magic_gamma",
        "micrographs",
        "particles",
        "quick_sky",
        "radio_galaxies",
        "residual_cnn",
        "seismograms",
        "sky_fields",
        "sky_positions",
        "steel_strength",
        "transfer",
        "warnings",
    }


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
def test_a_shipped_file_is_valid_and_complete(file: Path) -> None:
    spec = load_sweep_file(file)
    defaults = spec.space.default_params()
    assert defaults is not None
    assert spec.space.check(defaults) == defaults
    for seed in range(20):
        params = spec.space.suggest(RandomSource(seed))
        assert spec.space.check(params) == params
    assert parse_sweep(spec.model_dump(mode="json")) == spec
    assert file.stem == spec.name.replace("-", "_")
    assert file.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
def test_the_json_schema_accepts_a_shipped_file(file: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(validator.schema)
    validator.validate(data_of(file))
    validator.validate(load_sweep_file(file).model_dump(mode="json"))


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "x"},
        {"search": {"trials": 0}},
        {"search": {"sampler": "best"}},
        {"space": {}},
        {"space": {"x": {"type": "float", "low": 0}}},
        {"space": {"x": {"type": "float", "low": 0, "high": 1, "hihg": 2}}},
        {"space": {"x": [1]}},
        {"trainer": 3},
    ],
)
def test_the_json_schema_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data_of(FILES["quick_sky"]) | change, json_schema())


def files_of(*trainers: str) -> list[str]:
    specs = {name: load_sweep_file(name) for name in FILES}
    return [name for name, spec in specs.items() if spec.trainer is not None and spec.trainer.name in trainers]


@pytest.mark.parametrize("name", files_of(*TRAINERS))
def test_a_shipped_file_tunes_and_wants_what_its_trainer_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "transfer":
        with pytest.raises(RequestError, match=r"trainer.weights: .*backbone.weights.h5"):
            check_trainer(load_sweep_file(name))
        Path("backbone.weights.h5").touch()  # what it has is read by the first trial
    check_trainer(load_sweep_file(name))


@pytest.mark.parametrize("name", files_of("rnn", "cnn1d"))
def test_files_of_series_run_without_data_and_begin_with_a_textbook_network(name: str) -> None:
    spec = load_sweep_file(name)
    defaults = spec.space.default_params()
    assert defaults is not None
    assert spec.data is not None
    assert spec.data.series is not None
    assert spec.data.series.simulate is not None
    plain = {"optimizer": "adam", "schedule": "constant", "weight_decay": 1e-7, "noise": 0.0, "crop": 0.0}
    plain |= {"loss": defaults.get("loss", "mse")}
    textbook = {"rnn": {**plain, "dropout": 0.0}, "cnn1d": {**plain, "label_smoothing": 0.0}}
    assert spec.trainer is not None
    params = (RnnParams if spec.trainer.name == "rnn" else Cnn1dParams)(**textbook[spec.trainer.name])
    assert defaults == {key: getattr(params, key) for key in defaults}


@pytest.mark.parametrize("name", files_of("cnn"))
def test_a_shipped_file_tunes_what_the_cnn_has(name: str) -> None:
    spec = load_sweep_file(name)
    assert spec.data is not None
    edge = spec.data.image_size
    for seed in range(50):
        params = CnnParams.from_mapping(spec.space.suggest(RandomSource(seed)))
        assert CnnShape.of(params, (edge, edge, 3), 4).n_weights > 0  # made at all: the images are large enough


def test_the_residual_file_tunes_what_the_residual_network_has() -> None:
    spec = load_sweep_file("residual_cnn")
    assert spec.trainer is not None
    assert spec.data is not None
    assert (spec.trainer.name, spec.data.simulate is not None) == ("residual_cnn", True)
    for seed in range(50):
        params = ResidualParams.from_mapping(spec.space.suggest(RandomSource(seed)))
        assert ResidualShape.of(params, (spec.data.image_size, spec.data.image_size, 3), 4).n_weights > 0
    defaults, ours = spec.space.default_params(), vars(ResidualParams())
    assert defaults is not None
    shape = ("filters", "stages", "blocks", "dropout", "learning_rate")
    assert [defaults[name] for name in shape] == [ours[name] for name in shape]


def test_micrographs_turns_and_mirrors_but_does_not_shift() -> None:
    defaults = load_sweep_file("micrographs").space.default_params()
    assert defaults is not None
    params = ResidualParams.from_mapping(defaults)
    assert (params.rotation_90, params.horizontal_flip, params.vertical_flip) == (True, True, True)
    assert (params.width_shift, params.height_shift, params.rotation_deg, params.zoom) == (0, 0, 0, 0)


def test_celestial_cnn_starts_from_the_textbook_network() -> None:
    spec = load_sweep_file("celestial_cnn")
    defaults = spec.space.default_params()
    assert defaults is not None
    assert {name: defaults[name] for name in SEED_CNN} == SEED_CNN
    assert set(dict(spec.space.items())) == set(ALLOWED) - NOT_SEARCHED
    assert spec.data is not None
    assert spec.data.simulate is not None
    assert (spec.data.folder, spec.data.simulate.images, spec.data.simulate.size) == (None, 1000, 64)


def test_sky_positions_moves_every_number_with_its_image() -> None:
    spec = load_sweep_file("sky_positions")
    assert spec.data is not None
    assert spec.data.frames is not None
    assert spec.data.frames.roles == ("x", "y", "vx", "vy", "magnitude")
    edge = spec.data.frames.simulate.size if spec.data.frames.simulate else 0
    for seed in range(50):
        params = CnnValuesParams.from_mapping(spec.space.suggest(RandomSource(seed)))
        assert CnnShape.of(params, (edge, edge, 2), 5).n_weights > 0
    defaults = spec.space.default_params() or {}
    plain = asdict(CnnValuesParams())
    assert {name: plain[name] for name in defaults} == defaults


def test_an_instrument_needs_no_trainer() -> None:
    spec = load_sweep_file("crystal_growth")
    assert spec.trainer is None
    assert (spec.objective.metric, spec.objective.mode) == ("yield", "max")
    assert not spec.space.is_active("flux_ratio", {"flux": "none"})
    assert spec.space.is_active("flux_ratio", {"flux": "KF"})

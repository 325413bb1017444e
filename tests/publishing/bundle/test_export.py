"""Export of a study: its files, refused exports, and reading by other software."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yaml
from small_images import blobs
from studies_to_export import CNN, entities, instrument, reseal, trained
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts, kept_weights
from aifs_tune.cli.main import app
from aifs_tune.config.loading import load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, DamagedError, NotFoundError, RequestError
from aifs_tune.publishing.bundle.citation import author_of, licence_id
from aifs_tune.publishing.bundle.export import export
from aifs_tune.publishing.bundle.ro_crate import METADATA, check_bundle
from aifs_tune.publishing.bundle.sweep_files import best_sweep, published, sweep_text
from aifs_tune.study.open import open_study
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.load import load_network

ROOT = Path(__file__).resolve().parents[3]
JANE = "Jane Q. Doe;0000-0002-1825-0097"


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a trained network."""
    folder = tmp_path_factory.mktemp("export")
    url = f"sqlite:///{folder}/lab.db"
    trained(url)
    export("blobs", folder / "bundle", storage=url, authors=[JANE, "Zuse, Konrad"], licence="cc-by-4.0", zenodo=True)
    return folder / "bundle"


def test_every_file_is_described_with_its_hash_and_size(of_images: Path) -> None:
    crate = json.loads((of_images / METADATA).read_text())
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    found = entities(of_images)
    assert found[METADATA]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert found[METADATA]["about"] == {"@id": "./"}
    files = {path.relative_to(of_images).as_posix() for path in of_images.rglob("*") if path.is_file()} - {METADATA}
    assert {unquote(part["@id"]) for part in found["./"]["hasPart"]} == files
    for name in files:
        content = (of_images / name).read_bytes()
        entity = found[name]
        assert (entity["@type"], entity["sha256"]) == ("File", hashlib.sha256(content).hexdigest())
        assert entity["contentSize"] == str(len(content))
        assert entity["description"]
    assert {"name", "description", "datePublished", "license", "author"} <= found["./"].keys()
    for identity in (found["./"]["license"]["@id"], *(each["@id"] for each in found["./"]["author"])):
        assert identity in found


def test_it_names_authors_and_licence(of_images: Path) -> None:
    cited = yaml.safe_load((of_images / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert cited["license"] == "CC-BY-4.0"
    assert [each["family-names"] for each in cited["authors"]] == ["Doe", "Zuse"]
    assert cited["authors"][0]["orcid"] == "https://orcid.org/0000-0002-1825-0097"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", cited["date-released"])
    zenodo = json.loads((of_images / ".zenodo.json").read_text())
    assert [each["name"] for each in zenodo["creators"]] == ["Doe, Jane Q.", "Zuse, Konrad"]
    assert (zenodo["upload_type"], zenodo["license"], zenodo["access_right"]) == ("dataset", "cc-by-4.0", "open")
    _, head, page = (of_images / "README.md").read_text().split("---\n", 2)
    content = yaml.safe_load(head)
    assert (content["license"], content["pipeline_tag"]) == ("cc-by-4.0", "image-classification")
    assert "model-index" not in content, "it was neither confirmed nor tested"
    for heading in ("Configuration", "Scores", "Model", "Data", "Run it again", "Limits", "Files", "Citation"):
        assert f"## {heading}\n" in page


def test_the_best_configuration_is_a_sweep_file(of_images: Path) -> None:
    best = load_sweep_file(of_images / "best.yaml")
    assert best.space.default_params() == json.loads((of_images / "results.json").read_text())["best"]["params"]
    assert (best.search.trials, best.search.scheduler) == (1, "none")
    check_trainer(best)
    searched = load_sweep_file(of_images / "sweep.yaml")
    assert searched == published(parse_sweep(CNN))


def test_no_path_of_this_machine_is_exported(of_images: Path) -> None:
    for path in of_images.rglob("*"):
        if path.suffix in (".json", ".yaml", ".md", ".csv", ".cff"):
            assert "secret" not in path.read_text(), path
            assert str(of_images.parent) not in path.read_text(), path


def test_trials_curves_and_split_are_tables(of_images: Path) -> None:
    trials = pd.read_parquet(of_images / "trials.parquet")
    with (of_images / "trials.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == [str(number) for number in trials["trial"]]
    assert list(trials["state"]) == ["complete"]
    curves = pd.read_parquet(of_images / "curves.parquet")
    assert (curves["trial"].tolist(), curves["epoch"].tolist()) == ([0], [1])
    assert "val_macro_f1" in curves.columns
    split = pd.read_parquet(of_images / "split.parquet")
    assert split["part"].value_counts().to_dict() == {"train": 48, "val": 12, "test": 12}
    assert json.loads((of_images / "results.json").read_text())["data"]["examples"] == {
        "train": 48,
        "val": 12,
        "test": 12,
    }


def test_the_model_predicts_the_same_in_all_formats(of_images: Path) -> None:
    import onnxruntime

    from aifs_tune.trainers.network.runtime import keras

    images = blobs().images[:5]
    expected = load_network(of_images / "model/weights").predict(images)
    assert expected.shape == (5, 3)
    session = onnxruntime.InferenceSession(of_images / "model/model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, atol=1e-5)
    model = keras.models.load_model(of_images / "model/model.keras", safe_mode=True)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def test_an_instrument_has_no_model_and_the_same_study_gives_the_same_folder(url: str, tmp_path: Path) -> None:
    study = instrument(url)
    made = [aifs_tune.export("furnace", tmp_path / name, storage=url) for name in ("one", "other")]
    assert made[0].sha256 == made[1].sha256 == check_bundle(tmp_path / "one")
    assert made[0].missing["model, weights"].startswith("study 'furnace': no weights of trial 1 are kept")
    assert made[0].missing["split"] == "an instrument has no training data"
    assert made[0].missing["CITATION.cff"] == "no author is given; use --author NAME"
    assert entities(tmp_path / "one")["./"]["license"].startswith("No licence is given")
    best = load_sweep_file(tmp_path / "one/best.yaml")
    assert best.space.default_params() == dict(study.best.params)
    assert len(pd.read_csv(tmp_path / "one/trials.csv")) == 7


def test_a_configuration_keeps_what_the_sweep_says_of_it() -> None:
    document = {
        "name": "mixed",
        "space": {
            "flour": {"type": "float", "low": 0, "high": 1},
            "water": {"type": "float", "low": 0, "high": 1},
            "oven": {"type": "choice", "choices": ["on", "off"]},
            "heat": {"type": "int", "low": 1, "high": 9, "when": {"oven": "on"}},
        },
        "mixtures": [{"components": ["flour", "water"], "total": 1}],
        "constraints": ["heat <= 5"],
        "limits": ["cost <= 3"],
        "exclude": [{"oven": "on"}],
    }
    spec = parse_sweep(document)
    best = best_sweep(spec, {"params": {"flour": 0.25, "water": 0.75, "oven": "off"}})
    assert best.space.default_params() == {"flour": 0.25, "water": 0.75, "oven": "off"}
    assert best.limits == spec.limits
    assert _reread(best) == best
    replayed = best_sweep(spec, {"params": {"flour": 1.0}, "replay": [{"epoch": 1, "params": {"flour": 1.0}}]})
    assert replayed.replay[0].params == {"flour": 1.0}


def _reread(spec: SweepSpec) -> SweepSpec:
    return parse_sweep(yaml.safe_load(sweep_text(spec, "two\nlines")))


def test_an_existing_folder_is_left_alone(url: str, tmp_path: Path) -> None:
    instrument(url)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("full", "full/mine.txt", "link"):
        with pytest.raises(ConflictError, match="already exists; allowed: a new or an empty folder"):
            export("furnace", tmp_path / name, storage=url)
    assert (tmp_path / "full/mine.txt").read_text() == "mine"
    export("furnace", tmp_path / "empty", storage=url)
    assert check_bundle(tmp_path / "empty")


def test_what_fails_leaves_nothing_behind(url: str, tmp_path: Path) -> None:
    instrument(url)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RequestError, match="--zenodo: needs an author and a licence"):
        export("furnace", tmp_path / "new", storage=url, zenodo=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_damaged_weights_are_not_published(url: str, tmp_path: Path) -> None:
    study = instrument(url)
    trial = study.enqueue({"x": 0.75, "kind": "a"})
    study.ask(), study.ask()
    folder = TrialArtifacts(study.artifacts, trial.number)
    hashes = folder.save_weights(lambda target: (target / "weights.npz").write_bytes(b"heavy"))
    study.tell(trial, 9.0, weights=hashes)
    weights = kept_weights(study, trial) / "weights.npz"
    weights.write_bytes(b"light")
    with pytest.raises(DamagedError, match=r"weights\.npz: its SHA-256 is"):
        export("furnace", tmp_path / "bundle", storage=url)
    assert not (tmp_path / "bundle").exists()


def test_an_incomplete_and_an_unknown_study_are_refused(url: str, tmp_path: Path) -> None:
    open_study("empty", space={"x": {"type": "float", "low": 0, "high": 1}}, storage=url)
    for study, says in (("empty", "has no complete trial yet"), ("nothing", "holds no study 'nothing'")):
        with pytest.raises(NotFoundError, match=says):
            export(study, tmp_path / "bundle", storage=url)
        done = CliRunner().invoke(app, ["export", study, "-o", str(tmp_path / "bundle"), "--storage", url])
        assert isinstance(done.exception, NotFoundError)


def test_the_command_says_what_it_wrote(url: str, tmp_path: Path) -> None:
    instrument(url)
    output = str(tmp_path / "bundle")
    done = CliRunner().invoke(app, ["export", "furnace", "-o", output, "--storage", url, "--author", JANE])
    assert done.exit_code == 0
    assert f"{output}/best.yaml\n" in done.stdout
    assert "no model, weights: study 'furnace': no weights of trial 1 are kept" in done.stderr
    done = CliRunner().invoke(app, ["export", "furnace", "-o", output + "2", "--storage", url, "--json"])
    content = json.loads(done.stdout)
    assert (content["study"], content["sha256"]) == ("furnace", check_bundle(tmp_path / "bundle2"))


@pytest.mark.parametrize(
    ("text", "family", "given", "orcid"),
    [
        ("Jane Q. Doe", "Doe", "Jane Q.", None),
        ("Doe, Jane", "Doe", "Jane", None),
        ("Plato", "Plato", "", None),
        ("Stephen Hawking; https://orcid.org/0000-0002-9079-593X", "Hawking", "Stephen", "0000-0002-9079-593X"),
    ],
)
def test_an_author_is_read(text: str, family: str, given: str, orcid: str | None) -> None:
    author = author_of(text)
    assert (author.family, author.given, author.orcid) == (family, given, orcid)


@pytest.mark.parametrize("text", ["", " ;0000-0002-1825-0097", "Doe;0000-0002-1825-0098", "Doe;", "Doe;me", "a\nb"])
def test_what_is_no_author_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--author: "):
        author_of(text)


@pytest.mark.parametrize("text", ["CC-BY", "my own", "", "MIT OR Apache-2.0", "LicenseRef-mine x"])
def test_what_is_no_licence_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not an SPDX identifier"):
        licence_id(text)


@pytest.mark.soak
def test_the_validator_of_ro_crate_finds_nothing_that_must_be_otherwise(of_images: Path) -> None:
    import rocrate

    python = ROOT / ".venv/validator/bin/python"
    if not python.exists():
        pytest.skip("no validator; make it with: make .venv/.installed-validator")
    # what ships with the library is of 1.3, whose terms of files and people are those of 1.1
    terms = Path(rocrate.__file__).parent / "data/ro-crate.jsonld"
    script = Path(__file__).with_name("validate_crate.py")

    def issues() -> list[str]:
        done = subprocess.run([python, script, of_images, terms], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    found = issues()
    assert [issue for issue in found if issue.startswith("REQUIRED")] == []
    assert all("publisher" in issue or "affiliation" in issue for issue in found), found
    crate = json.loads((of_images / METADATA).read_text())
    try:
        crate["@graph"][0].pop("datePublished")
        (of_images / METADATA).write_text(json.dumps(crate))
        assert any(issue.startswith("REQUIRED") for issue in issues())
    finally:
        crate["@graph"][0]["datePublished"] = "2026-01-01"
        (of_images / METADATA).write_text(json.dumps(crate))
        reseal(of_images)


def test_it_needs_rocrate_and_says_so(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instrument(url)
    for name in ("rocrate.rocrate", "rocrate.model.person", "rocrate.model.contextentity"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RequestError, match=r"pip install 'aifs-tune\[export\]'"):
        export("furnace", tmp_path / "bundle", storage=url)

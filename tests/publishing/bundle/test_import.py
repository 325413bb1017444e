"""Import of a bundle into another storage, and refusal of damaged and forged bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies_to_export import edit, instrument, reseal, trained
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.analysis.candidates import candidates_of
from aifs_tune.analysis.confirmation import read_confirmation, start_confirmation
from aifs_tune.artifacts.data_files import study_files
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.cli.main import app
from aifs_tune.config.cross_validation import SPLIT, CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import AifsTuneError, ConflictError, DamagedError, NotFoundError
from aifs_tune.publishing.bundle.export import export
from aifs_tune.publishing.bundle.load import IMPORTED, import_study, open_bundle
from aifs_tune.publishing.bundle.reproduce import reproduce
from aifs_tune.publishing.bundle.ro_crate import METADATA
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import record_of


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an instrument's study; its storage is next to it."""
    folder = tmp_path_factory.mktemp("import")
    url = f"sqlite:///{folder}/lab.db"
    instrument(url)
    export("furnace", folder / "bundle", storage=url)
    return folder / "bundle"


@pytest.fixture
def bundle(sealed: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(sealed, tmp_path / "bundle")
    return tmp_path / "bundle"


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_command_prints_the_same_of_it(sealed: Path, url: str) -> None:
    output = printed("import", str(sealed), "--storage", url)
    assert "study furnace: 5 trials finished" in output
    first = f"sqlite:///{sealed.parent}/lab.db"
    for question in (["best", "furnace", "--json"], ["trials", "furnace"], ["trials", "furnace", "--format", "csv"]):
        assert printed(*question, "--storage", url) == printed(*question, "--storage", first)
    assert get_study(Storage(url), "furnace").fact(IMPORTED)["study"] == "furnace"


def test_it_takes_another_name_and_is_refused_a_taken_one(sealed: Path, url: str) -> None:
    import_study(sealed, storage=url, study="team/oven")
    assert study_names(Storage(url)) == ["team/oven"]
    with pytest.raises(ConflictError, match="already has a study 'team/oven'; choose another name with --study"):
        aifs_tune.import_study(sealed, storage=url, study="team/oven")
    with pytest.raises(AifsTuneError, match="allowed"):
        import_study(sealed, storage=url, study="no good")


def test_weights_files_and_data_location_are_imported(url: str, tmp_path: Path) -> None:
    study = trained(url)
    export("blobs", tmp_path / "bundle", storage=url)
    other = f"sqlite:///{tmp_path}/other/lab.db"
    (tmp_path / "other").mkdir()
    taken = import_study(tmp_path / "bundle", storage=other, data=tmp_path / "pictures")
    assert kept_weights(taken, 0) != kept_weights(study, 0)
    assert study_files(taken).equals(study_files(study))
    assert record_of(taken).fingerprint == study.fingerprint
    assert taken.spec.data is not None
    assert taken.spec.data.folder == tmp_path / "pictures"


@pytest.mark.parametrize("change", [{"trial": 99}, {"trial": "x"}, {"trial": 1}])
def test_weights_that_are_not_those_of_the_best_trial_leave_no_study_behind(
    change: dict[str, Any], url: str, tmp_path: Path
) -> None:
    trained(url)
    export("blobs", tmp_path / "bundle", storage=url)
    edit(tmp_path / "bundle" / "results.json", lambda told: told["best"].update(change))
    other = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(DamagedError):
        import_study(tmp_path / "bundle", storage=other)
    assert study_names(Storage(other, create=True)) == []


def test_confirmations_are_imported_under_the_new_name(url: str, tmp_path: Path) -> None:
    space = {"x": {"type": "float", "low": 0, "high": 1, "default": 0.5}}
    document = {"name": "trees", "trainer": "lab:grow", "objective": {"metric": "score"}, "space": space}
    storage = Storage(url, create=True)
    study = start_study(storage, parse_sweep(document), "trees")
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    candidates = candidates_of(study, top=1)
    confirmation = start_confirmation(
        storage, study.spec, "trees-confirm", candidates, CrossValidation(folds=1, repeats=3)
    )
    for number in range(6):
        trial = confirmation.ask()
        confirmation.tell(trial, number**2 + 0.1 * int(trial.params[SPLIT]))
    export("trees", tmp_path / "bundle", storage=url)
    page = (tmp_path / "bundle/README.md").read_text()
    assert "- trial 1: " in page
    assert "not distinguishable" in page or "better than the baseline" in page
    noise = open_bundle(tmp_path / "bundle").noise
    assert noise is not None
    assert (noise.n, noise.of) == (3, "trial 1 on the folds and seeds of trees-confirm")
    other = f"sqlite:///{tmp_path}/other.db"
    import_study(tmp_path / "bundle", storage=other, study="wood")
    assert study_names(Storage(other)) == ["wood", "wood-confirm"]
    ours, theirs = (
        read_confirmation(Storage(location), name)
        for location, name in ((url, "trees-confirm"), (other, "wood-confirm"))
    )
    content = theirs.to_json() | {"confirmation": "trees-confirm"}
    assert content == ours.to_json()


def _grow(bundle: Path) -> None:
    with (bundle / "trials.csv").open("a") as file:
        file.write("\n")


def _link(bundle: Path) -> None:
    (bundle / "more").symlink_to("/etc")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_grow, r"trials\.csv: its SHA-256 is [0-9a-f]{64}, but ro-crate-metadata\.json has [0-9a-f]{64}"),
        (
            lambda bundle: (bundle / "study.json").unlink(),
            r"study\.json: does not exist; ro-crate-metadata\.json has",
        ),
        (
            lambda bundle: (bundle / "extra.py").write_text("print(1)"),
            r"extra\.py: is unexpected; ro-crate",
        ),
        (_link, "more: is not a regular file"),
        (lambda bundle: (bundle / METADATA).write_text("{"), "does not describe a bundle"),
        (lambda bundle: (bundle / METADATA).write_text('{"@graph": [{"@id": 3}]}'), "does not describe a bundle"),
    ],
)
def test_a_damaged_bundle_says_which_file(bundle: Path, url: str, damage: Callable[[Path], Any], says: str) -> None:
    damage(bundle)
    with pytest.raises(DamagedError, match=says):
        import_study(bundle, storage=url)
    assert not Path(url.removeprefix("sqlite:///")).exists()


def test_nothing_outside_of_the_folder_is_read(bundle: Path, url: str) -> None:
    file = bundle / METADATA
    content = json.loads(file.read_text())
    content["@graph"].append({"@id": "../lab.db", "@type": "File", "sha256": "0" * 64})
    file.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match=r"describes '\.\./lab\.db', which is outside the bundle"):
        import_study(bundle, storage=url)


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("results.json", {"version": 2}, r"results\.json: is 'aifs-tune bundle', version 2; allowed: .* version 1"),
        ("results.json", {"best": {}}, r"results\.json: an entry is missing or invalid \(KeyError: 'value'\)"),
        ("results.json", {"noise": {"sd": "much"}}, "is missing or invalid"),
        ("study.json", {"version": 9}, "document of a study: version 9; allowed: 1"),
        ("study.json", {"trials": [3]}, "the document of study 'furnace' is not valid"),
        ("study.json", {"spec": {"name": "x", "space": {}}}, "has no valid sweep file"),
        ("study.json", {"attributes": None}, "has no attributes"),
    ],
)
def test_a_forged_bundle_says_what_is_wrong(
    bundle: Path, url: str, file: str, change: dict[str, Any], says: str
) -> None:
    edit(bundle / file, lambda content: content.update(change))
    with pytest.raises(DamagedError, match=says):
        import_study(bundle, storage=url)


def test_a_best_configuration_that_can_vary_is_none(bundle: Path, url: str) -> None:
    sweep = yaml.safe_load((bundle / "best.yaml").read_text())
    name = next(iter(sweep["space"]))
    sweep["space"][name] = {"type": "float", "low": 0, "high": 5000}
    (bundle / "best.yaml").write_text(yaml.safe_dump(sweep))
    reseal(bundle)
    with pytest.raises(DamagedError, match=rf"best\.yaml: {name} can vary; allowed: one configuration, all fixed"):
        reproduce(bundle, storage=url)


def test_a_sweep_file_that_is_none_is_refused(bundle: Path, url: str) -> None:
    (bundle / "best.yaml").write_text("space: !!python/object/apply:os.system ['touch /tmp/never']\n")
    reseal(bundle)
    with pytest.raises(DamagedError, match=r"best\.yaml:1"):
        import_study(bundle, storage=url)


def test_what_is_no_bundle_is_not_found(tmp_path: Path, url: str) -> None:
    for location in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(NotFoundError, match=r"is not a bundle \(ro-crate-metadata\.json: .*; make one with"):
            import_study(location, storage=url)

"""Code that a file from elsewhere names runs only once a person has said so, by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aifs_tune import export, import_study, open_study, reproduce, resume
from aifs_tune.cli.main import _without_trust
from aifs_tune.config import trusted_code
from aifs_tune.config.loading import load_sweep_file, parse_sweep
from aifs_tune.errors import DamagedError, RequestError, SweepFileError, UntrustedCodeError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, study_document
from aifs_tune.study.index import get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import record_of
from aifs_tune.trainers.function import import_function

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
SWEEP = {
    "name": "theirs",
    "trainer": "strangelab:train",
    "objective": {"metric": "value", "mode": "max"},
    "space": SPACE,
}
MODULE = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\ndef train(x): return x\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of a stranger, in an account that has trusted nothing."""
    (tmp_path / "strangelab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(trusted_code, "_allowed", set())
    monkeypatch.setattr(trusted_code, "_said", set())
    sys.modules.pop("strangelab", None)
    return tmp_path


def was_imported(folder: Path) -> bool:
    return (folder / "imported").exists()


def theirs(url: str, **search: str) -> None:
    """A study that somebody else started in a shared storage."""
    start_study(Storage(url, create=True), parse_sweep({**SWEEP, "search": {"scheduler": "none", **search}}), "theirs")


def test_a_trainer_of_a_study_in_a_shared_storage_does_not_run(folder):
    url = f"sqlite:///{folder}/lab.db"
    theirs(url)
    with pytest.raises(UntrustedCodeError, match=rf"strangelab:train .* from {folder}/strangelab.py.* --trust-code"):
        resume("theirs", storage=url)
    assert not was_imported(folder)


def test_a_sampler_of_a_study_in_a_shared_storage_does_not_run(folder):
    url = f"sqlite:///{folder}/lab.db"
    theirs(url, sampler="strangelab:train")
    study = get_study(Storage(url), "theirs")
    for look in (study.recommendation, study.posterior_means, study.all_trials):
        look()
    with pytest.raises(UntrustedCodeError) as caught:
        study.ask()
    assert caught.value.name == "strangelab:train"
    assert not was_imported(folder)


def test_what_a_person_trusts_is_remembered_for_this_study_alone(folder, monkeypatch):
    url = f"sqlite:///{folder}/lab.db"
    theirs(url)
    trusted_code.trust(["strangelab:train"])
    get_study(Storage(url), "theirs")
    kept = folder / "state" / "aifs_tune" / "trusted_code.json"
    assert json.loads(kept.read_text()) == {f"{folder}/lab.db theirs": ["strangelab:train"]}
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.parent.stat().st_mode & 0o077 == 0
    for name in ("_allowed", "_said"):
        monkeypatch.setattr(trusted_code, name, set())
    start_study(Storage(url), parse_sweep({**SWEEP, "search": {"seed": 7}}), "another")
    get_study(Storage(url), "another")
    with pytest.raises(UntrustedCodeError):
        import_function("strangelab:train")
    get_study(Storage(url), "theirs")
    assert import_function("strangelab:train")(3) == 3


def test_a_sweep_file_that_a_person_names_is_allowed_but_not_one_in_a_bundle(folder):
    text = (
        f"name: own\ntrainer: strangelab:train\nobjective: {{metric: value, mode: max}}\nspace: {json.dumps(SPACE)}\n"
    )
    (folder / "bundle" / "sweeps").mkdir(parents=True)
    (folder / "bundle" / "ro-crate-metadata.json").touch()
    (folder / "own.yaml").write_text(text)
    for place in ("bundle", "bundle/sweeps"):
        (folder / place / "sweep.yaml").write_text(text)
        load_sweep_file(folder / place / "sweep.yaml")
        with pytest.raises(UntrustedCodeError):
            import_function("strangelab:train")
    (folder / "link.yaml").symlink_to("bundle/sweep.yaml")
    (folder / "linked").symlink_to("bundle/sweeps")
    for place in ("link.yaml", "linked/sweep.yaml"):
        load_sweep_file(folder / place)
        with pytest.raises(UntrustedCodeError):
            import_function("strangelab:train")
    load_sweep_file(folder / "own.yaml")
    assert import_function("strangelab:train")(3) == 3


def test_a_sweep_file_in_a_bundle_reads_no_other_file(folder):
    (folder / "solvents.csv").write_text("solvent,polarity\nwater,1\nhexane,2\n")
    choices = {"type": "choice", "choices": ["water", "hexane"], "descriptors": str(folder / "solvents.csv")}
    text = f"name: own\nobjective: {{metric: value, mode: max}}\nspace: {json.dumps({'solvent': choices})}\n"
    (folder / "bundle").mkdir()
    (folder / "bundle" / "ro-crate-metadata.json").touch()
    for file in (folder / "own.yaml", folder / "bundle" / "sweep.yaml"):
        file.write_text(text)
    assert load_sweep_file(folder / "own.yaml").space["solvent"].descriptors == {"polarity": (1.0, 2.0)}
    with pytest.raises(SweepFileError, match=r"solvents.csv' is a file, and this sweep file is part of a bundle"):
        load_sweep_file(folder / "bundle" / "sweep.yaml")


def forged(folder: Path, change) -> Path:
    """A bundle whose files a stranger has changed, with the hashes of all of them right."""
    import hashlib

    study = open_study("lamp", space=SPACE, storage=f"sqlite:///{folder}/mine.db")
    study.tell(study.ask(), 0.5)
    export("lamp", folder / "bundle", storage=f"sqlite:///{folder}/mine.db")
    change(folder / "bundle")
    metadata = folder / "bundle" / "ro-crate-metadata.json"
    document = json.loads(metadata.read_text())
    for entity in document["@graph"]:
        if entity["@type"] == "File" and "sha256" in entity:
            content = (folder / "bundle" / entity["@id"]).read_bytes()
            entity |= {"sha256": hashlib.sha256(content).hexdigest(), "contentSize": str(len(content))}
    metadata.write_text(json.dumps(document))
    return folder / "bundle"


def test_a_bundle_whose_trainer_is_a_command_runs_nothing(folder):
    def change(bundle: Path) -> None:
        (bundle / "best.yaml").write_text(
            "name: lamp\ntrainer: os:system\nobjective: {metric: value, mode: max}\n"
            f"space: {{command: 'touch {folder}/imported'}}\n"
        )

    bundle = forged(folder, change)
    with pytest.raises(RequestError, match="os:system is of Python itself"):
        reproduce(bundle)
    with pytest.raises(RequestError, match="os:system is of Python itself"):
        reproduce(bundle, trust_code=["os:system"])
    assert not was_imported(folder)


def test_a_bundle_cannot_bring_a_sweep_file_in_its_attributes(folder):
    def change(bundle: Path) -> None:
        document = json.loads((bundle / "study.json").read_text())
        document["attributes"]["aifs_tune:spec"] = {**document["spec"], "trainer": {"name": "os:system"}}
        (bundle / "study.json").write_text(json.dumps(document))

    with pytest.raises(DamagedError, match="'aifs_tune:spec' is reserved"):
        import_study(forged(folder, change), storage=f"sqlite:///{folder}/other.db", study="taken")


def test_an_imported_study_keeps_its_trainer_but_does_not_run_it(folder):
    url = f"sqlite:///{folder}/lab.db"
    theirs(url)
    document = study_document(get_study(Storage(url), "theirs"))
    other = Storage(f"sqlite:///{folder}/other.db", create=True)
    assert copied_study(other, "taken", document).trainer == "strangelab:train"
    with pytest.raises(UntrustedCodeError):
        resume("taken", storage=other.url)
    assert not was_imported(folder)


def test_what_a_person_named_in_python_runs_again_later(folder, monkeypatch):
    (folder / "mysampler.py").write_text("from optuna.samplers import RandomSampler\nclass Mine(RandomSampler): pass\n")
    url = f"sqlite:///{folder}/lab.db"
    open_study("mine", space=SPACE, storage=url, sampler="mysampler:Mine").ask()
    for name in ("_allowed", "_said"):
        monkeypatch.setattr(trusted_code, name, set())
    assert record_of(get_study(Storage(url), "mine")).ask().number == 1


@pytest.mark.parametrize(
    ("typed", "kept", "names"),
    [
        (["resume", "a", "--trust-code", "m:f"], ["resume", "a"], ["m:f"]),
        (["--trust-code=m:f", "ask", "a", "--trust-code", "n:g"], ["ask", "a"], ["m:f", "n:g"]),
        (["tell", "a", "0", "--", "--trust-code", "m:f"], ["tell", "a", "0", "--", "--trust-code", "m:f"], []),
    ],
)
def test_the_option_may_stand_anywhere(typed, kept, names):
    assert _without_trust(typed) == (kept, names)


def test_the_command_line_says_what_would_be_imported_from_where(folder):
    theirs(f"sqlite:///{folder}/lab.db", sampler="strangelab:train")
    command = [sys.executable, "-m", "aifs_tune", "ask", "theirs", "--storage", f"sqlite:///{folder}/lab.db"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL)
    assert told.returncode == 2
    assert f"It would be imported from {folder}/strangelab.py" in told.stderr
    assert not was_imported(folder)
    told = subprocess.run([*command, "--trust-code", "strangelab:train"], capture_output=True, text=True, cwd=folder)
    assert "a subclass of optuna.samplers.BaseSampler" in told.stderr  # it is imported now, and is no sampler
    assert was_imported(folder)


def test_a_command_typed_in_a_strangers_folder_imports_nothing_from_it(tmp_path):
    for module in ("yaml", "rich", "optuna", "pandas", "sqlalchemy", "torch", "cupy", "psycopg"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    program = Path(sys.executable).with_name("aifs-tune")
    for command in (["space", "quick_sky"], ["studies", "--storage", "sqlite:///x.db"], ["import", "."]):
        told = subprocess.run([program, *command], capture_output=True, text=True, cwd=tmp_path)
        assert told.returncode in (0, 2)
        assert "Traceback" not in told.stderr
        assert not was_imported(tmp_path)

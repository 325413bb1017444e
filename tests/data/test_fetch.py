"""Data in an object store: a real S3 protocol, spoken with a server on this machine."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pandas as pd
import pytest
from pictures import picture
from stores import Store

import aifs_tune
from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import fetch as module
from aifs_tune.data.sources import prepare
from aifs_tune.errors import DataError, StorageError, SweepFileError, WorkError


@pytest.fixture
def store(s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """The bucket, and a machine with an empty cache that reaches it."""
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    return s3


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    for i in range(20):
        file = tmp_path / "survey" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(file)
    return tmp_path / "survey"


def prepared(data: DataSpec, kind: str = "images") -> tuple[str, list[str]]:
    """The fingerprint, and what was said about fetching."""
    said: list[str] = []
    made = prepare(data, kind, strict=True, tell=said.append, progress=lambda *done: None)
    return made.fingerprint, [line for line in said if "fetching" in line]


def copies(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_dir() and "fetched" in path.name)


def test_a_folder_is_fetched_once_and_again_when_it_changed(store, survey, tmp_path):
    url = store.put_folder("survey", survey)
    store.put("survey/", b"")  # how the web pages of some stores make a folder
    store.put("survey-of-others/a/9.png", b"not ours")
    data = DataSpec(url=url, image_size=16)
    fingerprint, said = prepared(data)
    assert fingerprint == prepared(DataSpec(folder=survey, image_size=16))[0]
    n_bytes = sum(file.stat().st_size for file in survey.rglob("*.png"))
    assert said == [f"fetching 20 files, {n_bytes / 1e6:.1f} MB, from s3://lab/survey"]
    assert prepared(data) == (fingerprint, []), "what is here is not fetched again"
    same_size = picture(99)
    same_size.save(survey / "a" / "0.png", compress_level=0)
    store.put("survey/a/0.png", (survey / "a" / "0.png").read_bytes())
    other, said = prepared(data)
    assert (other != fingerprint, len(said)) == (True, 1)
    assert len(copies(tmp_path)) == 2


def test_a_change_that_keeps_the_size_is_noticed(store, tmp_path):
    store.put("table.csv", b"x,target\n1,a\n")
    fetched = module.fetch("s3://lab/table.csv", with_folder=False, tell=str, progress=lambda *done: None)
    store.put("table.csv", b"x,target\n2,a\n")
    again = module.fetch("s3://lab/table.csv", with_folder=False, tell=str, progress=lambda *done: None)
    assert [file.read_text()[9] for file in (fetched, again)] == ["1", "2"]


def test_a_file_comes_alone_and_a_manifest_with_what_it_lists(store, tmp_path):
    table = pd.DataFrame({"x": range(40), "y": [i % 7 for i in range(40)], "target": ["a", "b"] * 20})
    table.to_csv(tmp_path / "table.csv", index=False)
    store.put("lab/table.csv", (tmp_path / "table.csv").read_bytes())
    store.put("lab/else.bin", b"0")
    spec = {"table": {"target": "target"}}
    fingerprint, _ = prepared(DataSpec.model_validate({**spec, "url": "s3://lab/lab/table.csv"}), "table")
    here = DataSpec.model_validate(spec).at(tmp_path / "table.csv", "table")
    assert fingerprint == prepared(here, "table")[0]
    (copy,) = copies(tmp_path)
    assert [path.name for path in (tmp_path / "cache" / copy).iterdir()] == ["table.csv"]

    curves = tmp_path / "curves"
    curves.mkdir()
    for i in range(30):
        pd.DataFrame({"flux": [float((i + k) % 5) for k in range(12)]}).to_csv(curves / f"{i}.csv", index=False)
    names = [f"{i}.csv" for i in range(30)]
    pd.DataFrame({"path": names, "label": ["a", "b"] * 15}).to_csv(curves / "manifest.csv", index=False)
    url = store.put_folder("curves", curves) + "/manifest.csv"
    fetched, _ = prepared(DataSpec.model_validate({"series": {}, "url": url}), "series")
    assert fetched == prepared(DataSpec.model_validate({"series": {"path": str(curves)}}), "series")[0]


def test_a_file_url_is_fetched_too(survey, tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    data = DataSpec(url=survey.as_uri(), image_size=16)
    assert prepared(data)[0] == prepared(DataSpec(folder=survey, image_size=16))[0]
    assert len(copies(tmp_path)) == 1


def test_one_of_several_processes_fetches(store, survey):
    url = store.put_folder("shared", survey)
    code = (
        "import sys; from aifs_tune.data.fetch import fetch; "
        "print(fetch(sys.argv[1], with_folder=False, tell=lambda line: print(line), progress=lambda *done: None))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].split("\n") for process in running]
    assert sorted(len(lines) for lines in said) == [2, 2, 3], "one says that it fetches"
    assert len({lines[-2] for lines in said}) == 1
    assert len(list(Path(said[0][-2]).rglob("*.png"))) == 20


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://lab/nothing", "data.url: s3://lab/nothing does not exist"),
        ("s3://nobody/survey", "data.url: s3://nobody/survey does not exist"),
        ("gs://lab/survey", "needs a package that is not installed; run pip install gcsfs"),
        ("file:///nowhere/at/all", "file:///nowhere/at/all does not exist"),
    ],
)
def test_what_cannot_be_fetched_is_named(store, url, said):
    with pytest.raises(DataError, match=said):
        prepared(DataSpec(url=url))


def test_a_store_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (SimpleNamespace(), "x"))
    with pytest.raises(WorkError, match=r"data.url: s3://lab/x cannot be used \(AttributeError"):
        module.fetch("s3://lab/x", with_folder=False, tell=str, progress=lambda *done: None)


def test_a_full_disk_is_no_fault_of_the_store(monkeypatch, survey, tmp_path):
    def full(self, there: list[str], here: list[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "get", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\); free some space"):
        prepared(DataSpec(url=survey.as_uri()))
    assert copies(tmp_path) == []


@pytest.mark.parametrize("name", ["../evil.png", "a//b.png", "a/./b.png", "a/new\nline.png"])
def test_no_name_leads_out_of_the_copy(name, monkeypatch, tmp_path):
    hostile = SimpleNamespace(
        invalidate_cache=lambda: None,
        info=lambda path: {"type": "directory"},
        find=lambda path, detail: {f"lab/survey/{name}": {"size": 1}},
    )
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (hostile, "lab/survey"))
    with pytest.raises(DataError, match="allowed: relative paths below the URL"):
        module.fetch("s3://lab/survey", with_folder=False, tell=str, progress=lambda *done: None)


@pytest.mark.parametrize("change", ["content", "size"])
def test_data_that_change_while_they_are_copied_are_not_taken(change, monkeypatch, tmp_path):
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    tags = iter("1223" if change == "content" else "1111")
    changing = SimpleNamespace(
        invalidate_cache=lambda: None,
        info=lambda path: {"type": "directory"},
        find=lambda path, detail: {"lab/survey/a.png": {"size": 2, "ETag": next(tags)}},
        get=lambda there, here: Path(here[0]).write_bytes(b"ab" if change == "content" else b"a"),
    )
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (changing, "lab/survey"))
    wanted = (DataError, "changed while") if change == "content" else (WorkError, "a.png has 2 bytes, but 1 arrived")
    with pytest.raises(wanted[0], match=wanted[1]):
        module.fetch("s3://lab/survey", with_folder=False, tell=str, progress=lambda *done: None)
    assert copies(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://lab/survey", "'https://lab/survey' is not a supported URL; allowed: s3://..., gs://"),
        ("memory://survey", "allowed: s3://"),
        ("s3://", "is not a supported URL"),
        ("file://survey", "has no absolute path; allowed: file:///..."),
        ("s3://key:geheim@lab/survey", "s3://... contains @, [?], #, :: or a control"),
        ("az://lab/survey?sig=geheim", "without secrets"),
        ("file:///survey::github://lab", "without secrets"),
    ],
)
def test_a_url_of_something_else_is_refused(url, said):
    with pytest.raises(DataError, match=said) as refused:
        aifs_tune.load_sweep("celestial_cnn", data=url)
    assert "geheim" not in str(refused.value)
    sweep = {"name": "s", "trainer": "cnn", "space": {"dropout": 0.1}, "data": {"url": url}}
    with pytest.raises(SweepFileError, match=said):
        parse_sweep(sweep)


def test_there_is_one_location_of_data():
    sweep = {"name": "s", "trainer": "cnn", "space": {"dropout": 0.1}}
    with pytest.raises(SweepFileError, match=r"data.url: cannot be combined with folder; allowed: one of the two"):
        parse_sweep({**sweep, "data": {"url": "s3://lab/survey", "folder": "survey"}})
    with pytest.raises(SweepFileError, match=r"'s3://lab/survey' is a URL; allowed: a path; .* data.url"):
        parse_sweep({**sweep, "data": {"folder": "s3://lab/survey"}})
    spec = aifs_tune.load_sweep("celestial_cnn", data="s3://lab/survey").spec
    assert (spec.data.url, spec.data.folder) == ("s3://lab/survey", None)
    assert spec.data.at(Path("survey"), "images").url is None

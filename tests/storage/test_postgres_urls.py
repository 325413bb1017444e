"""PostgreSQL as the storage: what its URL may say, what of it is shown, and where the artifacts are."""

from __future__ import annotations

from pathlib import Path

import pytest
from records import open_record

from aifs_tune.errors import NotFoundError, RequestError, StorageError
from aifs_tune.storage import postgres as postgres_database
from aifs_tune.storage.postgres import artifacts_at
from aifs_tune.storage.storage import Storage


def test_passwords_are_never_shown(postgres_url, monkeypatch):
    url = "postgresql+psycopg://me:geheim@127.0.0.1:1/lab"
    with pytest.raises(StorageError, match=r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/lab: .*refused") as caught:
        Storage(url)
    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(caught.value.__cause__)


def test_a_password_that_stands_in_the_query_is_not_shown_either(postgres_url):
    assert "geheim" not in Storage(f"{postgres_url}&password=geheim").shown
    with pytest.raises(RequestError, match="the URL has a password") as caught:
        postgres_database.for_other_machines(f"{postgres_url}&password=geheim")
    assert "geheim" not in str(caught.value)


def test_what_is_not_there_or_no_storage_is_refused(postgres):
    postgres.psql("CREATE DATABASE bare")
    url = postgres.get_uri(database="bare").replace("postgresql://", "postgresql+psycopg://")
    with pytest.raises(NotFoundError, match="no studies at postgresql"):
        Storage(url)
    for wrong in ("postgresql+nope://h/d", "postgresql+psycopg2://h/d", "postgresql:/"):
        with pytest.raises(RequestError, match=r"allowed: postgresql\+psycopg://"):
            Storage(wrong)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("/shared/lab", Path("/shared/lab")),
        ("lab", Path("lab")),
        ("file:///shared/lab", Path("/shared/lab")),
        ("s3://lab/artifacts/", "s3://lab/artifacts"),
        ("gs://lab", "gs://lab"),
    ],
)
def test_where_artifacts_are(given, place):
    assert artifacts_at(given) == (Path.cwd() / place if isinstance(place, Path) else place)


@pytest.mark.parametrize(
    "given", ["https://lab/a", "s3://", "file://lab", "s3://key:geheim@lab/a", "az://lab?sig=geheim"]
)
def test_artifacts_that_cannot_be_there_are_refused(given):
    with pytest.raises(RequestError, match=r"^AIFS_TUNE_ARTIFACTS: .*allowed: ") as refused:
        artifacts_at(given)
    assert "geheim" not in str(refused.value)


def test_the_artifacts_of_a_study_may_be_in_an_object_store(postgres_url, monkeypatch, space):
    monkeypatch.setenv("AIFS_TUNE_ARTIFACTS", "s3://lab/artifacts")
    study = open_record("far", space=space, storage=postgres_url)
    assert study.artifacts == f"s3://lab/artifacts/study-{study.id}"

"""Optuna's own contract suite on the storage that a sweep writes through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from aifs_tune.storage.storage import Storage


class TestOptunasContractOnPostgres(StorageTestCase):
    @pytest.fixture
    def storage(self, postgres_url: str) -> Iterator[BaseStorage]:
        opened = Storage(postgres_url)
        with opened.writing():
            yield opened.optuna
        opened.close()


class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        opened = Storage(f"sqlite:///{tmp_path}/study.db", create=True)
        with opened.writing():
            yield opened.optuna

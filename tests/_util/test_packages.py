from __future__ import annotations

import pytest

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.errors import MissingPackageError


@pytest.mark.parametrize("name", ["h11", "uvicorn", "fastapi", "starlette.middleware", "a2wsgi"])
def test_what_the_service_needs_is_named_by_its_extra(name):
    with pytest.raises(MissingPackageError, match=r"pip install 'aifs-tune\[service\]'"), missing_packages_named():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_other_missing_modules_are_left_alone():
    with pytest.raises(ModuleNotFoundError, match="my_lab"), missing_packages_named():
        raise ModuleNotFoundError("No module named 'my_lab'", name="my_lab")

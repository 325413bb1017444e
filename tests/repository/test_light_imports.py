"""What is used first loads nothing heavy; which room may import which is held by import-linter, see pyproject.toml."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "command",
    [
        "import aifs_tune",
        "import aifs_tune\nwith aifs_tune.Client('http://127.0.0.1:9'): pass",
        "import aifs_tune.config.sweep, aifs_tune.space.search_space, aifs_tune.errors, aifs_tune.config.loading",
        "import sys\nsys.argv = ['aifs-tune', '--help']\nfrom aifs_tune.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass",
    ],
    ids=["package", "client", "values", "help"],
)
def test_light_doors_load_nothing_heavy(command):
    check = (
        "\nimport sys\nheavy = {'ray', 'optuna', 'tensorflow', 'keras', 'jax', 'pandas', 'sklearn', 'PIL'}"
        "\nheavy |= {'sqlalchemy', 'astropy', 'h5py', 'fastapi', 'uvicorn', 'matplotlib', 'typst'}"
        "\nheavy |= {'rocrate', 'tf2onnx'}"
        "\nassert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command + check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_that_only_read_load_nothing_else():
    check = (
        "import sys, aifs_tune.publishing.summary, aifs_tune.cli.tables, aifs_tune.cli.main"
        "\nlate = {'scipy', 'pandas', 'sklearn', 'tensorflow', 'ray', 'httpx', 'fsspec'} & set(sys.modules)"
        "\nassert not late, late"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_front_door_loads_little_of_the_package():
    check = "import sys, aifs_tune\nprint(*sorted(name for name in sys.modules if name.startswith('aifs_tune.')))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "aifs_tune._util",
        "aifs_tune._util.lazy",
        "aifs_tune._util.packages",
        "aifs_tune.errors",
    }

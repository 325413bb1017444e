"""Tests that the examples of docs/service.md run against a service."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from services import Service, storage_in

from aifs_tune.service.application import routes

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("how_to/service.md", "reference/rest.md")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run_from_top_to_bottom(page, tmp_path):
    text_of_page = (DOCS / page).read_text()
    with Service(storage_in(tmp_path)) as service:
        for language, text in re.findall(r"^```(sh|py)\n(.*?)^```", text_of_page, re.MULTILINE | re.DOTALL):
            here = text.replace("http://127.0.0.1:8000", service.url)
            if language == "py":
                subprocess.run([sys.executable, "-c", here], check=True, capture_output=True)
                continue
            environment = dict(os.environ)
            for line in here.splitlines():
                program, *words = shlex.split(line)
                if program == "export":
                    environment |= dict([words[0].split("=", 1)])
                    continue
                run_cli = {"aifs-tune": [sys.executable, "-m", "aifs_tune", *words]}
                command = run_cli.get(program, [program, *words, "--fail-with-body"])
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                assert any(odd in line for odd in ("format=csv", "format=parquet", "/events", "/qr")) or json.loads(
                    done.stdout
                )
            assert not (tmp_path / "aifs_tune.db").exists(), "the commands spoke to the service"


def test_every_route_is_described():
    """The list of docs/reference/rest.md is made of these texts when the site is built."""
    told = {
        (method, path): operation.get("description", "")
        for path, at in routes(None).openapi()["paths"].items()
        for method, operation in at.items()
    }
    assert [route for route, text in told.items() if len(text.split()) < 4] == []

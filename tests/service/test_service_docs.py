"""The examples of docs/service.md run against a service."""

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

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_examples_run_from_top_to_bottom(tmp_path):
    with Service(storage_in(tmp_path)) as service:
        for language, text in re.findall(r"^```(sh|py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
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
                assert any(odd in line for odd in ("format=csv", "format=parquet", "/events")) or json.loads(
                    done.stdout
                )
            assert not (tmp_path / "aifs_tune.db").exists(), "the commands spoke to the service"


def test_every_route_is_in_the_table():
    for path in routes(None).openapi()["paths"]:
        told = path.replace("{study}", "S").replace("{trial}", "N").replace("{sweep}", "ID")
        stem, _, word = told.rpartition("/")
        assert told in PAGE or (stem in PAGE and f"`{word}`" in PAGE), told

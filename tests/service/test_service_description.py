"""Tests that the service conforms to its OpenAPI description, with generated requests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from services import SPACE, Service, storage_in, token

from aifs_tune.client.client import Client
from aifs_tune.service.application import routes

HERE = Path(__file__).parent


@pytest.mark.parametrize("budget_s", [10, pytest.param(60, marks=pytest.mark.soak)])
def test_all_checks_of_schemathesis(tmp_path, budget_s):
    storage = storage_in(tmp_path)
    made = token(storage, "manage")
    (tmp_path / "sweeps").mkdir()
    with Service(storage, "--require-token", "--sweeps", str(tmp_path / "sweeps")) as service:
        with Client(service.url, made) as client:
            study = client.open_study("lab", space=SPACE, sampler="random")
            study.tell(study.ask(), 0.5)
        words = ["run", f"{service.url}/v1/openapi.json", "--checks", "all", "--continue-on-failure", "--seed", "1"]
        words += [
            "--max-time",
            str(budget_s),
            "--no-color",
            "--request-timeout",
            "20",
            "-H",
            f"Authorization: Bearer {made}",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), *words],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": _path()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:] + "".join(service.said)[-6000:]
        n_routes = sum(len(methods) for methods in routes(None).openapi()["paths"].values())
        assert f"{n_routes} selected" in done.stdout or f"Tested: {n_routes}" in done.stdout
        assert not any("Traceback" in line for line in service.said)


def _path() -> str:
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_the_description_has_every_route_and_its_errors():
    described = routes(None).openapi()
    assert described["openapi"].startswith("3.1")
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route["description"], path
            assert {"401", "403", "422", "500", "503"} <= set(route["responses"]), path
            assert route["security"] == [{"HTTPBearer": []}]
            assert any(p["name"] == "Idempotency-Key" for p in route["parameters"]) is (method == "post")
    content = described["paths"]["/v1/studies"]["post"]["requestBody"]["content"]
    new_study = content["application/json"]["schema"]
    assert {"name", "space"} == set(new_study["required"])
    jsonschema.Draft202012Validator.check_schema(new_study)

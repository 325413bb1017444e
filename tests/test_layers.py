"""Imports point one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "aifs_tune"

LAYERS = [
    {
        "errors",
        "clock",
        "scalars",
        "seeds",
        "quiet",
        "durable",
        "environment",
        "hashes",
        "profile",
        "preloading",
        "place",
        "memory",
        "projects",
        "question",
    },
    {"shares"},
    {"section"},
    {"parameters", "space"},
    {"mixtures", "limits", "excluded"},
    {"expressions", "expression_kinds", "expression_text", "constraints"},
    {"data_url", "object_store"},
    {"series_spec", "design_spec"},
    {"data_spec"},
    {"cross_validation", "search_spec"},
    {"spec"},
    {"strict_yaml", "wording", "overrides", "sweep_file"},
    {"lease", "trial", "advice"},
    {"writer_lock", "held_session", "mirror_statements", "mirror"},
    {"sqlite_database", "postgres_lock", "postgres_database"},
    {"storage", "record", "table"},
    {"results", "ranking"},
    {"exploring", "optuna_quiet"},
    {"sampling"},
    {"advising"},
    {"importance"},
    {"study_reading", "study_writing", "study_lending", "study"},
    {"project_view"},
    {"warm_start"},
    {"study_index"},
    {"likeness"},
    {"studies"},
    {"study_document"},
    {"analysis"},
    {"candidates", "confirmation"},
    {"noise_floor"},
    {"problem_types", "wire", "remote_study", "client_sweeps", "client"},
    {"service"},
    {"data"},
    {"trainers"},
    {"testing"},
    {"listener", "artifact_stores", "artifacts", "study_files"},
    {"finals"},
    {"meter", "footprint", "steps"},
    {"job"},
    {"runner", "exchange", "shortage"},
    {"packing"},
    {"cluster", "jobs"},
    {"ray_nodes"},
    {"ray_population"},
    {"ray_trial", "ray_schedulers", "ray_pbt", "ray_searcher", "ray_patches"},
    {"ray_watch"},
    {"ray_tune"},
    {"sweep_data"},
    {"sweep"},
    {"confirming", "noise"},
    {"answers", "progress", "screens", "screens_confirm", "screens_analyse", "screens_data"},
    {"report"},
    {"bundle"},
    {
        "cli_doors",
        "cli_elsewhere",
        "cli_instrument",
        "cli_report",
        "cli_result",
        "cli_cluster",
        "cli_files",
        "cli_service",
        "cli_confirm",
        "cli_bundle",
        "cli_analyse",
    },
    {"cli"},
]

HOMES = {
    "ray": {
        "ray_tune",
        "ray_searcher",
        "ray_watch",
        "ray_trial",
        "ray_schedulers",
        "ray_pbt",
        "ray_nodes",
        "ray_patches",
        "ray_population",
        "cluster",
        "jobs",
    },
    "optuna": {
        "mirror",
        "mirror_statements",
        "held_session",
        "sqlite_database",
        "postgres_database",
        "storage",
        "record",
        "sampling",
        "advising",
        "study_reading",
        "study_writing",
        "study_lending",
        "study",
        "studies",
        "study_index",
        "study_document",
        "importance",
        "optuna_quiet",
        "project_view",
    },
    "sqlalchemy": {
        "mirror",
        "mirror_statements",
        "held_session",
        "sqlite_database",
        "postgres_lock",
        "postgres_database",
        "service",
    },
    "a2wsgi": {"service"},
    "bottle": {"service"},
    "optuna_dashboard": {"service"},
    "fastapi": {"service"},
    "starlette": {"service"},
    "uvicorn": {"service"},
    "httpx": {"wire"},
    "tensorflow": {"trainers"},
    "keras": {"trainers"},
    "jax": {"trainers"},
    "typer": {
        "cli_analyse",
        "cli_bundle",
        "cli_confirm",
        "cli_result",
        "cli",
        "cli_doors",
        "cli_instrument",
        "cli_cluster",
        "cli_files",
        "cli_report",
        "cli_service",
    },
    "matplotlib": {"report"},
    "typst": {"report"},
    "rich": {"screens_analyse", "screens_data", "screens_confirm", "progress", "screens", "cli_result", "cli_files"},
    "PIL": {"data"},
    "astropy": {"data"},
    "h5py": {"data"},
    "fsspec": {"object_store"},
    "rocrate": {"bundle"},
    "tf2onnx": {"trainers"},
    "torch": {"trainers"},
    "yaml": {"strict_yaml", "cli", "bundle"},
}


def room(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else file.stem


def imports(file: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(file):
    here = room(file)
    if here == "__init__":
        return
    for name in imports(file):
        top, *rest = name.split(".")
        if top == "aifs_tune":
            assert rest[0] in LEVEL, f"{name} has no place in the flow"
            assert LEVEL[rest[0]] <= LEVEL[here], f"{here} imports {rest[0]}, which stands below it"
        if top in HOMES:
            assert here in HOMES[top], f"{here} imports {top}"


@pytest.mark.parametrize(
    "command",
    [
        "import aifs_tune",
        "import aifs_tune\nwith aifs_tune.Client('http://127.0.0.1:9'): pass",
        "import aifs_tune.spec, aifs_tune.space, aifs_tune.errors, aifs_tune.sweep_file",
        "import sys\nsys.argv = ['aifs-tune', '--help']\nfrom aifs_tune.cli import main\n"
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


def test_what_only_proposes_is_loaded_when_something_is_proposed():
    check = (
        "import sys, aifs_tune.answers, aifs_tune.screens"
        "\nlate = {'scipy.stats', 'scipy.optimize', 'pandas'} & set(sys.modules)\nassert not late, late"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_stay_readable(file):
    assert len(file.read_text().splitlines()) <= 350

"""A machine beside an instrument: ask, tell, query, serve and report with neither TensorFlow, Ray, astropy, h5py nor
pyarrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("tensorflow", "keras", "ray", "astropy", "h5py", "pyarrow")
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
COMMANDS = """
import contextlib, io, json, sys

def command(*words):
    from aifs_tune.cli.main import main
    sys.argv = ["aifs-tune", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert code == 0, (words, err.getvalue())
    return out.getvalue()

for n in range(3):
    trial = json.loads(command("ask", "crystals", "--sweep", "crystal_growth", "--lease", "1h"))
    number = str(trial["trial"])
    command("report", "crystals", number, "1", str(0.1 * n))
    command("renew", "crystals", number)
    command("tell", "crystals", number, str(0.2 * n))
"""
QUERIES = """
assert json.loads(command("best", "crystals", "--json"))["value"] == 0.4
assert len(json.loads(command("trials", "crystals", "--format", "json"))) == 3
assert command("trials", "crystals", "--format", "csv").count("\\n") == 4
assert [each["study"] for each in json.loads(command("studies", "--json"))] == ["crystals"]
assert "crystals" in command("trials", "crystals") + command("studies")
"""
REPORTS = """
assert "3 trials finished" in command("status", "crystals")
for name in ("report.html", "report.md"):
    command("report", "crystals", "-o", name)
"""


def python(folder: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in ``folder`` where the absent packages cannot be imported."""
    (folder / "light").mkdir(exist_ok=True)
    (folder / "light" / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join([str(folder / "light"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_instrument_is_served_without_the_heavy_packages(tmp_path):
    done = python(tmp_path, COMMANDS + QUERIES + REPORTS)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")


SERVE = [sys.executable, "-m", "aifs_tune", "serve", "--port", "0"]


def test_a_service_and_its_client_run_without_the_heavy_packages(tmp_path):
    assert python(tmp_path, "").returncode == 0  # writes light/
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "light"), str(ROOT)])}
    service = subprocess.Popen(SERVE, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert service.stderr is not None
        said = service.stderr.readline()
        assert said.startswith("serving at http://"), said + service.stderr.read()
        done = python(tmp_path, COMMANDS + QUERIES, AIFS_TUNE_URL=said.split()[2].rstrip(";"))
    finally:
        service.terminate()
        service.communicate(timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "quick_sky"), "pip install aifs-tune"),
        (("trials", "crystals", "--format", "parquet", "--output", "t.parquet"), "pip install pyarrow"),
    ],
)
def test_a_command_that_needs_them_says_what_to_type(tmp_path, words, line):
    asked = python(
        tmp_path, "from aifs_tune.cli.main import main\nmain()", "ask", "crystals", "--sweep", "crystal_growth"
    )
    assert asked.returncode == 0, asked.stderr
    done = python(tmp_path, "from aifs_tune.cli.main import main\nmain()", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("aifs-tune: ")
    assert done.stderr.endswith(f" is not installed; install it with: {line}\n")


def test_python_says_what_to_type(tmp_path):
    script = (
        "import aifs_tune\nfrom aifs_tune.errors import RequestError\n"
        "try: aifs_tune.load_sweep('quick_sky').run(storage='sqlite:///lab.db')\n"
        "except ImportError as error: assert isinstance(error, RequestError); print(error)"
    )
    done = python(tmp_path, script)
    assert done.stdout.endswith(" is not installed; install it with: pip install aifs-tune\n"), done.stderr


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_environment_of_its_own_is_below_500_mb(tmp_path):
    """As the documentation says it: the packages of requirements-core.txt, then this one without its dependencies."""
    own = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", own], check=True)
    pip = [own / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    subprocess.run(
        [*pip, "--constraint", ROOT / "constraints.txt", "--requirement", ROOT / "requirements-core.txt"], check=True
    )
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    lab = tmp_path / "lab"
    lab.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    there = subprocess.run(
        [own / "bin" / "python", "-c", f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"],
        cwd=lab,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == "[]\n"
    script = COMMANDS + QUERIES + REPORTS
    subprocess.run([own / "bin" / "python", "-c", script], cwd=lab, env=environment, check=True)
    service = subprocess.Popen(
        [own / "bin" / "aifs-tune", "serve", "--port", "0"],
        cwd=lab,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stderr is not None
        url = service.stderr.readline().split()[2].rstrip(";")
        best = [own / "bin" / "aifs-tune", "best", "crystals", "--json"]
        answer = subprocess.run(
            best, cwd=tmp_path, env={**environment, "AIFS_TUNE_URL": url}, capture_output=True, check=True
        )
    finally:
        service.terminate()
        service.communicate(timeout=30)
    assert json.loads(answer.stdout)["value"] == 0.4
    size_mb = sum(file.lstat().st_size for file in own.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6
    print(f"\nenvironment of requirements-core.txt: {size_mb:.0f} MB")  # noqa: T201 - the size is to be read
    assert size_mb < 500

"""Every command and example of README and docs runs, in the order it stands there.

Sweeps are made small by options that are added at the end of a ``run`` line; nothing else is changed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aifs_tune.cli import app
from aifs_tune.strict_yaml import read_yaml
from aifs_tune.sweep_file import parse_sweep

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = ["--epochs", "1", "--set", "data.image_size=24", "--set", "space.filters=8", "--set", "space.dense_units=16"]
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def small(words: list[str]) -> list[str]:
    """The same command on less: fewer trials and epochs, a smaller sky."""
    if words[:2] == ["aifs-tune", "run"]:
        if words[2] == "sky_positions":
            few = ["--set", "data.frames.simulate.images=60", "--set", "data.frames.simulate.size=24"]
            return [*words, "--trials", "2", *SMALL, *few]
        quick = words[2] == "quick_sky"
        return [*words, "--trials", "2", *(SMALL[:2] if quick else SMALL)]
    if words[:2] == ["aifs-tune", "simulate-sky"]:
        return [*words, "--images", "150", "--size", "24", "--difficulty", "0"]
    return words


def command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = small(shlex.split(line, comments=True))
    program = [sys.executable, "-m", "aifs_tune.cli"] if words[0] == "aifs-tune" else words[:1]
    if words[0] == "python":
        program = [sys.executable]
        words = ["python", str(ROOT / words[1]), *words[2:]]
    return subprocess.run([*program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False)


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = code.replace('"celestial_cnn", data="survey")', f'"celestial_cnn", data="survey", overrides={SMALL[3::2]})')
    code = code.replace("trials=24, epochs=8", "trials=2, epochs=1")
    return subprocess.run([sys.executable, "-"], input=code, cwd=folder, capture_output=True, text=True, check=False)


def run_page(page: Path, folder: Path) -> int:
    """Run all examples of a page in ``folder``; how many there were."""
    n_run = 0
    for language, text in blocks(page):
        if language == "yaml":
            parse_sweep({"name": "example", "space": {"x": 1.0}} | read_yaml(text, source=page.name).data)
            n_run += 1
            continue
        if language == "python" and text.startswith("# "):  # a file of the reader's, named in its first line
            file = folder / text.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            continue
        for piece in [text] if language == "python" else text.splitlines():
            if piece.startswith("make "):  # what runs these tests
                continue
            done = python(piece, folder) if language == "python" else command(piece, folder)
            assert done.returncode == 0, f"{page.name}: {piece}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
            n_run += 1
    return n_run


@pytest.mark.timeout(900)
def test_the_readme_runs_from_top_to_bottom(tmp_path):
    assert run_page(ROOT / "README.md", tmp_path) >= 12


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [p for p in PAGES[1:] if blocks(p)], ids=lambda p: p.name)
def test_a_docs_page_runs_from_top_to_bottom(page, tmp_path):
    if "simulate-sky survey" not in page.read_text():
        assert command("aifs-tune simulate-sky survey", tmp_path).returncode == 0
    assert run_page(page, tmp_path) >= 1


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_says_how_it_is_used(script, tmp_path):
    done = command(f"python benchmarks/{script.name} --help", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{script.name}" in done.stdout


def test_every_command_is_documented():
    told = "\n".join(page.read_text() for page in PAGES)
    names = [c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands]
    assert [name for name in names if f"aifs-tune {name}" not in told] == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

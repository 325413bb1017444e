"""What is sent with a job to a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.search import SamplerSpec
from aifs_tune.errors import RequestError
from aifs_tune.execution import packaging
from aifs_tune.execution.packaging import pack

SPEC = parse_sweep({"name": "lab", "objective": {"metric": "y", "mode": "max"}, "space": {"x": 1}})


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder to send, with things that are not."""
    folder = tmp_path / "tools"
    for name in ("read.py", "deep/er.py", ".env", ".git/config", "deep/.netrc", "deep/__pycache__/er.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "alias.py").symlink_to("read.py")
    return folder


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    (tmp_path / "sent").mkdir()
    return tmp_path / "sent"


def test_hidden_and_compiled_files_of_a_folder_stay_here(tools, sent):
    pack(sent, SPEC, [tools])
    files = {str(file.relative_to(sent)): file.read_text() for file in sent.rglob("*") if file.is_file()}
    assert files == {"tools/read.py": "read.py", "tools/deep/er.py": "deep/er.py", "tools/alias.py": "read.py"}
    assert not any(file.is_symlink() for file in sent.rglob("*"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tools: (tools / "up").symlink_to("..", target_is_directory=True), "up: a link to a folder is not sent"),
        (lambda tools: (tools / "key").symlink_to("/etc/passwd"), "key: is not a plain file in the folder to send"),
        (lambda tools: (tools / "open").symlink_to(".env"), "open: is not a plain file in the folder to send"),
        (lambda tools: (tools / "gone").symlink_to("nowhere"), "gone: is not a plain file in the folder to send"),
        (lambda tools: os.mkfifo(tools / "pipe"), "pipe: is not a plain file in the folder to send"),
    ],
)
def test_links_that_lead_out_and_special_files_are_refused(tools, sent, make, message):
    make(tools)
    with pytest.raises(RequestError, match=message):
        pack(sent, SPEC, [tools])


def test_much_data_is_refused_before_it_is_sent(tools, sent, monkeypatch):
    monkeypatch.setattr(packaging, "MAX_BYTES", 20)
    with pytest.raises(RequestError, match="put data where all nodes see them, and name the place with --data"):
        pack(sent, SPEC, [tools])


def test_own_modules_are_found_in_the_current_folder_alone(tmp_path, sent, monkeypatch):
    for name in ("trainer.py", "spaced/inner.py", "package/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("trainer:f", "spaced.inner:f", "package:f", "numpy:f")):
        (sent / str(number)).mkdir()
        spec = SPEC.model_copy(update={"search": SPEC.search.model_copy(update={"sampler": SamplerSpec(name=name)})})
        pack(sent / str(number), spec, [])
    found = [str(file.relative_to(sent)) for file in sorted(sent.rglob("*.py"))]
    assert found == ["0/trainer.py", "1/spaced/inner.py", "2/package/__init__.py"]

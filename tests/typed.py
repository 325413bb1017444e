"""Commands as a person types them, in this process."""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import pytest

from aifs_tune.cli import main as cli


class CommandResult(NamedTuple):
    """What a command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs the command line with these words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> CommandResult:
        self._monkeypatch.setattr(sys, "argv", ["aifs-tune", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        return CommandResult(int(ended.value.code or 0), captured.out, captured.err)

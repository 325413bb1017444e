"""Other processes that do what a script says."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs ``script``; it hears and tells through pipes of text."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

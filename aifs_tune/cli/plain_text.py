"""Text for the terminal that cannot control it."""

from __future__ import annotations

from typing import Any

import rich.text

from aifs_tune._util.formatting import printable


class Text(rich.text.Text):
    """Text in which control characters are written out, so that a stored reason or label cannot move the cursor."""

    def __init__(self, text: str = "", *given: Any, **options: Any) -> None:
        super().__init__(printable(text), *given, **options)

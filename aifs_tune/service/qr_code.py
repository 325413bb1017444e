"""QR codes as SVG, by Segno."""

from __future__ import annotations

import io

import segno


def svg(text: str) -> bytes:
    """Return a QR code with ``text``: black on white in dark colours too, with the quiet zone that readers need."""
    written = io.BytesIO()
    code = segno.make(text, error="m", micro=False)
    code.save(written, kind="svg", border=4, dark="#000", light="#fff", xmldecl=False, omitsize=True)
    return written.getvalue()

"""Names of parameters: identifiers of Python, joined by dots."""

from __future__ import annotations

import unicodedata
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from aifs_tune._util.scalars import brief, problem

MAX_NAME_LENGTH = 100
NAME_RULE = (
    f"at most {MAX_NAME_LENGTH} letters of any alphabet, digits and _, not starting with a digit, and dots between "
    "such parts, as in model.lr"
)
_PATTERN = r"^(?:[A-Za-z_]|[^\x00-\x7f])(?:\.?(?:\w|[^\x00-\x7f]))*$"
"""What a JSON Schema can say of it, in the regular expressions of all languages."""


def is_name(text: str) -> bool:
    """Whether a parameter may have this name: identifiers of Python, joined by dots."""
    is_short = 0 < len(text) <= MAX_NAME_LENGTH
    return is_short and unicodedata.is_normalized("NFC", text) and all(map(str.isidentifier, text.split(".")))


def _checked(name: str) -> str:
    if is_name(name):
        return name
    composed = unicodedata.normalize("NFC", name)
    if is_name(composed):
        text = f"{brief(name)} has letters with separate accents"
        raise problem("", text, f"{composed}, with the letters of Unicode's normal form NFC")
    bad = next((c for c in name if c != "." and not f"_{c}".isidentifier()), None)
    why = "" if bad is None else f" because of {brief(bad)}" if bad.isprintable() else f" because of U+{ord(bad):04X}"
    raise problem("", f"{brief(name)} is not a name{why}", NAME_RULE)


ParameterName: TypeAlias = Annotated[
    str, AfterValidator(_checked), Field(json_schema_extra={"pattern": _PATTERN, "maxLength": MAX_NAME_LENGTH})
]


def parameter_name(name: str) -> str:
    """A name that a search space may have for a parameter, made of one that another tool allows."""
    composed = unicodedata.normalize("NFC", name)
    found = "".join(c if c == "." or f"_{c}".isidentifier() else "_" for c in composed)[: MAX_NAME_LENGTH - 1]
    parts = [part if part.isidentifier() else f"_{part}" for part in found.split(".")]
    return ".".join(parts) if is_name(".".join(parts)) else "_".join(parts)[:MAX_NAME_LENGTH]

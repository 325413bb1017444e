"""Authors, licence and citation of a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aifs_tune._util.scalars import brief
from aifs_tune.errors import RequestError

_ORCID = re.compile(r"(?:https://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])")
_MAX_TEXT_CHARS = 200


@dataclass(frozen=True)
class Author:
    """An author; ``orcid`` has the form 0000-0002-1825-0097."""

    family: str
    given: str = ""
    orcid: str | None = None

    @property
    def name(self) -> str:
        """Given name and family name."""
        return f"{self.given} {self.family}".strip()

    @property
    def inverted(self) -> str:
        """Family name, then given name."""
        return f"{self.family}, {self.given}" if self.given else self.family


def author_of(text: str) -> Author:
    """Read an author from ``Given Family`` or ``Family, Given``, with an optional ``;ORCID``.

    Raises
    ------
    RequestError
        If the name is empty, or if the ORCID iD is invalid (its check digit is tested).
    """
    named, _, orcid = (part.strip() for part in text.partition(";"))
    if not named or len(named) > _MAX_TEXT_CHARS or not named.isprintable():
        raise RequestError(f"--author: {brief(text)} has no name; allowed: 'NAME' or 'NAME;ORCID'")
    if ";" in text:
        orcid = _checked_orcid(orcid)
    family, comma, given = (part.strip() for part in named.partition(","))
    if not comma:
        given, _, family = named.rpartition(" ")
    return Author(family, given, orcid or None)


def _checked_orcid(text: str) -> str:
    """The ORCID iD, with its check digit tested (ISO 7064, MOD 11-2)."""
    found = _ORCID.fullmatch(text)
    if found is not None:
        total = 0
        for digit in found[1].replace("-", "")[:-1]:
            total = (total + int(digit)) * 2
        if "0123456789X"[(12 - total % 11) % 11] == found[1][-1]:
            return found[1]
    raise RequestError(f"--author: {brief(text)} is not an ORCID iD; allowed: an iD such as 0000-0002-1825-0097")


@dataclass(frozen=True)
class Citation:
    """Title, authors and licence of a bundle; ``licence`` is an SPDX identifier, or None if none is given."""

    title: str
    authors: tuple[Author, ...] = ()
    licence: str | None = None

    @classmethod
    def of(cls, title: str, authors: Sequence[str], licence: str | None) -> Citation:
        """Make a citation from text.

        Raises
        ------
        RequestError
            If the title, an author or the licence is invalid.
        """
        if not title.strip() or len(title) > _MAX_TEXT_CHARS or not title.isprintable():
            raise RequestError(f"--title: {brief(title)}; allowed: printable text of 1 to {_MAX_TEXT_CHARS} characters")
        return cls(title, tuple(author_of(each) for each in authors), None if licence is None else licence_id(licence))

    @property
    def licence_url(self) -> str | None:
        """Web address of the licence."""
        return None if self.licence is None else f"https://spdx.org/licenses/{self.licence}"


def licence_id(text: str) -> str:
    """The SPDX identifier of a licence in its official spelling, such as CC-BY-4.0.

    Raises
    ------
    RequestError
        If ``text`` is not an SPDX identifier.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        found = str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        found = " "
    if " " in found:
        raise RequestError(
            f"--licence: {brief(text)} is not an SPDX identifier; allowed: one such as CC-BY-4.0, CC0-1.0 or MIT"
        )
    return found


def citation_file(citation: Citation, released: str, version: str) -> dict[str, Any]:
    """Content of ``CITATION.cff`` 1.2.0; ``released`` is a date, ``version`` is the version of aifs-tune."""
    authors = [
        {
            "family-names": each.family,
            **({"given-names": each.given} if each.given else {}),
            **({"orcid": f"https://orcid.org/{each.orcid}"} if each.orcid else {}),
        }
        for each in citation.authors
    ]
    return {
        "cff-version": "1.2.0",
        "message": "If you use these results, please cite them as below.",
        "type": "dataset",
        "title": citation.title,
        "authors": authors,
        **({"license": citation.licence} if citation.licence else {}),
        "date-released": released,
        "abstract": f"Trials, best configuration and scores of a hyperparameter search with aifs-tune {version}.",
        "keywords": list(KEYWORDS),
    }


KEYWORDS = ("hyperparameter optimisation", "aifs-tune", "RO-Crate")


def zenodo_metadata(citation: Citation, description: str, released: str) -> dict[str, Any]:
    """Content of ``.zenodo.json``, the deposit metadata of an upload to Zenodo. Nothing is uploaded.

    Raises
    ------
    RequestError
        If there is no author or no licence: Zenodo requires both for open access.
    """
    if not citation.authors or citation.licence is None:
        raise RequestError("--zenodo: needs an author and a licence; give --author NAME and --licence SPDX")
    creators = [{"name": each.inverted, **({"orcid": each.orcid} if each.orcid else {})} for each in citation.authors]
    return {
        "title": citation.title,
        "upload_type": "dataset",
        "description": description,
        "creators": creators,
        "access_right": "open",
        "license": citation.licence.lower(),
        "publication_date": released,
        "keywords": list(KEYWORDS),
    }

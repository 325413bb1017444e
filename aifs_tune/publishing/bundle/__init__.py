"""Bundles: a study as a folder to publish, check, import and reproduce.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.publishing.bundle.export import export
    from aifs_tune.publishing.bundle.load import import_study
    from aifs_tune.publishing.bundle.reproduce import reproduce

__all__ = [
    "export",
    "import_study",
    "reproduce",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "export": "export",
        "import_study": "load",
        "reproduce": "reproduce",
    },
)

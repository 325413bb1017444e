"""Settings of the documentation site: ``make docs`` builds it into docs/_build/html."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

project = "aifs_tune"
author = "the aifs_tune developers"
release = version_of("aifs-tune")
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "command_reference",
    "error_reference",
    "rest_reference",
]
exclude_patterns = ["_build", "_templates", "_ext"]
templates_path = ["_templates"]

smartquotes = False  # two hyphens are an option's

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# The Python reference: the names of aifs_tune.__all__, each on a page of its own.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the Parameters sections say the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_class_members_toctree = False

# Copy commands without their comments' prompts, and never the output.
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "aifs_tune"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {"glossary": [], "faq": [], "limits": []}


def keep_together(app: Sphinx, docname: str, source: list[str]) -> None:
    """A value and its spread stay on one line."""
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", keep_together)

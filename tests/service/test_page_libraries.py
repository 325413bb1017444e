"""The bundled libraries of the service's pages are the ones of the lock file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aifs_tune.service.routes.pages import FOLDER

SOURCE = Path(__file__).resolve().parents[2] / "page_libraries"
BUNDLE = (FOLDER / "vendor" / "d3.js").read_text()
NAMES = r"[\w$]+"


def test_the_bundle_has_the_versions_of_the_lock_file():
    locked = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    shipped = dict(re.findall(r"^(d3-[\w-]+|internmap) (\d[\w.-]*)$", BUNDLE, re.MULTILINE))
    assert shipped == {name: locked[f"node_modules/{name}"]["version"] for name in shipped}
    assert {"d3-axis", "d3-scale", "d3-shape"} <= set(shipped)


def test_each_package_is_pinned_and_its_licence_is_shipped():
    package = json.loads((SOURCE / "package.json").read_text())
    locked = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert locked[f"node_modules/{name}"]["version"] == version
    notice = BUNDLE.split("*/")[0]
    assert "Mike Bostock" in notice
    assert "Permission to use, copy, modify, and/or distribute this software" in notice


def test_the_bundle_has_what_the_pages_use_and_nothing_else():
    listed = re.findall(r"^export \{([^}]*)\}", (SOURCE / "d3.js").read_text(), re.MULTILINE)
    wanted = {name.strip() for names in listed for name in names.split(",")}
    exported = re.findall(rf"(?:{NAMES} as )?({NAMES})", re.search(r"export\{([^}]*)\};?\s*$", BUNDLE)[1])
    used = set()
    for script in FOLDER.glob("*.js"):
        for names in re.findall(r'import \{([^}]*)\} from "./vendor/d3.js"', script.read_text()):
            used |= {name.strip() for name in names.split(",")}
    assert set(exported) == wanted == used


@pytest.mark.parametrize("word", ["eval(", "new Function", "document.write", "insertAdjacentHTML"])
def test_the_bundle_makes_no_scripts_of_text(word):
    assert word not in BUNDLE

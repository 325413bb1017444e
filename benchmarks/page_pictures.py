"""Pictures of a study's page for the docs, light and dark, by Chromium from a storage with a real study in it.

aifs-tune run quick_sky --storage sqlite:///sky.db
python benchmarks/page_pictures.py --storage sqlite:///sky.db --study quick-sky --to docs/figures
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--to", type=Path, default=Path("docs/figures"), metavar="FOLDER")
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    words = [sys.executable, "-m", "aifs_tune", "serve", "--port", "0", "--storage", options.storage]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as service:
        try:
            url = next(found[1] for line in service.stderr or () if (found := re.match(r"serving at (\S+);", line)))
            take(f"{url}/studies/{options.study}", options.to, options.width)
        finally:
            service.terminate()


def take(url: str, folder: Path, width: int) -> None:
    """One picture a colour scheme, once all is drawn."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(url)
            page.wait_for_selector("#importance table, #importance .note")
            file = folder / f"page_{scheme}.png"
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
            print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()

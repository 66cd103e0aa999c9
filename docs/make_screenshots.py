"""Take the pictures of the documentation: the server's page, the report and ``asr inspect``.

Usage, with the package, its ``test`` extra and Chromium installed: python docs/make_screenshots.py
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
SAMPLES = ROOT / "data" / "samples"
WIDTH = 1160
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "chromium")


def asr(*arguments: object) -> list[str]:
    """Return the command line of ``asr``."""
    return [sys.executable, "-m", "asr", *map(str, arguments)]


@contextmanager
def serving() -> Iterator[str]:
    """Give the address of ``asr serve``, which runs until the end."""
    command = asr("serve", "--port", 0)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            yield "http://" + process.stderr.readline().split("http://")[1].split()[0]
        finally:
            process.terminate()


def take_server(browser: Browser, url: str, image: Path) -> None:
    """Drop a recording onto the server's page and play it to the middle."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 560})
    page.goto(url)
    page.wait_for_selector("#source:not([hidden])")
    page.set_input_files("#file", SAMPLES / "river.wav")
    page.wait_for_selector("#result:not([hidden])")
    page.locator(".word").nth(4).click()
    page.wait_for_timeout(300)
    page.screenshot(path=image)
    page.close()


def take_report(browser: Browser, report: Path, image: Path) -> None:
    """Open the utterance called river in the report of the samples."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    page.goto(report.as_uri())
    page.locator(".row .id", has_text="river").click()
    page.wait_for_timeout(500)
    page.locator(".row").first.scroll_into_view_if_needed()
    page.screenshot(path=image)
    page.close()


def main() -> None:
    """Write all pictures."""
    inspected = IMAGES / "inspect.png"
    subprocess.run(asr("inspect", SAMPLES / "river.wav", "-o", inspected), check=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as player:
        manifest = SAMPLES / "manifest.jsonl"
        subprocess.run(asr("evaluate", manifest, "--output", folder), check=True)
        browser = player.chromium.launch(executable_path=CHROMIUM)
        take_report(browser, Path(folder) / "report.html", IMAGES / "report.png")
        with serving() as url:
            take_server(browser, url, IMAGES / "server.png")
        browser.close()


if __name__ == "__main__":
    main()

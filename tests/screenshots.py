"""Pictures of the page for README, taken of the page itself; writes docs/*.png.

python -m tests.screenshots
"""

import csv

from playwright.sync_api import sync_playwright

from .app_server import serve
from .conftest import MOVIES, ROOT
from .test_browser import ARGUMENTS, CHROMIUM

DOCS = ROOT / "docs"


def main():
    with MOVIES.open(encoding="utf-8", newline="") as file:
        text = next(row["description"] for row in csv.DictReader(file) if row["movie_name"] == "Collateral")
    process, url = serve()
    DOCS.mkdir(exist_ok=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for name, width, scheme in (("classify", 1280, "light"), ("phone", 390, "light"), ("dark", 1280, "dark")):
                page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
                page.goto(url)
                page.fill("#description textarea, #description input", text)
                page.click("#submit")
                page.wait_for_selector(".mg-chips")
                if name == "classify":
                    page.click("#options button")
                    page.check("#uncertain input")
                    page.wait_for_selector(".mg-spread")
                    page.click("#options button")
                page.mouse.move(0, 0)
                page.wait_for_timeout(1000)  # fonts and fades
                if name != "dark":
                    page.screenshot(path=DOCS / f"{name}.png", full_page=True)
                else:
                    page.get_by_role("tab", name="Batch").click()
                    page.set_input_files("#file input[type=file]", MOVIES)
                    page.wait_for_selector("#file .file-preview")
                    page.click("#read")
                    page.wait_for_selector("#report .mg-figures", timeout=300_000)
                    page.wait_for_timeout(1000)
                    page.screenshot(path=DOCS / "batch.png", full_page=True)
                page.close()
            browser.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main()

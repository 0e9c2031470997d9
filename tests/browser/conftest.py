"""The browser, and a page in it that reaches nothing but this machine."""

import re
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.tools import notebook as nb

NAMES = "chromium", "chromium-browser", "google-chrome"
NO_BROWSER = "no browser found: `sudo apt install chromium` (or install Google Chrome), and these tests run"
ON_THIS_MACHINE = re.compile(r"https?://(127\.0\.0\.1|localhost)[:/]|file:|data:|blob:")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"  # a page does without it
SCREENSHOTS = nb.ROOT / "build" / "screenshots"


# One for each module: while it is open, its event loop runs in this process, which other tests could trip over.
@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # what a container needs
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser):
    """A page, 1280 × 900. Requests that leave this machine are blocked, and end the module with an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    left = []

    def stay_here(route):
        if ON_THIS_MACHINE.match(route.request.url):
            route.continue_()
        else:
            left.append(route.request.url)
            route.abort()

    context.route("**/*", stay_here)
    yield context.new_page()
    context.close()
    assert set(left) <= {BADGE}, left


@pytest.fixture
def shoot():
    """`shoot(page_or_part, name)` keeps a picture in build/screenshots, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lambda target, name, **options: target.screenshot(path=SCREENSHOTS / f"{name}.png", **options)

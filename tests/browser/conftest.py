"""The browser, and a page in it that reaches nothing but this machine."""

import re
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.tools import notebook as nb

NAMES = "chromium", "chromium-browser", "google-chrome"
NO_BROWSER = "no browser found: `sudo apt install chromium` (or install Google Chrome), and these tests run"
ON_THIS_MACHINE = re.compile(r"https?://(127\.0\.0\.1|localhost)[:/]|file:|data:|blob:")
# What a page asks for and does without: the badge of Colab, and the icons that Voilà puts on buttons.
OPTIONAL = re.compile(r"https://(colab\.research\.google\.com/assets|cdn\.jsdelivr\.net/npm/@fortawesome)/")
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
    assert [address for address in left if not OPTIONAL.match(address)] == []


@pytest.fixture
def shoot():
    """`shoot(page_or_part, name)` keeps a picture in build/screenshots, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lambda target, name, **options: target.screenshot(path=SCREENSHOTS / f"{name}.png", **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A picture of the page at the moment when a test failed."""
    report = yield
    if report.failed and "page" in item.funcargs:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        item.funcargs["page"].screenshot(path=SCREENSHOTS / f"failed_{item.name}.png")
    return report

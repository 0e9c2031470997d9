"""The static gallery, opened from the disk as a reader would: on a screen, on a phone, without a network."""

import re

import pytest

from tests.tools import notebook as nb
from tests.tools import run

pytestmark = pytest.mark.browser

WIDTHS = {"screen": 1280, "phone": 390}
NAMES = [path.stem for path in nb.paths()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, browser):
    """The pages and thumbnails of the committed notebooks."""
    folder = tmp_path_factory.mktemp("gallery")
    notebooks = {path.stem: nb.read(path) for path in nb.paths()}
    for name, notebook in notebooks.items():
        run.write(notebook, name, folder)
    (folder / "index.html").write_text(run.index(notebooks), encoding="utf-8")
    return folder


@pytest.fixture(params=WIDTHS)
def device(request, page):
    page.set_viewport_size({"width": WIDTHS[request.param], "height": 900})
    return request.param


def scrolls_sideways(page):
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def pictures_that_are_missing(page):
    """Also those further down: a browser may leave them until they are needed."""
    return page.evaluate(
        """async () => {
            const failed = []
            for (const img of document.images)
                await img.decode().catch(() => failed.push(img.alt + " " + img.src.slice(0, 80)))
            return failed
        }"""
    )


def dead_links(page, folder):
    """Links to files that are neither among the pages nor, seen from build/, in the repository."""
    links = page.evaluate("Array.from(document.links, link => link.getAttribute('href'))")
    paths = {link.partition("#")[0] for link in links if "://" not in link} - {""}
    return [path for path in paths if not (folder / path).exists() and not (run.BUILD / path).resolve().exists()]


def formulas(notebook):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", nb.markdown(notebook), flags=re.DOTALL)
    return re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, flags=re.DOTALL)


def test_index(page, folder, device, shoot):
    page.goto((folder / "index.html").as_uri())
    assert page.locator("main > a").count() == page.locator("img").count() == len(NAMES)
    assert pictures_that_are_missing(page) == []
    assert dead_links(page, folder) == []
    assert not scrolls_sideways(page)
    shoot(page, f"gallery_{device}", full_page=True)


@pytest.mark.parametrize("name", NAMES)
def test_page(page, folder, device, shoot, name):
    notebook = nb.read(nb.FOLDER / f"{name}.ipynb")
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("link", name=nb.title(notebook)).click()
    page.wait_for_url(f"**/{name}.html")
    assert page.locator("h1").first.inner_text().removesuffix("¶") == nb.title(notebook)

    pictures = sum(len(nb.pictures(cell)) for cell in nb.code_cells(notebook))
    assert page.locator(".jp-OutputArea img").count() == pictures
    assert pictures_that_are_missing(page) == []
    assert dead_links(page, folder) == []

    page.evaluate("MathJax.startup.promise.then(() => null)")
    assert page.locator("mjx-container").count() == len(formulas(notebook))
    assert page.locator("[data-mml-node=merror]").count() == 0
    assert not scrolls_sideways(page)

    shoot(page, f"page_{name}_{device}")
    if formulas(notebook):
        page.locator("mjx-container").first.scroll_into_view_if_needed()
        shoot(page, f"page_{name}_{device}_formula")

"""The app: explorers without code, one at a time. And that Voilà keeps to a page, however long its notebook takes."""

import contextlib
import json

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import servers
from tests.browser.widgets import menu, pictures
from tests.tools import notebook as nb
from tests.tools import settings

pytestmark = pytest.mark.browser

SLEEPS = 4  # cells of a notebook that does nothing, but for a long time


@contextlib.contextmanager
def sleeping(folder, seconds, **tornado):
    """The app of a notebook whose cells sleep; its server asks every second whether the page is still there."""
    sources = [f"import time\ntime.sleep({seconds})\nprint('cell {n}')" for n in range(SLEEPS)]
    config = folder / "settings" / "config"
    config.mkdir(parents=True)
    nb.write(nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)]), folder / "sleeper.ipynb")
    told = settings.TORNADO | {"ws_ping_interval": 1000, **tornado}
    (config / "voila.json").write_text(json.dumps({"Voila": {"tornado_settings": told}}))
    with servers.app(folder / "sleeper.ipynb", folder / "settings") as address:
        yield address


def test_page_that_takes_long_is_not_given_up(page, tmp_path):
    """36 s, where with such pings the limit is 30 s without the setting; the other server may hang up, and does."""
    with sleeping(tmp_path / "long", 9) as long, sleeping(tmp_path / "other", 2, ws_ping_timeout=3000) as other:
        lost = page.context.new_page()
        page.goto(long)
        lost.goto(other)
        expect(lost.get_by_text("cell 0", exact=True)).to_be_visible(timeout=60_000)
        expect(page.get_by_text(f"cell {SLEEPS - 1}", exact=True)).to_be_visible(timeout=90_000)
        expect(lost.get_by_text(f"cell {SLEEPS - 1}", exact=True)).to_have_count(0)
        lost.close()


@pytest.fixture(scope="module")
def app(page, tmp_path_factory):
    """The page of `make app`, as a visitor finds it."""
    with servers.app(nb.APP, tmp_path_factory.mktemp("settings")) as address:
        page.goto(address)
        expect(page.get_by_role("button", name="training")).to_be_visible(timeout=60_000)
        yield page


def test_nothing_is_started_before_it_is_chosen(app, shoot):
    shoot(app, "app_first")
    assert pictures(app).count() == 0
    assert app.locator("a:not([href^='#'])").count() == 0  # what is not on this page would be refused
    assert app.get_by_text("Which pixels made the score?").is_visible()


@pytest.mark.parametrize("name", ["layers", "training"])
def test_the_chosen_explorer_stands_alone(app, shoot, name):
    app.get_by_role("button", name=name, exact=True).click()
    expect(app.get_by_text("It is starting")).to_be_visible()
    expect(app.get_by_text("It is starting")).to_have_count(0, timeout=120_000)
    expect(pictures(app).nth(1)).to_be_visible()
    shoot(app, f"app_{name}")
    assert app.get_by_role("alert").count() == 0
    assert app.get_by_role("combobox", name="Layer").count() == 1


def test_pictures_can_be_read_from_the_last_row_and_an_explorer_is_as_it_was_left(app):
    app.get_by_role("button", name="layers", exact=True).click()
    expect(app.get_by_text("What does each channel of a layer see")).to_be_visible()
    expect(pictures(app).first).to_be_visible()
    assert 360 <= pictures(app).first.bounding_box()["width"] <= 480
    menu(app, "Picture").select_option("panda")
    expect(app.get_by_text("panda. Frame")).to_be_visible()
    for name in ("training", "layers"):
        app.get_by_role("button", name=name, exact=True).click()
    expect(app.get_by_text("panda. Frame")).to_be_visible()

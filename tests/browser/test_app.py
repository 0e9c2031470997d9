"""The app: explorers without code, one at a time. And that Voilà keeps to a page, however long its notebook takes."""

import contextlib
import json

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import servers
from tests.browser.widgets import menu, pictures
from tests.tools import notebook as nb

pytestmark = pytest.mark.browser

SLEEPS = 4  # cells of a notebook that does nothing, but for a long time


def sleeper(folder, seconds):
    sources = [f"import time\ntime.sleep({seconds})\nprint('cell {n}')" for n in range(SLEEPS)]
    path = folder / "sleeper.ipynb"
    nb.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


def impatient(folder, **more):
    """To what this environment says is added: ask thirty times as often whether the page is still there."""
    (folder / "config").mkdir(parents=True)
    tornado = {"ws_ping_interval": 1000, **more}
    (folder / "config" / "voila.json").write_text(json.dumps({"Voila": {"tornado_settings": tornado}}))
    return folder


@pytest.fixture
def sleeping(page, tmp_path):
    """`sleeping(seconds, **settings)`: a cell of the page, by its number; each takes so many seconds."""
    with contextlib.ExitStack() as open_servers:

        def start(seconds, **more):
            path = sleeper(tmp_path, seconds)
            page.goto(open_servers.enter_context(servers.app(path, impatient(tmp_path / "settings", **more))))
            return lambda number: page.get_by_text(f"cell {number}", exact=True)

        yield start


def test_page_that_takes_long_is_not_given_up(sleeping):
    cell = sleeping(9)  # 36 s; without the setting the limit, with such pings, is 30 s
    expect(cell(SLEEPS - 1)).to_be_visible(timeout=60_000)


def test_without_the_setting_a_server_hangs_up(sleeping, page):
    cell = sleeping(2, ws_ping_timeout=3000)
    expect(cell(0)).to_be_visible()
    page.wait_for_timeout(1000 * 2 * (SLEEPS + 1))
    expect(cell(SLEEPS - 1)).to_have_count(0)


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

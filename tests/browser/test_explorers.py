"""Every explorer, moved by keyboard in JupyterLab and in the app of Voilà; what it shows is what `helpers` computes."""

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from helpers import deconv, dream, engine, gradients, images, models, perturbation, plots, submodels
from helpers.explorers import dreamer, frame, training
from tests.browser import lab, servers
from tests.browser.widgets import (
    LABEL,
    button,
    choose,
    controls,
    menu,
    pictures,
    press,
    reached_by_tab,
    upload,
    wait_for_pixels,
)
from tests.tools import checks
from tests.tools import notebook as nb

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "07_explorers.ipynb"
EXPLORERS = ("layers", "occluder", "heatmaps", "deconvolution", "dreamer", "training")
MINUTES = 10
# Boxes with scroll bars of their own, and controls that reach beyond the page.
SCROLLING = """scope => [...scope.querySelectorAll("*"), scope].filter(part => (
    part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight
) && /auto|scroll/.test(getComputedStyle(part).overflow)).map(part => part.className)"""
CUT = """scope => [...scope.querySelectorAll("select, button, input, img")].filter(part => part.offsetWidth
    && part.getBoundingClientRect().right > window.innerWidth).map(part => part.outerHTML.slice(0, 200))"""
# Every text that a button has from now on.
WATCH = """button => { window.seen = []
    new MutationObserver(() => window.seen.push(button.textContent)).observe(button, {childList: true}) }"""
# Of the notebook, which nbval runs as a whole: what the explorers need, and they.
NEEDED = re.compile(r"environment\.require|^import io|explore\.\w+\(|digits\.load|training\.Snapshots")
# What was trained in the kernel, for the comparison.
KEEP = "np.save('filters.npy', training.filter_evolution(history, 'conv1'))"


@pytest.fixture(scope="module")
def folder(browser, tmp_path_factory):
    """Where the notebook is, with one cell more."""
    kept = {NAME: lambda _, source: NEEDED.search(source)}
    folder = servers.workspace(tmp_path_factory.mktemp("collection"), kept) / "notebooks"
    notebook = nb.read(folder / NAME)
    notebook.cells.append(nb.nbformat.v4.new_code_cell(KEEP))
    nb.write(notebook, folder / NAME)
    return folder


# What is seen does not depend on what shows it; keys, files and messages on the way do.
everywhere = pytest.mark.parametrize("front_end", ["jupyterlab", "voila"], indirect=True, scope="module")
in_voila = pytest.mark.parametrize("front_end", ["voila"], indirect=True, scope="module")
in_jupyterlab = pytest.mark.parametrize("front_end", ["jupyterlab"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def front_end(request, page, folder, tmp_path_factory):
    """The explorer notebook, executed and live on the page, and the name of what shows it."""
    settings, path = tmp_path_factory.mktemp("settings"), folder / NAME
    page.set_viewport_size({"width": 1280, "height": 1800})  # any explorer fits into it
    if request.param == "jupyterlab":
        with servers.jupyterlab(folder.parent, settings) as address:
            lab.open_notebook(page, f"{address}/notebooks/{NAME}")
            executed = lab.run_all(page, path, MINUTES)
            assert checks.has_no_errors(executed, path) == []
            assert checks.is_executed_in_order(executed, path) == []
            page.keyboard.press("Control+b")  # more room: without the list of files
            yield request.param
    else:
        with servers.app(path, settings) as address:
            page.goto(address)
            cell = page.locator(".jp-Cell").nth(_cell(path, "explore.training("))
            expect(pictures(cell).first).to_be_visible(timeout=60_000 * MINUTES)
            expect(page.locator(".voila-skeleton-container")).to_have_count(0, timeout=60_000)
            yield request.param


def _cell(path, words):
    """Number of the cell with these words in it."""
    return next(
        number for number, cell in enumerate(nb.read(path).cells) if cell.cell_type == "code" and words in cell.source
    )


@pytest.fixture
def explorer(page, front_end, folder):
    """`explorer(name)`: the part of the page that an explorer has to itself, rendered and ready for keys."""

    def find(name):
        cell = page.locator(".jp-Cell").nth(_cell(folder / NAME, f"explore.{name}("))
        cell.get_by_role("combobox").first.focus()
        if front_end == "jupyterlab":  # a cell that becomes the active one takes the focus for a moment
            expect(cell).to_have_class(re.compile("jp-mod-active"))
        scope = cell.locator(".widget-vbox").first
        expect(pictures(scope).first).to_be_visible()
        return scope

    return find


@pytest.fixture(scope="module")
def network():
    return models.load()


@pytest.fixture(scope="module")
def vgg():
    return models.load("vgg19", size=(224, 224))


def batch(name):
    return images.batch(images.sample(name))


def coloured(values, signed):
    """A map as it is on a panel: on its own scale, enlarged with its places visible."""
    end = np.abs(values).max() or 1
    colours = (plots.DIVERGING, (-end, end)) if signed else (plots.SEQUENTIAL, (0, end))
    values = images.colorize(values, *colours)
    return images.resize(values, (224, 224), "nearest") if len(values) < 224 else values


# What holds for each


@everywhere
def test_first_sight(explorer, front_end, shoot):
    for name in EXPLORERS:
        shoot(explorer(name), f"{front_end}_{name}_1_first")
        assert explorer(name).get_by_role("alert").count() == 0, name


@everywhere
def test_every_control_has_a_label_and_is_reached_by_tab(explorer, front_end):
    for name in EXPLORERS:
        found = controls(explorer(name))
        labels = {control.evaluate("control => control.outerHTML"): control.evaluate(LABEL) for control in found}
        assert all(labels.values()), labels
        assert reached_by_tab(explorer(name)) >= len(found), name


@in_voila  # JupyterLab does not fit on a phone
def test_on_a_phone(page, explorer, front_end, shoot):
    """Nothing is cut, and nothing scrolls within the page."""
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        for name in EXPLORERS:
            scope = explorer(name)
            shoot(scope, f"{front_end}_{name}_phone")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            assert scope.evaluate(SCROLLING) == [], name
            assert scope.evaluate(CUT) == [], name
    finally:
        page.set_viewport_size({"width": 1280, "height": 1800})


# One by one


@everywhere
def test_layers(explorer, front_end, shoot, network, tmp_path):
    scope = explorer("layers")
    shown = pictures(scope).nth(1)

    def expect_map(picture, layer):
        channel = int(menu(scope, "Channel number").input_value())
        maps = engine.run(submodels.activations(network, layer), picture)[layer]
        wait_for_pixels(shown, coloured(maps[0, ..., channel], maps.min() < 0))
        return channel

    layer = menu(scope, "Layer").input_value().partition(":")[0]
    first = expect_map(batch("koala"), layer)
    assert (layer, first) == ("block3b_add", 27)
    press(scope, "Channel", "ArrowRight")
    expect(menu(scope, "Channel number")).to_have_value(str(first + 1))
    expect_map(batch("koala"), layer)

    menu(scope, "Picture").select_option("panda")
    expect_map(batch("panda"), layer)
    choose(scope, "Layer", "block2b_expand_relu:")
    expect(scope.get_by_text("of block2b_expand_relu: mean")).to_be_visible()
    expect_map(batch("panda"), "block2b_expand_relu")
    lively = scope.get_by_role("button", name=re.compile(r"^channel \d+$")).nth(3)
    lively.press("Enter")
    expect(menu(scope, "Channel number")).to_have_value(lively.inner_text().removeprefix("channel "))
    expect_map(batch("panda"), "block2b_expand_relu")

    own, words, large, huge = (tmp_path / name for name in ("my dog.jpg", "notes.jpg", "large.png", "huge.jpg"))
    Image.fromarray(images.sample("german_shepherd")[7:, 11:]).save(own, quality=90)
    words.write_text("This is no picture.")
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype="uint8")
    Image.fromarray(noise).save(large, compress_level=1)  # more than servers take that are not told to
    huge.write_bytes(bytes(51_000_000))
    upload(scope, own)
    expect(menu(scope, "Picture")).to_have_value("my dog.jpg")
    expect_map(images.batch(images.load(own)), "block2b_expand_relu")
    shoot(scope, f"{front_end}_layers_2_own_picture")
    upload(scope, words)
    expect(scope.get_by_role("alert")).to_contain_text("notes.jpg was not used")
    shoot(scope, f"{front_end}_layers_3_text_file")
    scope.get_by_role("button", name="Your own picture (0)").evaluate(WATCH)
    upload(scope, huge)
    expect(scope.get_by_role("alert")).to_contain_text("huge.jpg has 51 MB", timeout=60_000)
    assert "Your own picture (1)" in scope.page.evaluate("window.seen[0]")  # at once, before it has arrived
    press(scope, "Channel", "ArrowLeft")  # it goes on
    expect(scope.get_by_role("alert")).to_have_count(0)
    expect_map(images.batch(images.load(own)), "block2b_expand_relu")
    upload(scope, large)
    expect(menu(scope, "Picture")).to_have_value("large.png", timeout=60_000)
    expect(scope.get_by_role("button", name="Your own picture (0)")).to_be_visible()
    expect_map(images.batch(noise), "block2b_expand_relu")

    button(scope, "Find its strongest patches in all pictures").press("Enter")
    expect(pictures(scope).nth(3)).to_be_visible(timeout=60_000)
    shoot(scope, f"{front_end}_layers_4_patches")


@in_jupyterlab
def test_occluder(explorer, front_end, shoot, network):
    scope = explorer("occluder")
    photo, chances, map_panel, _ = pictures(scope).all()
    panda = batch("panda")[0]
    corner = [int(menu(scope, f"px from the {side}").input_value()) for side in ("top", "left")]
    side = int(menu(scope, "Patch").input_value().split()[0])

    def covered(top, left):
        picture = panda.copy()
        picture[top : top + side, left : left + side] = 0
        box = top, left, top + side, left + side
        return frame.marked(np.rint(picture).astype("uint8"), box)

    wait_for_pixels(photo, covered(*corner), most=1)
    press(scope, "From the left", "ArrowRight", "ArrowRight")
    press(scope, "From the top", "ArrowUp")
    wait_for_pixels(photo, covered(corner[0] + 1, corner[1] + 2), most=1)
    shoot(scope, f"{front_end}_occluder_2_moved")

    button(scope, "Map everything").press("Enter")
    expected = perturbation.occlusion(network, panda, patch=side, fill=0, progress=False)
    largest = np.abs(expected).max()
    expected = images.colorize(expected, plots.DIVERGING, (-largest, largest))
    box = corner[0] + 1, corner[1] + 2, corner[0] + 1 + side, corner[1] + 2 + side
    wait_for_pixels(map_panel, frame.marked(expected, box), most=3, seconds=120)
    shoot(scope, f"{front_end}_occluder_3_map")


@in_jupyterlab
def test_heatmaps(explorer, front_end, shoot, network):
    scope = explorer("heatmaps")
    koala = batch("koala")[0]

    def expect_map(panel, values):
        values = values.sum(-1) if values.ndim == 3 else values
        end = np.percentile(np.abs(values), 99.5)
        wait_for_pixels(panel, images.colorize(values, plots.DIVERGING, (-end, end)), most=3)

    menu(scope, "Map 1").select_option("gradient × input")
    expect_map(pictures(scope).nth(1), gradients.gradient_x_input(network, koala))
    search = menu(scope, "Another class")
    search.fill("sports car")
    search.press("Enter")
    expect(scope.get_by_text("Explained: class 817, sports car.")).to_be_visible()
    search.fill("5000")
    search.press("Enter")
    expect(scope.get_by_role("alert")).to_contain_text("There is no class '5000'")
    choose(scope, "Class", "indri")
    expect(scope.get_by_role("alert")).to_have_count(0)
    expect_map(pictures(scope).nth(1), gradients.gradient_x_input(network, koala, 384))
    scope.get_by_label("Over the photograph").press("Space")
    scope.get_by_label("One scale for all").press("Space")
    menu(scope, "Map 2").select_option("SmoothGrad")
    expect(scope.get_by_text("takes many passes")).to_be_visible()
    button(scope, "Compute what is missing").press("Enter")
    expect(scope.get_by_text(re.compile(r"^SmoothGrad: \d+ passes, "))).to_be_visible(timeout=120_000)
    shoot(scope, f"{front_end}_heatmaps_2_other_class")


@in_jupyterlab
def test_deconvolution(explorer, front_end, shoot, vgg):
    scope = explorer("deconvolution")
    koala = batch("koala")[0]
    layer = menu(scope, "Layer").input_value().partition(":")[0]

    def expect_projection():
        channel, row, column = (
            int(menu(scope, f"{name} number").input_value()) for name in ("Channel", "Row", "Column")
        )
        projected = deconv.project(vgg, koala, layer, channel, (row, column))
        wait_for_pixels(pictures(scope).nth(2), images.signed(projected), most=1)
        return row, column

    row, column = expect_projection()
    press(scope, "Column", "ArrowRight")
    expect(menu(scope, "Column number")).to_have_value(str(column + 1))
    press(scope, "Row", "ArrowLeft")
    expect(menu(scope, "Row number")).to_have_value(str(row - 1))
    expect_projection()
    shoot(scope, f"{front_end}_deconvolution_2_moved")
    button(scope, "Strongest place of the channel").press("Enter")
    expect(menu(scope, "Row number")).to_have_value(str(row))
    assert expect_projection() == (row, column)


@everywhere
def test_dreamer(explorer, front_end, shoot):
    scope = explorer("dreamer")
    before, after, both = pictures(scope).all()
    press(scope, "Octaves (sizes)", "Home")
    press(scope, "Steps in each", "Home", "ArrowRight")
    expect(scope.get_by_text("block5_conv2: 2 steps.")).to_be_visible()  # a click can overtake a slider
    button(scope, "Dream").press("Enter")
    expect(scope.get_by_text(re.compile("^After: more of block5_conv2"))).to_be_visible(timeout=120_000)
    picture = images.batch(images.sample("koala"), size=dreamer.SIZE)[0]
    vgg = models.load("vgg19", size="any")
    expected = dream.deep_dream(vgg, picture, "block5_conv2", octaves=1, steps=2, step=1, progress=False)
    wait_for_pixels(after, np.rint(expected.picture).astype("uint8"), most=2)
    press(scope, "Wipe", "End")
    wait_for_pixels(both, np.rint(picture).astype("uint8"))

    press(scope, "Steps in each", "End")
    expect(scope.get_by_text("block5_conv2: 40 steps.")).to_be_visible()
    button(scope, "Dream").press("Enter")
    expect(scope.get_by_text(re.compile("^Dreaming: octave 1"))).to_be_visible(timeout=60_000)
    shoot(scope, f"{front_end}_dreamer_2_dreaming")
    button(scope, "Stop").press("Enter")
    expect(scope.get_by_text(re.compile(r"^After \d+ of 40 steps"))).to_be_visible(timeout=30_000)
    expect(button(scope, "Dream")).to_be_enabled()
    shoot(scope, f"{front_end}_dreamer_3_stopped")


@in_jupyterlab
def test_training(explorer, front_end, shoot, folder):
    scope = explorer("training")
    film = training.film_of_filters(np.load(folder / "filters.npy"), "conv1")
    last = len(film.values) - 1
    wait_for_pixels(pictures(scope).nth(1), film.frame(last))
    press(scope, "Training", "Home")
    wait_for_pixels(pictures(scope).nth(1), film.frame(0))
    shoot(scope, f"{front_end}_training_2_start")
    press(scope, "Training", "ArrowRight", "ArrowRight")
    wait_for_pixels(pictures(scope).nth(1), film.frame(2))
    scope.get_by_label("Each channel on its own scale").press("Space")
    wait_for_pixels(pictures(scope).nth(1), film.frame(2, own=True))
    shoot(scope, f"{front_end}_training_3_own_scale")

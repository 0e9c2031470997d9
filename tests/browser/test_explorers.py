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
# What is seen does not depend on what shows it; keys, files and messages on the way do.
SHOWN = {
    "jupyterlab": ("layers", "occluder", "heatmaps", "deconvolution", "dreamer", "training"),
    "voila": ("layers", "dreamer"),
}
MINUTES = 10
# Of the notebook, which nbval runs as a whole: what any explorer needs, and what that of the training needs.
NEEDED = re.compile(r"environment\.require|^import io")
OF_TRAINING = re.compile(r"digits\.load|training\.Snapshots")
# What was trained in the kernel, for the comparison.
KEEP = "np.save('filters.npy', training.filter_evolution(history, 'conv1'))"

everywhere = pytest.mark.parametrize("front_end", SHOWN, indirect=True, scope="module")
in_jupyterlab = pytest.mark.parametrize("front_end", ["jupyterlab"], indirect=True, scope="module")


def _is_kept(source, names):
    shown = any(f"explore.{name}(" in source for name in names)
    return shown or NEEDED.search(source) or ("training" in names and OF_TRAINING.search(source))


@pytest.fixture(scope="module")
def folders(browser, tmp_path_factory):
    """Where the notebook is for each front end, cut to what that shows; with one cell more where it trains."""
    found = {}
    for front_end, names in SHOWN.items():
        kept = {NAME: lambda _, source, names=names: _is_kept(source, names)}
        found[front_end] = servers.workspace(tmp_path_factory.mktemp("collection"), kept) / "notebooks"
    notebook = nb.read(found["jupyterlab"] / NAME)
    notebook.cells.append(nb.nbformat.v4.new_code_cell(KEEP))
    nb.write(notebook, found["jupyterlab"] / NAME)
    return found


@pytest.fixture(scope="module")
def front_end(request, page, folders, tmp_path_factory):
    """The explorer notebook, executed and live on the page, and the name of what shows it."""
    settings, path = tmp_path_factory.mktemp("settings"), folders[request.param] / NAME
    page.set_viewport_size({"width": 1280, "height": 1800})  # any explorer fits into it
    if request.param == "jupyterlab":
        with servers.jupyterlab(path.parent.parent, settings) as address:
            lab.open_notebook(page, f"{address}/notebooks/{NAME}")
            executed = lab.run_all(page, path, MINUTES)
            assert checks.has_no_errors(executed, path) == []
            assert checks.is_executed_in_order(executed, path) == []
            page.keyboard.press("Control+b")  # more room: without the list of files
            yield request.param
    else:
        with servers.app(path, settings) as address:
            page.goto(address)
            cell = page.locator(".jp-Cell").nth(_cell(path, f"explore.{SHOWN['voila'][-1]}("))
            expect(pictures(cell).first).to_be_visible(timeout=60_000 * MINUTES)
            expect(page.locator(".voila-skeleton-container")).to_have_count(0, timeout=60_000)
            yield request.param


def _cell(path, words):
    """Number of the cell with these words in it."""
    return next(
        number for number, cell in enumerate(nb.read(path).cells) if cell.cell_type == "code" and words in cell.source
    )


@pytest.fixture
def explorer(page, front_end, folders):
    """`explorer(name)`: the part of the page that an explorer has to itself, rendered and ready for keys."""

    def find(name):
        cell = page.locator(".jp-Cell").nth(_cell(folders[front_end] / NAME, f"explore.{name}("))
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


def coloured(values):
    """A map as it is on a panel: on its own scale from zero, enlarged with its places visible."""
    values = images.colorize(values, plots.SEQUENTIAL, (0, values.max() or 1))
    return images.resize(values, (224, 224), "nearest") if len(values) < 224 else values


# What holds for each


@everywhere
def test_first_sight(explorer, front_end, shoot):
    for name in SHOWN[front_end]:
        shoot(explorer(name), f"{front_end}_{name}_1_first")
        assert explorer(name).get_by_role("alert").count() == 0, name


@everywhere
def test_every_control_has_a_label_and_is_reached_by_tab(explorer, front_end):
    for name in SHOWN[front_end]:
        found = controls(explorer(name))
        labels = {control.evaluate("control => control.outerHTML"): control.evaluate(LABEL) for control in found}
        assert all(labels.values()), labels
        assert reached_by_tab(explorer(name)) >= len(found), name


# One by one


@everywhere
def test_layers(explorer, front_end, shoot, network, tmp_path):
    scope = explorer("layers")
    shown = pictures(scope).nth(1)

    def expect_map(picture, layer):
        channel = int(menu(scope, "Channel number").input_value())
        maps = engine.run(submodels.activations(network, layer), picture)[layer]
        wait_for_pixels(shown, coloured(maps[0, ..., channel]))
        return channel

    layer = menu(scope, "Layer").input_value().partition(":")[0]
    first = expect_map(batch("koala"), layer)
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
    upload(scope, huge)
    expect(scope.get_by_role("alert")).to_contain_text("huge.jpg has 51 MB", timeout=60_000)
    press(scope, "Channel", "ArrowLeft")  # it goes on
    expect(scope.get_by_role("alert")).to_have_count(0)
    expect_map(images.batch(images.load(own)), "block2b_expand_relu")
    upload(scope, large)
    expect(menu(scope, "Picture")).to_have_value("large.png", timeout=60_000)
    expect_map(images.batch(noise), "block2b_expand_relu")

    button(scope, "Find its strongest patches in all pictures").press("Enter")
    expect(pictures(scope).nth(3)).to_be_visible(timeout=60_000)
    shoot(scope, f"{front_end}_layers_4_patches")


@in_jupyterlab
def test_occluder(explorer, front_end, shoot, network):
    scope = explorer("occluder")
    photo, chances, map_panel, _ = pictures(scope).all()
    koala = batch("koala")[0]
    corner = [int(menu(scope, f"Pixels from the {side} number").input_value()) for side in ("top", "left")]
    side = int(menu(scope, "Patch").input_value().split()[0])

    def covered(top, left):
        picture = koala.copy()
        picture[top : top + side, left : left + side] = koala.mean((0, 1))
        box = top, left, top + side, left + side
        return frame.marked(np.rint(picture).astype("uint8"), box)

    wait_for_pixels(photo, covered(*corner), most=1)
    press(scope, "Pixels from the left", "ArrowRight", "ArrowRight")
    press(scope, "Pixels from the top", "ArrowUp")
    wait_for_pixels(photo, covered(corner[0] + 1, corner[1] + 2), most=1)
    shoot(scope, f"{front_end}_occluder_2_moved")

    button(scope, "Map everything").press("Enter")
    expected = perturbation.occlusion(network, koala, patch=side, progress=False)
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
    choose(scope, "Class", "indri")
    expect(menu(scope, "Any class by its number")).to_have_value("384")
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
def test_training(explorer, front_end, shoot, folders):
    scope = explorer("training")
    film = training.film_of_filters(np.load(folders[front_end] / "filters.npy"), "conv1")
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

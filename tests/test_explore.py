"""The explorers without a browser: controls are moved from Python, pictures are read back from what the page gets."""

import base64
import io

import ipywidgets as widgets
import keras
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from helpers import deconv, engine, explore, images, models, submodels, units
from helpers.explorers import deconvolution, frame
from helpers.explorers import gallery as galleries
from helpers.explorers import layers as channels
from helpers.explorers import mosaic as mosaics
from helpers.explorers.frame import parts
from tests import zoo

KEYBOARD = (
    *(widgets.Dropdown, widgets.IntSlider, widgets.FloatSlider, widgets.BoundedIntText, widgets.Button),
    *(widgets.Checkbox, widgets.ToggleButton, widgets.ToggleButtons, widgets.SelectionSlider, widgets.FileUpload),
    *(widgets.SelectMultiple, widgets.BoundedFloatText, widgets.RadioButtons, widgets.Select, widgets.Play),
    widgets.Combobox,
)
SILENT = (widgets.Box, widgets.HTML, widgets.Image, widgets.IntProgress, widgets.Label)


def decoded(panel):
    """What the page shows in a panel, as an array."""
    return np.array(Image.open(io.BytesIO(panel.image.value)))


def upload(chooser, name, content):
    """What the page sends when a reader picks a file: the same in words, another message in ipywidgets 7 and in 8."""
    if isinstance(chooser.upload.value, dict):
        file = {"name": name, "type": "", "size": len(content), "lastModified": 0}
        chooser.upload.set_state({"metadata": [file], "data": [memoryview(content)], "_counter": 1})
    else:
        file = {"name": name, "type": "", "size": len(content), "last_modified": 0, "content": memoryview(content)}
        chooser.upload.set_state({"value": [file]})


def encoded(pixels, format, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def noise(seed=0, shape=(16, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def count_passes(monkeypatch):
    """A list that grows by the number of pictures with each run of a network."""
    passes, run = [], engine.run

    def counted(function, *inputs, **options):
        passes.append(len(inputs[0]))
        return run(function, *inputs, **options)

    monkeypatch.setattr(engine, "run", counted)
    return passes


class Toy(frame.Explorer):
    """The smallest explorer: one map of a picture."""

    def __init__(self, model, pictures, cache=None):
        self.gallery = galleries.Gallery(model, pictures)
        self.maps = galleries.Activations(model, self.gallery, cache or galleries.Cache())
        self.chooser = frame.Chooser(self.gallery)
        self.layer = widgets.Dropdown(options=list(self.maps.shapes), description="Layer")
        self.channel = frame.Number("Channel")
        self.strongest = widgets.Button(description="Strongest channel")
        self.panel, self.refreshed = frame.Panel("the map"), 0
        super().__init__("toy", [self.chooser, self.layer, self.channel, self.strongest], [[self.panel]])
        self.listen_to_uploads(self.chooser)
        self.listen(self.layer, prepare=self.change_layer)
        self.listen(self.channel)
        self.listen(self.strongest, prepare=self.choose_strongest)
        self.change_layer()
        self.start()

    def change_layer(self, change=None):
        self.channel.set(self.maps.shapes[self.layer.value][2] - 1, 1)

    def choose_strongest(self, change):
        self.channel.value = int(self.maps[self.chooser.value, self.layer.value].mean((0, 1)).argmax())

    def refresh(self):
        self.refreshed += 1
        maps = self.maps[self.chooser.value, self.layer.value]
        self.panel.show(frame.painted(maps[..., self.channel.value], True))

    def summary(self):
        return f"{self.chooser.value}, {self.layer.value}"


@pytest.fixture
def toy():
    return Toy(zoo.functional(), {"one": noise(1), "two": noise(2)})


# What is computed with


def test_cache_stays_below_its_limit_and_drops_what_was_not_used_for_longest():
    cache, made = galleries.Cache(limit=1000), []

    def build(name):
        made.append(name)
        return {"maps": np.zeros(100, np.float32)}  # 400 bytes

    for name in ("a", "b", "a", "c"):
        cache.get(name, lambda name=name: build(name))
        assert cache.used <= 1000
    assert made == ["a", "b", "c"] and cache.used == 800
    assert "a" in cache and "b" not in cache and "c" in cache
    assert cache.peek("b") is None and cache.peek("c") is cache.get("c", None)
    cache.put("c", np.zeros(10, np.float32))
    assert cache.used == 440
    assert cache.get("large", lambda: np.ones(251, np.float32)).sum() == 251
    assert "large" not in cache and cache.used == 440


def test_gallery_prepares_pictures_as_the_network_takes_them():
    gallery = galleries.Gallery(models.load("efficientnet_lite0"))
    assert len(gallery.names) == len(images.samples()) and "german shepherd" in gallery.names
    expected = images.batch(images.sample("german_shepherd"))[0]
    np.testing.assert_array_equal(gallery["german shepherd"], expected)
    np.testing.assert_array_equal(gallery.shown("german shepherd"), expected.astype(np.uint8))


def test_gallery_of_a_digit_network_holds_digits_and_turns_ink_on_paper_around():
    model = models.load("mnist_cnn")
    gallery = galleries.Gallery(model)
    answers = engine.run(model, np.stack([gallery[name] for name in gallery.names])).argmax(1)
    assert [f"digit {answer}" for answer in answers] == gallery.names
    paper = 255 - gallery["digit 3"].astype(np.uint8)
    name, note = gallery.add("mine.png", encoded(paper[..., 0], "PNG"))
    assert (name, note) == ("mine.png", "")
    np.testing.assert_array_equal(gallery[name], gallery["digit 3"])


def test_gallery_takes_names_files_and_arrays(tmp_path):
    Image.fromarray(noise(3)).save(tmp_path / "my_dog.png")
    gallery = galleries.Gallery(zoo.functional(), ["koala", str(tmp_path / "my_dog.png"), noise(4) / np.float32(255)])
    assert gallery.names == ["koala", "my dog", "picture 3"]
    np.testing.assert_array_equal(gallery["koala"], images.batch(images.sample("koala"), size=16)[0])
    np.testing.assert_array_equal(gallery["my dog"], noise(3))
    assert (
        gallery["picture 3"].max() <= 1 and gallery.shown("picture 3").max() == 255
    )  # as it is; shown so that one sees it


def test_gallery_refuses_networks_that_take_no_picture():
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="does not take one picture"):
        galleries.Gallery(model)
    model = keras.Sequential([keras.Input((8, 8, 5)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match="5 channels: give `pictures`"):
        galleries.Gallery(model)
    assert galleries.Gallery(model, [np.zeros((8, 8, 5))]).shown("picture 1").shape == (8, 8, 3)
    with pytest.raises(ValueError, match="empty"):
        galleries.Gallery(model, [])


def test_gallery_takes_a_folder_and_a_single_picture(tmp_path):
    for name in ("b.jpg", "a.png", "notes.txt"):
        Image.fromarray(noise(3)).save(tmp_path / name, "PNG")
    for folder in (tmp_path, str(tmp_path)):
        assert galleries.Gallery(zoo.functional(), folder).names == ["a", "b"]
    for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), noise(3), noise(3)[..., 0], Image.fromarray(noise(3))):
        gallery = galleries.Gallery(zoo.functional(), picture)
        assert gallery.names == ["a" if isinstance(picture, type(tmp_path) | str) else "picture 1"]
    assert galleries.Gallery(zoo.functional(), "panda").names == ["panda"]
    assert galleries.Gallery(zoo.functional(), np.stack([noise(1), noise(2)])).names == ["picture 1", "picture 2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds 0 picture files"):
        galleries.Gallery(zoo.functional(), tmp_path / "empty")


def test_two_files_of_one_name_are_both_there(tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        Image.fromarray(noise(number)).save(tmp_path / str(number) / "dog.png")
    gallery = galleries.Gallery(zoo.functional(), [tmp_path / "1" / "dog.png", tmp_path / "2" / "dog.png"])
    assert gallery.names == ["dog", "dog (2)"] and (gallery["dog (2)"] == noise(2)).all()


def test_what_is_no_graph_is_refused_by_every_explorer():
    class Own(keras.Model):
        def call(self, x):
            return x

    unbuilt = keras.Sequential([keras.layers.Conv2D(2, 3)])
    for make in (explore.layers, explore.deconvolution, explore.dreamer, explore.occluder, explore.heatmaps):
        with pytest.raises(ValueError, match="is Python code"):
            make(Own())
        with pytest.raises(ValueError, match="does not know its input shape"):
            make(unbuilt)


@pytest.mark.parametrize("limit", [10**8, 20_000], ids=["one pass for all layers", "one pass for each layer"])
def test_activations_are_those_of_the_network_and_computed_once(limit, count_passes):
    model, picture = zoo.functional(), noise(1)
    maps = galleries.Activations(model, galleries.Gallery(model, {"one": picture}), galleries.Cache(limit))
    assert maps.shapes["norm2"] == (6, 6, 8)
    for layer in ("norm2", "relu2", "norm2"):
        expected = submodels.activations(model, layer)(picture[None].astype("float32"), training=False)[layer][0]
        np.testing.assert_allclose(maps["one", layer], expected, rtol=1e-4, atol=1e-4)
    assert len(count_passes) == (1 if limit == 10**8 else 2)
    assert maps.cache.used <= limit


# What is shown


def test_maps_are_painted_as_plots_does_but_begin_at_zero():
    values = np.float32([[1, 2], [3, 4]])
    np.testing.assert_array_equal(frame.painted(values, False), images.colorize(values, "inferno", (0, 4)))
    np.testing.assert_array_equal(frame.painted(-values, True), images.colorize(-values, "RdBu_r", "symmetric"))
    assert (frame.painted(values * 0, False) == images.colorize([0], "inferno", (0, 1))).all()


def test_small_pictures_are_enlarged_pixel_by_pixel_and_the_page_gets_exactly_that():
    panel = frame.Panel("a map", width=8)
    assert not panel.is_shown
    panel.show(noise(shape=(2, 4, 3)))
    np.testing.assert_array_equal(decoded(panel), noise(shape=(2, 4, 3)).repeat(2, 0).repeat(2, 1))
    panel.show(noise(shape=(9, 9, 3)), "a <map>")
    np.testing.assert_array_equal(decoded(panel), noise(shape=(9, 9, 3)))
    assert "a &lt;map&gt;" in panel.heading.value and panel.is_shown


def test_pages_with_more_room_get_larger_pictures(monkeypatch):
    monkeypatch.setattr(frame, "WIDTH", 400)
    panel = frame.Panel()
    panel.show(noise(shape=(7, 7, 3)))
    assert panel.image.layout.width == "400px" and decoded(panel).shape == (400, 400, 3)
    explorer = explore.layers(zoo.functional(), pictures=[noise(1)])
    explorer.find.click()
    for shown in (explorer.photo, explorer.map, explorer.overlay, explorer.patches):
        assert shown.width == 400 and 396 <= decoded(shown).shape[1] <= 400
    photograph = images.sample("koala", 224)  # its pixels cannot be shown evenly
    np.testing.assert_array_equal(frame.enlarged(photograph), images.resize(photograph, (400, 400)))


def test_marker_surrounds_its_cell_and_leaves_it_untouched():
    grey = np.full((64, 64, 3), 100, np.uint8)
    drawn = frame.marked(grey, (2, 1, 3, 2), (4, 4))  # the cell of rows 32..47, columns 16..31
    assert (grey == 100).all()
    assert (drawn[33:47, 17:31] == 100).all() and (drawn[31, 20] == frame.MARK).all()
    changed = np.argwhere((drawn != 100).any(-1))
    np.testing.assert_array_equal([changed.min(0), changed.max(0)], [[29, 13], [50, 34]])
    for box in ((-50, -50, 90, 90), (0, 0, 1, 1), (63, 63, 64, 64)):  # beyond and at the border: still to be seen
        assert (frame.marked(grey, box) == frame.MARK).all(-1).sum() > 20


def test_a_number_has_one_value_in_both_controls():
    number = frame.Number("Channel", high=9, value=3)
    number.field.value = 7
    assert number.slider.value == number.value == 7
    number.set(4, 2)
    assert (number.value, number.field.value, number.slider.max, number.field.max) == (2, 2, 4, 4)
    number.set(20, 15)
    assert (number.value, number.field.value) == (15, 15)
    number.set(0, 0)
    assert number.slider.disabled and number.field.max == 0 and number.slider.max > number.slider.min


def test_each_change_is_followed_once(toy, count_passes):
    for change, value in ((toy.layer, "norm2"), (toy.channel.slider, 2), (toy.channel.field, 3), (toy.layer, "conv1")):
        before = toy.refreshed
        change.value = value
        assert toy.refreshed == before + 1
        expected = frame.painted(toy.maps["one", toy.layer.value][..., toy.channel.value], True)
        np.testing.assert_array_equal(decoded(toy.panel), frame.enlarged(expected))
    assert toy.channel.value == 1 and count_passes == []  # the first pass gave all layers
    toy.chooser.menu.value = "two"
    assert count_passes == [1]
    before = toy.refreshed
    toy.channel.value = 5
    toy.strongest.click()
    assert toy.refreshed == before + 2
    assert toy.channel.value == toy.maps["two", "conv1"].mean((0, 1)).argmax()


def test_errors_are_told_and_the_next_success_clears_them(toy, monkeypatch):
    def broken(values, signed):
        raise ZeroDivisionError("by <zero>")

    with monkeypatch.context() as patch:
        patch.setattr(frame, "painted", broken)
        toy.channel.value = 2
    assert "ZeroDivisionError: by &lt;zero&gt;" in toy.problem.value and 'role="alert"' in toy.problem.value
    assert frame.told(TypeError("one thing\nand its stack")).endswith("TypeError: one thing")
    toy.channel.value = 3
    assert toy.problem.value == ""
    expected = frame.painted(toy.maps["one", "conv1"][..., 3], True)
    np.testing.assert_array_equal(decoded(toy.panel), frame.enlarged(expected))


def test_the_first_state_raises_like_any_function():
    with pytest.raises(ValueError, match="NaN"):
        Toy(zoo.functional(), {"one": np.full((16, 16, 3), np.nan)})


# Pictures that readers bring along

WRONG = {
    "text": (b"Dear network, look at this.", "not a picture"),
    "empty": (b"", "empty"),
    "cut off": (encoded(noise(shape=(64, 64, 3)), "JPEG")[:2000], "damaged or cut off"),
    "50 MB": (bytes(50_000_000), "50 MB"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_upload_is_told_and_changes_nothing(toy, case):
    content, words = WRONG[case]
    toy.chooser.menu.value = "two"
    before = toy.panel.image.value, toy.chooser.menu.options, toy.gallery.names
    upload(toy.chooser, "bad.jpg", content)
    assert words in toy.problem.value and "bad.jpg" in toy.problem.value
    assert (toy.panel.image.value, toy.chooser.menu.options, toy.gallery.names) == before
    assert toy.chooser.value == "two" and not toy.chooser.upload.value
    upload(toy.chooser, "bad.jpg", content)  # once more: told once more
    assert words in toy.problem.value
    upload(toy.chooser, "good.png", encoded(noise(5), "PNG"))
    assert toy.problem.value == "" and toy.chooser.value == "good.png"


def test_an_upload_is_shown(toy):
    upload(toy.chooser, "<dog>.png", encoded(noise(5), "PNG"))
    assert toy.chooser.value == "<dog>.png" and toy.chooser.menu.options[-1] == "<dog>.png"
    np.testing.assert_array_equal(toy.gallery["<dog>.png"], noise(5))
    expected = submodels.activations(toy.maps.model, "conv1")(noise(5)[None].astype("float32"))["conv1"][
        0, ..., 1
    ].numpy()
    np.testing.assert_array_equal(decoded(toy.panel), frame.enlarged(frame.painted(expected, True)))
    upload(toy.chooser, "<dog>.png", encoded(noise(6), "PNG"))
    assert toy.chooser.value == "<dog>.png (2)" and (toy.gallery["<dog>.png (2)"] == noise(6)).all()


def test_reading_is_told_and_so_is_what_is_cut_off(toy, monkeypatch):
    said = []
    toy.status.observe(lambda change: said.append(change.new), "value")
    upload(toy.chooser, "square.png", encoded(noise(5), "PNG"))
    assert "Reading the picture …" in said[0] and toy.status.value == ""
    upload(toy.chooser, "wide.png", encoded(noise(5, (16, 20, 3)), "PNG"))
    assert "The middle square is used" in toy.status.value
    np.testing.assert_array_equal(toy.gallery["wide.png"], noise(5, (16, 20, 3))[:, 2:18])
    lying = Image.Exif()
    lying[galleries.ORIENTATION] = 6  # turned by a quarter
    file = io.BytesIO()
    Image.fromarray(noise(5, (30, 20, 3))).save(file, "JPEG", exif=lying)
    for rows, columns, told in ((16, 24, ""), (24, 16, "The middle part is used")):
        toy.gallery.shape = rows, columns, 3
        assert toy.gallery._note(file.getvalue()).startswith(told) and bool(toy.gallery._note(file.getvalue())) == bool(
            told
        )


def test_animated_and_printing_pictures_are_used_and_it_is_said_how(toy):
    frames = [Image.fromarray(np.full((16, 16), level, np.uint8)) for level in (40, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    upload(toy.chooser, "moving.gif", file.getvalue())
    assert "first frame" in toy.status.value and (toy.gallery["moving.gif"] == 40).all()
    file = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(file, "JPEG")  # no cyan, all magenta and yellow: red
    upload(toy.chooser, "print.jpg", file.getvalue())
    assert "CMYK" in toy.status.value
    assert (toy.gallery["print.jpg"][8, 8] > (240, -1, -1)).all() and (toy.gallery["print.jpg"][8, 8, 1:] < 15).all()
    toy.channel.value = 0
    assert toy.status.value == ""


# What holds for every explorer


def check_the_rules(explorer):
    """Core controls with a label, reachable by keyboard; a line of text and a picture where no kernel runs."""
    assert isinstance(explorer, widgets.Widget)
    for part in parts(explorer):
        assert isinstance(part, KEYBOARD + SILENT), part
        if isinstance(part, KEYBOARD):
            assert part.description, part
    data, _ = InteractiveShell.instance().display_formatter.format(explorer)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == f"explore.{explorer.name}: run this cell to use it"
    (mime,) = data.keys() & {"image/png", "image/jpeg"}
    content = base64.b64decode(data[mime])
    assert len(content) <= 150_000
    picture = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    assert picture.shape[1] >= 224 and len(np.unique(picture.reshape(-1, 3), axis=0)) >= 16


def test_the_rules(toy):
    check_the_rules(toy)


# explore.layers


@pytest.fixture(scope="module")
def network():
    return models.load("efficientnet_lite0")


@pytest.fixture
def layers(network):
    return explore.layers(network, layer="block2b_add", pictures=["koala", "panda", "coffee"])


def channel_map(network, picture, layer, channel):
    """The slow obvious way to one map."""
    pixels = images.batch(images.sample(picture))
    return engine.run(submodels.activations(network, layer), pixels)[layer][0, ..., channel]


def test_layers_shows_what_the_network_computes(layers, network):
    for layer, channel in (("block2b_add", 5), ("block5a_expand_relu", 7)):
        layers.layer.value = layer
        layers.channel.value = channel
        values = channel_map(network, "koala", layer, channel)
        signed = layer.endswith("add")  # not rectified: zero is the middle colour, whatever this channel's values are
        colours = ("RdBu_r", "symmetric") if signed else ("inferno", (0, values.max()))
        np.testing.assert_array_equal(
            decoded(layers.map), frame.enlarged(images.colorize(values, *colours)), err_msg=layer
        )
        photo = images.sample("koala", 224)
        np.testing.assert_array_equal(decoded(layers.overlay), images.overlay(photo, values, 0.8, *colours, fade=True))
        field = units.receptive_field(network, layer, np.unravel_index(values.argmax(), values.shape))
        np.testing.assert_array_equal(decoded(layers.photo), frame.marked(photo, field.clipped))
        assert f"{field.size[0]} × {field.size[1]} pixels" in layers.statistics.value
        assert f"mean {values.mean():.3g}, largest {values.max():.3g}" in layers.statistics.value
        assert f"{(values == 0).mean():.0%} zeros" in layers.statistics.value
    assert layers.problem.value == ""


def test_colours_of_a_layer_do_not_change_with_the_channel():
    picture = keras.Input((16, 16, 3))
    model = keras.Model(picture, keras.layers.Conv2D(2, 1, name="both")(picture))
    model.layers[1].set_weights([np.float32([[[[1, -1]] * 3]]).reshape(1, 1, 3, 2), np.zeros(2)])
    explorer = explore.layers(model, pictures=[noise(1)])
    for channel, sign in ((0, 1), (1, -1)):  # zero is the middle colour for both, also where nothing is below it
        explorer.channel.value = channel
        values = sign * noise(1).sum(-1).astype(np.float32)
        expected = images.colorize(values, "RdBu_r", "symmetric").astype(int)
        assert np.abs(explorer.map.pixels - expected).max() <= 3  # the convolution rounds


def test_order_of_channels():
    maps = np.float32([[[0, 5, 1, 1], [4, 5, 1, 3]]])  # contrast 2, 0, 0, 1
    order = channels.by_contrast(maps)
    assert order.tolist() == [0, 3, 1, 2]


def test_layers_runs_the_network_once_for_each_picture(network, count_passes):
    explorer = explore.layers(network, layer="block2b_add", pictures=["koala", "panda"])
    assert count_passes == [1]
    for control, value in (
        *((explorer.channel.slider, 3), (explorer.layer, "head_relu"), (explorer.channel.field, 1000)),
        *((explorer.shared, True), (explorer.layer, "block3b_add"), (explorer.channel.field, 9)),
    ):
        control.value = value
    explorer.buttons[2].click()
    assert count_passes == [1]
    explorer.chooser.menu.value = "panda"
    explorer.chooser.menu.value = "koala"
    assert count_passes == [1, 1]
    assert explorer.problem.value == ""


def test_buttons_lead_to_the_channels_that_vary_most(layers, network):
    layers.layer.value = "block3a_expand_relu"
    contrast = channel_map(network, "koala", "block3a_expand_relu", slice(None)).std((0, 1))
    order = np.argsort(-contrast)
    assert layers.channel.value == order[0]
    assert [button.description for button in layers.buttons] == [f"channel {number}" for number in order[:8]]
    layers.buttons[4].click()
    assert layers.channel.value == layers.channel.field.value == order[4]
    np.testing.assert_array_equal(
        layers.map.pixels, frame.painted(channel_map(network, "koala", "block3a_expand_relu", order[4]), False)
    )
    assert "rank 5 of" in layers.statistics.value
    layers.layer.value = "preprocess"  # of three channels
    assert [button.layout.display for button in layers.buttons] == [""] * 3 + ["none"] * 5


def test_a_channel_stays_when_the_picture_changes(layers):
    layers.channel.value = 6
    layers.chooser.menu.value = "panda"
    assert layers.channel.value == 6


@pytest.mark.parametrize("layer", ["block1a_project", "block3a_expand_relu", "head_relu"])
def test_patches_are_those_of_the_helper_and_one_search_serves_the_layer(layers, network, layer, count_passes):
    layers.layer.value = layer
    assert not layers.patches.is_shown
    layers.find.click()
    assert layers.patches.is_shown and count_passes.count(3) == 1
    pictures = images.batch(*[images.sample(name) for name in layers.gallery.names])
    for channel in (0, 9):
        layers.channel.value = channel
        expected = units.top_patches(network, layer, channel, pictures)
        found = layers.strongest.patches(layer, layers.shape, channel)
        assert [name for name, _, _ in found] == [layers.gallery.names[image] for image in expected.images]
        np.testing.assert_allclose([score for _, score, _ in found], expected.scores, rtol=1e-4)
        np.testing.assert_array_equal([patch for _, _, patch in found], expected.patches)
        np.testing.assert_array_equal(
            decoded(layers.patches), frame.enlarged(channels.patch_sheet([patch for *_, patch in found]))
        )
    assert count_passes.count(3) == 1
    upload(layers.chooser, "mine.png", encoded(noise(3, (224, 224, 3)), "PNG"))
    assert count_passes[-1] == 1 and "mine.png" in layers.patches.caption  # noise beats three photographs or joins them
    layers.layer.value = "block2b_add"
    assert not layers.patches.is_shown


def test_it_is_told_where_the_strongest_patches_cannot_be_ranked(layers):
    layers.layer.value = "block5a_expand_relu"  # ends in a ReLU6
    layers.find.click()
    assert "All reach 6" in layers.patches.caption
    layers.layer.value = "block2b_add"
    layers.find.click()
    assert "All reach" not in layers.patches.caption


@pytest.mark.parametrize("shared", [False, True])
def test_mosaic_holds_every_channel_at_its_number(layers, network, shared):
    layers.layer.value = "block3a_expand_relu"
    layers.shared.value = shared
    maps = channel_map(network, "koala", "block3a_expand_relu", slice(None))
    mosaic = mosaics.Mosaic.of(maps.shape)
    page = np.array(Image.open(io.BytesIO(layers.mosaic.image.value)).convert("RGB"))
    tiles = images.resize(maps, (mosaic.height, mosaic.width))
    for channel in range(maps.shape[2]):
        top, left, bottom, right = mosaic.box(channel)
        row, column = divmod(channel, 20)
        assert (top, left) == (mosaics.TOP + row * (mosaic.height + 2), mosaics.LEFT + column * (mosaic.width + 2))
        if channel == layers.channel.value:
            assert (page[top - 2, left:right] == frame.MARK).all()
            continue
        largest = tiles.max() if shared else max(tiles[..., channel].max(), 1e-30)
        expected = images.colorize(tiles[..., channel], "inferno", (0, largest)).astype(int)
        inside = np.s_[3:-3, 3:-3]  # the frame of a neighbour reaches a pixel into a tile
        difference = page[top:bottom, left:right].astype(int)[inside] - expected[inside]
        assert np.abs(difference).max() <= 8, channel  # 248 colours in place of 256
    assert page.shape[1] == mosaics.WIDTH


def test_mosaic_fits_layers_of_every_width():
    for count in (1, 10, 40, 41, 240, 241, 1280):
        mosaic = mosaics.Mosaic.of((7, 7, count))
        drawn = mosaics.draw(np.random.default_rng(0).random((7, 7, count), np.float32), signed=False)
        top, left, bottom, right = mosaic.box(count - 1)
        assert right <= drawn.shape[1] and bottom <= drawn.shape[0] < 1000
        assert mosaic.columns % 10 == 0
        framed = mosaics.framed(drawn, (7, 7, count), count - 1)
        assert (framed == mosaics.FRAME).sum() > mosaic.height


@pytest.mark.parametrize("name", ["mnist_cnn", "vgg19"])
def test_layers_of_other_networks(name):
    explorer = explore.layers(models.load(name), pictures=None if name == "mnist_cnn" else ["koala"])
    for layer in submodels.layer_names(models.load(name), "spatial")[::4]:
        explorer.layer.value = layer
        assert explorer.problem.value == "" and explorer.map.pixels.shape[:2] == explorer.shape[:2]
    check_the_rules(explorer)


def test_layers_of_nested_and_small_networks():
    model = zoo.two_levels()
    explorer = explore.layers(model, pictures=[noise(1)])
    assert [name for _, name in explorer.layer.options] == submodels.layer_names(model, "spatial")
    for _, layer in explorer.layer.options:
        explorer.layer.value = layer
        assert explorer.problem.value == ""
    with pytest.raises(ValueError, match="There is no layer with a map 'conv9'. Nearest: 'conv"):
        explore.layers(zoo.functional(), layer="conv9", pictures=["koala"])


def test_layers_begins_with_a_channel_that_can_be_put_into_words(network):
    explorer = explore.layers(network, pictures=["koala"])
    assert (explorer.layer.value, explorer.channel.value) == ("block3b_add", 27)
    explorer.layer.value = "block5c_add"
    assert explorer.channel.value == explorer.about_layer()[0][0]


def test_the_rules_for_layers(layers):
    check_the_rules(layers)


# explore.deconvolution


@pytest.fixture(scope="module")
def vgg():
    return models.load("vgg19", size=64)


@pytest.fixture
def backwards(vgg):
    return explore.deconvolution(vgg, layer="block3_conv2", pictures=["koala", "panda"])


def test_deconvolution_shows_what_the_helper_projects(backwards, vgg):
    picture = images.sample("koala", 64)
    maps = engine.run(submodels.activations(vgg, "block3_conv2"), np.float32([picture]))["block3_conv2"][0]
    for row, column, channel in np.argwhere(maps > 0)[[1000, -1000]].tolist():
        backwards.channel.value = channel
        backwards.row.field.value = row
        backwards.column.slider.value = column
        values = maps[..., channel]
        pixels = deconv.project(vgg, picture, "block3_conv2", channel, (row, column))
        np.testing.assert_allclose(backwards.sent_back(), pixels, rtol=1e-3, atol=1e-4 * np.abs(pixels).max())
        shown = images.signed(backwards.sent_back())
        np.testing.assert_array_equal(decoded(backwards.projection), frame.enlarged(shown))
        rows, columns = np.flatnonzero(pixels.any((1, 2))), np.flatnonzero(pixels.any((0, 2)))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        np.testing.assert_array_equal(decoded(backwards.crop), frame.enlarged(picture[top:bottom, left:right]))
        np.testing.assert_array_equal(decoded(backwards.detail), frame.enlarged(shown[top:bottom, left:right]))
        marker = frame.marked(
            frame.enlarged(frame.painted(values, False)), (row, column, row + 1, column + 1), values.shape
        )
        np.testing.assert_array_equal(decoded(backwards.map), marker)
        field = units.receptive_field(vgg, "block3_conv2", (row, column)).clipped
        np.testing.assert_array_equal(decoded(backwards.photo), frame.marked(frame.enlarged(picture), field, (64, 64)))
        assert f"activation {frame.short(values[row, column])}" in backwards.map.caption
    assert backwards.problem.value == ""


def test_only_what_the_projection_paints_stays_bright():
    picture, pixels = np.full((10, 10, 3), 200, np.uint8), np.zeros((10, 10, 3), np.float32)
    np.testing.assert_array_equal(deconvolution.lit(picture, pixels), picture * 0.15)
    pixels[2, 3:6, 0] = 1, -3, 2
    bright = (deconvolution.lit(picture, pixels) == 200).all(-1)
    assert np.argwhere(bright).tolist() == [[2, 3], [2, 4], [2, 5]]
    pixels += 0.1
    bright = (deconvolution.lit(picture, pixels, kept=0.02) == 200).all(-1)
    assert np.argwhere(bright).tolist() == [[2, 4], [2, 5]]


def test_strongest_place_and_what_follows_a_choice(backwards, vgg, count_passes):
    def place(picture, layer, channel):
        values = engine.run(submodels.activations(vgg, layer), np.float32([images.sample(picture, 64)]))[layer]
        return np.unravel_index(values[0, ..., channel].argmax(), values.shape[1:3])

    backwards.channel.value = 17
    assert backwards.position == place("koala", "block3_conv2", 17)
    backwards.row.value, backwards.column.value = 1, 1
    backwards.strongest.click()
    assert backwards.position == place("koala", "block3_conv2", 17)
    backwards.chooser.menu.value = "panda"
    assert backwards.position == place("panda", "block3_conv2", 17)
    count_passes.clear()
    backwards.layer.value = "block4_conv1"
    assert backwards.row.slider.max == 7 and backwards.row.field.max == 7
    assert count_passes == [1]  # backwards once; the maps were there
    assert backwards.position == place("panda", "block4_conv1", backwards.channel.value)


def test_each_place_is_sent_back_once(backwards, count_passes):
    for row in (1, 2, 1, 2):
        backwards.row.value = row
    assert count_passes == [1, 1]
    backwards.rule.value = "gradient"
    assert count_passes == [1, 1, 1]


def test_the_rule_is_that_of_the_helper(backwards, vgg):
    picture = images.sample("koala", 64)
    for rule in ("guided", "gradient"):
        backwards.rule.value = rule
        pixels = deconv.project(vgg, picture, "block3_conv2", backwards.channel.value, backwards.position, rule=rule)
        np.testing.assert_allclose(backwards.sent_back(), pixels, rtol=1e-3, atol=1e-4 * np.abs(pixels).max())


def test_a_silent_place_is_told(backwards, recwarn):
    maps = backwards.layer_maps()
    row, column = np.argwhere(maps[..., backwards.channel.value] == 0)[0]
    backwards.row.value, backwards.column.value = int(row), int(column)
    assert "silent" in backwards.projection.caption and backwards.problem.value == ""
    assert not backwards.crop.is_shown and (backwards.projection.pixels == 128).all()
    backwards.strongest.click()
    assert backwards.crop.is_shown
    assert not list(recwarn)  # warnings would land in the log of the page


def test_layers_that_cannot_be_run_backwards_are_told_and_others_go_on():
    picture = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="fine")(picture)
    x = keras.layers.Conv2D(4, 3, activation="swish", name="curved")(x)
    explorer = explore.deconvolution(keras.Model(picture, x), layer="fine", pictures=[noise(1)])
    explorer.layer.value = "curved"
    assert "curved" in explorer.problem.value
    explorer.layer.value = "fine"
    assert explorer.problem.value == "" and explorer.map.pixels is not None


def test_the_rules_for_deconvolution(backwards):
    check_the_rules(backwards)

"""`explore.training`: what is shown at a step is what the snapshots hold of it."""

import re

import ipywidgets as widgets
import keras
import numpy as np
import pytest

from helpers import explore, images, training
from helpers.explorers import frame
from helpers.explorers import training as films
from tests.test_explore import check_the_rules, count_passes, decoded, encoded, noise, parts, upload  # noqa: F401

L = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 28, 28, 1)).astype("float32")
LABELS = RNG.integers(0, 3, 64)


def trained(*layers, size=(28, 28, 1), pictures=IMAGES, **options):
    """Snapshots of a short training."""
    keras.utils.set_random_seed(1)
    layers = layers or (
        L.Conv2D(6, 5, activation="relu", name="conv1"),
        L.MaxPooling2D(2, name="pool"),
        L.Conv2D(5, 3, name="conv2"),
    )
    body = [keras.Input(size), L.Rescaling(1 / 255, name="scale"), *layers]
    model = keras.Sequential([*body, L.GlobalAveragePooling2D(name="mean"), L.Dense(3, name="logits")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"])
    snapshots = training.Snapshots(**{"probe": pictures[0]} | options)
    model.fit(pictures, LABELS, batch_size=8, verbose=0, callbacks=[snapshots])
    return snapshots


@pytest.fixture(scope="module")
def snapshots():
    return trained()


@pytest.fixture
def explorer(snapshots):
    return explore.training(snapshots)


def limits(kernels):
    return -np.abs(kernels).max(), np.abs(kernels).max()


def tiles_of(panel, shape, columns):
    """The middle pixel of each cell of each tile in a panel: `(rows, columns, *shape, 3)`."""
    pixels, (height, width) = decoded(panel), shape
    side = (films.SHEET + films.GAP) // columns - films.GAP
    tall = round(side * height / width)
    rows = (len(pixels) + films.GAP) // (tall + films.GAP)
    down = ((np.arange(height) + 0.5) * tall / height).astype(int)
    across = ((np.arange(width) + 0.5) * side / width).astype(int)
    tops, lefts = (np.arange(count) * (size + films.GAP) for count, size in ((rows, tall), (columns, side)))
    return pixels[(tops[:, None, None, None] + down[:, None]), (lefts[:, None, None] + across)]


def test_what_is_shown_is_what_the_snapshots_hold_on_one_scale(explorer, snapshots):
    kernels = training.filter_evolution(snapshots, "conv1")[..., 0, :]
    maps = training.activation_evolution(snapshots, "conv1")
    assert explorer.layer.value == "conv1" and snapshots.steps == [0, 1, 2, 4, 8]
    for moment in (0, 3, 4):
        explorer.moment.index = moment
        shown = tiles_of(explorer.filters, (5, 5), 3)
        for channel in range(6):
            expected = images.colorize(kernels[moment, ..., channel], "RdBu_r", limits(kernels))
            np.testing.assert_array_equal(shown[channel // 3, channel % 3], expected)
        shown = tiles_of(explorer.maps, (24, 24), 3)
        for channel in range(6):
            expected = images.colorize(maps[moment, ..., channel], "inferno", (0, maps.max()))
            np.testing.assert_array_equal(shown[channel // 3, channel % 3], expected)
        assert f"Step {snapshots.steps[moment]} of 8, snapshot {moment + 1} of 5" in explorer.numbers.value
    np.testing.assert_array_equal(explorer.photo.pixels, IMAGES[0].astype(np.uint8).repeat(3, 2))


def test_each_channel_can_have_its_own_scale(explorer, snapshots):
    maps = training.activation_evolution(snapshots, "conv1")
    explorer.own.value, explorer.moment.index = True, 1
    shown = tiles_of(explorer.maps, (24, 24), 3)
    for channel in range(6):
        expected = images.colorize(maps[1, ..., channel], "inferno", (0, maps[..., channel].max()))  # of all steps
        assert np.abs(shown[channel // 3, channel % 3].astype(int) - expected).max() <= 4


def test_the_marker_is_where_the_curve_is(explorer, snapshots):
    positions = []
    for moment in range(5):
        explorer.moment.index = moment
        changed = (decoded(explorer.history) == frame.MARK).all(-1)
        left, right = changed[:, :456].any(0).nonzero()[0], changed[:, 456:].any(0).nonzero()[0]
        assert len(left) and len(right)  # accuracy, loss
        positions.append(left.mean())
        assert (np.ptp(left) < 3) == (moment == 0)  # there Keras has no numbers: a line without a dot
    assert (np.diff(positions) > 5).all()
    assert list(explorer.lines) == ["accuracy", "loss"] and np.isnan(
        explorer.lines["loss"][0]
    )  # Keras has none at step 0
    top, bottom, points = explorer.curves.places[1]
    values = explorer.lines["loss"][1:]
    assert ((points[1:, 1] > top) & (points[1:, 1] < bottom)).all()
    np.testing.assert_array_equal(np.argsort(points[1:, 1]), np.argsort(values)[::-1])  # higher is further up
    explorer.moment.index = 4
    ring = decoded(explorer.history)[round(points[4, 1]), round(points[4, 0])]
    np.testing.assert_array_equal(ring, frame.MARK)


def test_play_and_slider_are_one(explorer, snapshots):
    assert explorer.moment.label == "step 8" and explorer.play.value == 4  # begins with the trained network
    explorer.play.value = 0
    assert explorer.moment.index == 0 and "Step 0 of 8" in explorer.numbers.value
    assert "moved by 0% of their first size" in explorer.numbers.value
    explorer.moment.index = 3
    assert explorer.play.value == 3
    kernels = training.filter_evolution(snapshots, "conv1")
    moved = np.linalg.norm(kernels[3] - kernels[0]) / np.linalg.norm(kernels[0])
    assert f"moved by {moved:.0%}" in explorer.numbers.value


def test_no_figure_and_no_pass_for_a_step(explorer, monkeypatch, count_passes):  # noqa: F811
    def forbidden(*args, **options):
        raise AssertionError("drawn again")

    monkeypatch.setattr(films.plots, "curves", forbidden)
    monkeypatch.setattr(training, "activation_evolution", forbidden)
    before = explorer.filters.image.value, explorer.maps.image.value, explorer.history.image.value
    explorer.moment.index = 1
    after = explorer.filters.image.value, explorer.maps.image.value, explorer.history.image.value
    assert explorer.problem.value == "" and count_passes == []
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_layers_without_filters_and_deep_filters(explorer, snapshots):
    assert explorer.layer.options == ("scale", "conv1", "pool", "conv2")
    explorer.layer.value = "pool"
    assert (
        not explorer.filters.is_shown and explorer.maps.is_shown and "no filters of its own" in explorer.numbers.value
    )
    explorer.layer.value = "conv2"
    kernels = training.filter_evolution(snapshots, "conv2")
    shown = tiles_of(explorer.filters, (3, 3), 5)  # rows are inputs
    expected = images.colorize(kernels[-1, :, :, 4, 2], "RdBu_r", limits(kernels))
    np.testing.assert_array_equal(shown[4, 2], expected)
    assert "first 6 of 6 inputs" in explorer.filters.caption


def test_filters_on_colours_keep_their_colours():
    pictures = RNG.integers(0, 256, (64, 16, 16, 3)).astype("float32")
    kept = trained(L.Conv2D(70, 3, name="colours"), size=(16, 16, 3), pictures=pictures, steps=[2])
    explorer = explore.training(kept, pictures=["koala"])
    kernels = training.filter_evolution(kept, "colours")
    strongest = np.sort(np.argsort(-np.abs(kernels[-1]).mean((0, 1, 2)), kind="stable")[:64])
    expected = np.rint(127.5 + 127.5 * kernels[-1][..., strongest[9]] / np.abs(kernels[..., strongest]).max())
    np.testing.assert_array_equal(tiles_of(explorer.filters, (3, 3), 8)[1, 1], expected)
    assert "64 of 70 channels" in explorer.filters.caption and explorer.gallery.names == [films.PROBE, "koala"]
    np.testing.assert_array_equal(explorer.photo.pixels, pictures[0])


def test_other_pictures_run_with_the_weights_of_the_step(explorer, snapshots):
    assert explorer.gallery.names[:2] == [films.PROBE, "digit 0"] and len(explorer.gallery.names) == 11
    upload(explorer.chooser, "mine.png", encoded(noise(5, (28, 28, 3)), "PNG"))
    assert explorer.chooser.value == "mine.png"
    maps = training.activation_evolution(snapshots, "conv1", explorer.gallery["mine.png"])
    explorer.moment.index = 1
    shown = tiles_of(explorer.maps, (24, 24), 3)
    expected = images.colorize(maps[1, ..., 5], "inferno", (0, maps.max()))
    np.testing.assert_array_equal(shown[1, 2], expected)
    before = explorer.maps.image.value
    upload(explorer.chooser, "bad.png", b"no picture")
    assert "not a picture" in explorer.problem.value and explorer.maps.image.value == before


def test_it_is_told_what_the_network_takes_the_picture_for(explorer, snapshots):
    explorer.chooser.menu.value = "digit 3"
    before = [variable.numpy() for variable in snapshots.model.variables]
    for moment in (0, 4):
        explorer.moment.index = moment
        at_this_step = keras.models.clone_model(snapshots.model)
        for name, kept in snapshots.weights.items():
            at_this_step.get_layer(name).set_weights(kept[moment])
        outputs = at_this_step(explorer.gallery["digit 3"][None]).numpy()[0]
        share = np.exp(outputs - outputs.max()).max() / np.exp(outputs - outputs.max()).sum()
        told = f"The network takes it for class {outputs.argmax()}: {share:.1%}.".replace("%", " %")
        assert told in explorer.numbers.value
    for old, variable in zip(before, snapshots.model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert "takes it for" not in explore.training(trained(layers=["conv1"])).numbers.value  # the rest was not kept


def test_only_the_probe_where_more_cannot_be_known(snapshots):
    def has_chooser(explorer):
        return any(isinstance(part, widgets.FileUpload) for part in parts(explorer))

    assert has_chooser(explore.training(snapshots))
    scaled = trained(pictures=IMAGES / 255)  # how others are to be scaled is not known
    assert not has_chooser(explore.training(scaled))
    assert has_chooser(explore.training(scaled, pictures={"another": IMAGES[7] / 255}))
    partial = trained(layers=["conv2"])  # the weights of conv1 are missing
    explorer = explore.training(partial)
    assert not has_chooser(explorer) and explorer.maps.is_shown and explorer.filters.is_shown
    with pytest.raises(ValueError, match="layers=None"):
        explore.training(partial, pictures=["koala"])


def test_what_the_snapshots_do_not_hold_is_said():
    no_probe = explore.training(trained(probe=None, layers=["conv2"]))
    assert not no_probe.maps.is_shown and not no_probe.photo.is_shown and no_probe.filters.is_shown
    assert "training.Snapshots(probe=picture)" in no_probe.numbers.value
    check_the_rules(no_probe)
    once = trained(steps=[8])
    assert once.steps == [8]
    explorer = explore.training(once)
    assert not any(isinstance(part, (widgets.SelectionSlider, widgets.Play)) for part in parts(explorer))
    assert "the only snapshot" in explorer.numbers.value and not explorer.history.is_shown
    check_the_rules(explorer)
    with pytest.raises(ValueError, match="train first"):
        explore.training(training.Snapshots())
    with pytest.raises(ValueError, match="nothing to look at"):
        explore.training(trained(layers=["logits"]))
    with pytest.raises(ValueError, match="list: give a training.Snapshots"):
        explore.training([])


def test_a_training_that_broke_down_is_shown_as_far_as_it_went(snapshots):
    broken = trained()
    for table in (broken.weights["conv1"][4], broken.activations["conv1"][4:]):
        table[0][:] = np.nan
    explorer = explore.training(broken)
    assert not explorer.filters.is_shown and not explorer.maps.is_shown
    assert "the training broke down" in explorer.numbers.value and explorer.problem.value == ""
    explorer.moment.index = 3
    assert explorer.filters.is_shown and explorer.maps.is_shown and "broke down" not in explorer.numbers.value
    assert re.search("full colour is 0[.]", explorer.filters.caption)


def test_large_maps_are_shrunk_and_small_ones_fill_the_sheet():
    large = np.repeat(np.float32([0, 1, 2, 3]), 16)[None, None, None] * np.ones((1, 112, 112, 1), "float32")
    film = films.film_of_maps(large, "layer")
    assert film.values.shape == (1, 64, 40, 40) and film.frame(0).shape == (362, 368, 3)
    first, last = film.frame(0)[0, 20:362:46], film.frame(0)[-1, 20:362:46]  # rows of tiles: all 0, all 3
    assert (first == images.colorize([0], "inferno", (0, 3))).all()
    assert (last == images.colorize([3], "inferno", (0, 3))).all()
    film = films.film_of_maps(np.ones((1, 4, 8, 2), "float32"), "layer")
    assert film.values.shape == (1, 2, 4, 8) and film.frame(0).shape == (90, 368, 3)


def test_the_rules(explorer):
    check_the_rules(explorer)
    explorer.layer.value = "conv2"
    check_the_rules(explorer)

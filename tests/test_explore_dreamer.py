"""`explore.dreamer`: what it shows is what `dream.deep_dream` gives, also on the way and after *Stop*."""

import keras
import numpy as np
import pytest

from helpers import dream, explore, submodels
from helpers.explorers import dreamer, frame
from helpers.explorers import gallery as galleries
from helpers.synthesis import ascent
from tests import zoo
from tests.test_explore import check_the_rules, decoded, encoded, noise, upload

L = keras.layers
PICTURES = {"one": noise(1, (48, 48, 3)), "two": noise(2, (48, 48, 3))}


@pytest.fixture(scope="module")
def model():
    """A network of fixed size: dreams lay it out again for the sizes of their octaves."""
    layers = [
        L.Rescaling(1 / 128, -1, name="scale"),
        L.Conv2D(6, 3, padding="same", activation="relu", name="conv1"),
        L.MaxPooling2D(name="pool"),
        L.Conv2D(5, 3, padding="same", activation="relu", name="conv2"),
        L.GlobalAveragePooling2D(name="gap"),
    ]
    return zoo._randomised(keras.Sequential([keras.Input((48, 48, 3)), *layers]))


@pytest.fixture
def explorer(model, monkeypatch):
    monkeypatch.setattr(dreamer, "PAUSE", -1)  # every step is shown
    explorer = explore.dreamer(model, pictures=PICTURES)
    explorer.octaves.value, explorer.steps.value = 2, 3
    return explorer


def press(explorer):
    explorer.work.begin.click()
    explorer.work.wait(60)


def deep_dream(model, picture, objective, **options):
    options = {"octaves": 2, "steps": 3, "octave_scale": 1.4} | options
    return dream.deep_dream(model, picture.astype("float32"), objective, **options, progress=False)


def shown(picture):
    return frame.enlarged(np.rint(picture).astype(np.uint8))


def test_the_dream_is_that_of_deep_dream_and_its_numbers_are_told(explorer, model):
    assert explorer.layer.value == "conv2" and not explorer.after.is_shown and "Press Dream" in explorer.words.value
    press(explorer)
    expected = deep_dream(model, PICTURES["one"], "conv2")
    assert explorer.problem.value == ""
    np.testing.assert_array_equal(explorer.found.picture, expected.picture)
    np.testing.assert_array_equal(decoded(explorer.after), shown(expected.picture))
    np.testing.assert_array_equal(decoded(explorer.before), shown(PICTURES["one"]))
    maps = submodels.activations(model, "conv2")(PICTURES["one"][None].astype("float32"))["conv2"].numpy()
    assert explorer.found.before == pytest.approx((maps**2).mean(), rel=1e-4)
    assert explorer.found.after == expected.octaves[-1].after
    assert f"{explorer.found.before:.3g} in the photograph, {explorer.found.after:.3g} in the" in explorer.words.value


def test_it_begins_with_the_first_two_octaves_of_the_dream():
    model = zoo._randomised(keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3, strides=16, name="conv")]))
    explorer = explore.dreamer(model, pictures=["koala"], layer="conv")
    assert explorer.gallery["koala"].shape == (256, 256, 3) and explorer.octaves.value == 4
    assert galleries.Gallery(model, ["koala"])["koala"].shape == (224, 224, 3)
    photograph = explorer.gallery["koala"]
    small = list(dream.frames(model, photograph, "conv"))[11 + 10].picture
    np.testing.assert_array_equal(explorer.found.picture, dream.resized(small, photograph, (256, 256)))
    np.testing.assert_array_equal(decoded(explorer.after), shown(explorer.found.picture))
    assert "After 20 of 40 steps" in explorer.after.caption
    with pytest.raises(ValueError, match="conc.*'conv'"):
        explore.dreamer(model, pictures=["koala"], layer="conc")
    with pytest.raises(ValueError, match="from 0 to 255"):
        explore.dreamer(model, pictures=[np.full((256, 256, 3), 300.0)])


def test_every_setting_counts(explorer, model):
    explorer.chooser.menu.value, explorer.layer.value, explorer.what.value = "two", "conv1", "one channel"
    explorer.channel.value, explorer.octaves.value, explorer.steps.value, explorer.step.value = 4, 3, 2, 2.5
    press(explorer)
    expected = deep_dream(model, PICTURES["two"], ("conv1", 4), octaves=3, steps=2, step=2.5)
    np.testing.assert_array_equal(explorer.found.picture, expected.picture)
    assert "channel 4 of conv1" in explorer.after.caption and "mean output" in explorer.words.value


def test_the_picture_changes_on_the_way(explorer, model):
    seen, captions, places = [], [], []
    explorer.after.image.observe(lambda change: seen.append(decoded(explorer.after)), "value")
    explorer.after.heading.observe(lambda change: captions.append(explorer.after.caption), "value")
    explorer.work.bar.observe(lambda change: places.append(explorer.work.bar.value), "value")
    press(explorer)
    way = dream.frames(model, explorer.gallery["one"], "conv2", octaves=2, steps=3)
    expected = [dream.resized(frame.picture, explorer.gallery["one"], (48, 48)) for frame in way if frame.step]
    assert len(seen) == 7  # the photograph, and six steps; the last is the result
    for found, picture in zip(seen[1:], expected, strict=True):
        np.testing.assert_array_equal(found, shown(picture))
    assert "Dreaming: octave 2 of 2, step 1 of 3, 48 pixels wide." in captions
    assert max(places) == 6 and "objective" not in explorer.problem.value


def stop_at(monkeypatch, explorer, count):
    """Press *Stop* while a step is computed."""
    steps, step = [], ascent.Ascent.step

    def counted(*args):
        steps.append(1)
        if len(steps) == count:
            explorer.work.stop.click()
        return step(*args)

    monkeypatch.setattr(ascent.Ascent, "step", counted)
    return steps


def test_stop_keeps_what_is_there_and_it_can_be_dreamt_again(explorer, model, monkeypatch):
    with monkeypatch.context() as patch:
        steps = stop_at(patch, explorer, 2)
        press(explorer)
    assert len(steps) == 2 and explorer.found.done == 2
    photograph = explorer.gallery["one"]
    small = list(dream.frames(model, photograph, "conv2", octaves=2, steps=3))[2].picture
    assert small.shape == (34, 34, 3)
    np.testing.assert_array_equal(explorer.found.picture, dream.resized(small, photograph, (48, 48)))
    np.testing.assert_array_equal(decoded(explorer.after), shown(explorer.found.picture))
    assert explorer.found.after == dream.measure(model, explorer.found.picture, "conv2")
    assert "After 2 of 6 steps" in explorer.after.caption and "for all 6 steps" in explorer.words.value
    assert "Stopped at 2 of 6" in explorer.status.value
    press(explorer)
    np.testing.assert_array_equal(explorer.found.picture, deep_dream(model, PICTURES["one"], "conv2").picture)


def test_what_was_dreamt_is_shown_again_without_a_step(explorer, monkeypatch):
    press(explorer)
    first = explorer.after.image.value
    explorer.steps.value = 2
    assert not explorer.after.is_shown and not explorer.both.is_shown and explorer.wipe.layout.display == "none"

    def forbidden(*args):
        raise AssertionError("dreamt again")

    monkeypatch.setattr(ascent.Ascent, "step", forbidden)
    explorer.steps.value = 3
    assert explorer.after.is_shown and explorer.after.image.value == first and explorer.wipe.layout.display == ""
    press(explorer)
    assert explorer.after.image.value == first and explorer.problem.value == ""


def test_wiping_from_the_photograph_to_the_dream(explorer):
    press(explorer)
    after = decoded(explorer.after)
    explorer.wipe.value = 25
    both = decoded(explorer.both)
    edge = both.shape[1] // 4
    gap = 5 * both.shape[1] // 48
    np.testing.assert_array_equal(both[:, : edge - gap], decoded(explorer.before)[:, : edge - gap])
    np.testing.assert_array_equal(both[:, edge + gap :], after[:, edge + gap :])
    assert (both[:, edge - 2] == frame.MARK).all()
    explorer.wipe.value = 0
    np.testing.assert_array_equal(decoded(explorer.both), after)
    explorer.wipe.value = 100
    np.testing.assert_array_equal(decoded(explorer.both), decoded(explorer.before))


def test_one_channel_begins_with_the_strongest(explorer, model):
    assert explorer.channel.layout.display == "none"
    explorer.what.value = "one channel"
    maps = submodels.activations(model, "conv2")(PICTURES["one"][None].astype("float32"))["conv2"].numpy()
    assert explorer.channel.value == maps.mean((0, 1, 2)).argmax() and explorer.channel.slider.max == 4
    explorer.layer.value = "conv1"
    assert explorer.channel.slider.max == 5 and explorer.channel.layout.display == ""


def test_errors_are_told_and_leave_it_usable():
    model = zoo._randomised(keras.Sequential([keras.Input((48, 48, 3)), L.Conv2D(4, 7, name="conv")]))
    explorer = explore.dreamer(model, pictures=PICTURES)
    explorer.octaves.value, explorer.steps.value = 8, 1
    press(explorer)
    assert "5 × 5 pixels are too few" in explorer.problem.value and not explorer.after.is_shown
    assert not explorer.work.begin.disabled and not explorer.octaves.disabled
    explorer.octaves.value = 1
    assert explorer.problem.value == ""
    press(explorer)
    assert explorer.problem.value == "" and explorer.after.is_shown


def test_what_only_prepares_the_picture_is_no_layer_to_dream_of(explorer):
    assert [name for _, name in explorer.layer.options] == ["conv1", "pool", "conv2"]
    with pytest.raises(ValueError, match="no layer with a map 'scale'"):
        explore.dreamer(explorer.model, pictures=PICTURES, layer="scale")


def test_a_brought_picture_is_dreamt(explorer, model):
    upload(explorer.chooser, "dog.png", encoded(noise(5, (48, 48, 3)), "PNG"))
    press(explorer)
    np.testing.assert_array_equal(explorer.found.picture, deep_dream(model, noise(5, (48, 48, 3)), "conv2").picture)
    upload(explorer.chooser, "dog.txt", b"no picture")
    assert "not a picture" in explorer.problem.value and explorer.chooser.value == "dog.png"


def test_the_rules(explorer):
    check_the_rules(explorer)
    press(explorer)
    check_the_rules(explorer)

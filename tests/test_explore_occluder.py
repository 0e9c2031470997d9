"""`explore.occluder`: what is shown is what the network gets, and what it answers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import engine, explore, models, perturbation
from helpers.explorers import classes, frame, occluder
from helpers.explorers.classes import percent
from tests import zoo
from tests.test_explore import check_the_rules, count_passes, decoded, encoded, noise, upload  # noqa: F401 (a fixture)

SOON = 120  # seconds


@pytest.fixture
def digits():
    explorer = explore.occluder(models.load("mnist_cnn"))
    explorer.fill.value = "mean"
    return explorer


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_the_network_gets_the_picture_that_is_shown(digits):
    digits.chooser.menu.value = "digit 4"
    digits.patch.value, digits.top.value, digits.left.value = 8, 3, 12
    expected = digits.gallery["digit 4"].copy()
    expected[3:11, 12:20] = expected.mean()
    np.testing.assert_allclose(digits.covered(), expected, rtol=1e-6)
    pixels = np.rint(expected).astype(np.uint8).repeat(3, 2).repeat(8, 0).repeat(8, 1)
    shown = decoded(digits.photo)
    assert (shown != pixels).any()  # the frame
    inside = np.s_[3 * 8 + 1 : 11 * 8 - 1, 12 * 8 + 1 : 20 * 8 - 1]
    np.testing.assert_array_equal(shown[inside], pixels[inside])
    np.testing.assert_array_equal(shown, frame.marked(pixels, (3, 12, 11, 20), (28, 28)))
    outputs = engine.run(digits.model, expected[None])[0]
    np.testing.assert_allclose(digits.answer(), outputs, rtol=1e-4, atol=1e-4)
    before, now = (softmax(x) for x in (digits.outputs(), outputs))
    top = now.argmax()
    assert f"4: probability {before[4]:.1%} → {now[4]:.1%}".replace("%", " %") in digits.numbers.value
    assert f"Most probable now: {top}, {now[top]:.1%}".replace("%", " %") in digits.numbers.value


def test_the_bars_show_the_likely_classes_before_and_now(digits):
    digits.chooser.menu.value, digits.target.value = "digit 7", 3
    digits.fill.value, digits.patch.value = "blur", 12
    before, now = (softmax(x) for x in (digits.outputs(), digits.answer()))
    shown = list(dict.fromkeys([*np.argsort(-before)[:5], 3, now.argmax()]))
    rows = [(str(k), before[k], now[k], k == 3) for k in shown]
    np.testing.assert_array_equal(decoded(digits.bars), occluder.drawn_bars(rows, 440))


def test_bars_are_as_long_as_the_probabilities():
    drawn = occluder.drawn_bars([("first", 0.5, 0.25, False), ("second", 1.0, 0.0, True)], 405)
    for colour, lengths in ((occluder.BEFORE, (200, 400)), (occluder.NOW, (100, 1))):
        rows = (drawn[26:] == colour).all(-1).sum(1)
        half = len(rows) // 2
        for found, length in zip((rows[:half].max(), rows[half:].max()), lengths, strict=True):
            assert abs(found - length) <= 1


def test_a_step_is_one_pass_and_what_was_seen_before_is_none(digits, count_passes):  # noqa: F811
    digits.left.value = 5
    digits.left.value = 6
    assert count_passes == [1, 1]
    digits.left.value = 5
    digits.target.value = digits.target.options[2][1]
    assert count_passes == [1, 1]
    digits.chooser.menu.value = "digit 9"
    assert count_passes == [1, 1, 1, 1]  # the whole picture, and the covered one


@pytest.mark.parametrize("fill", ["mean", "blur", "noise", "grey", "black"])
def test_the_map_is_that_of_occlusion(digits, fill):
    digits.chooser.menu.value, digits.fill.value, digits.patch.value = "digit 5", fill, 6
    digits.grey.value = 200
    assert not digits.map.is_shown
    digits.mapping.begin.click()
    digits.mapping.wait(SOON)
    assert digits.problem.value == digits.status.value == ""
    picture, given = digits.gallery["digit 5"], {"grey": 200.0, "black": 0.0}.get(fill, fill)
    for target in (5, digits.target.options[1][1]):  # one sweep serves all classes
        digits.target.value = target
        expected = perturbation.occlusion(digits.model, picture, target, 6, fill=given, progress=False)
        np.testing.assert_allclose(digits.occlusion_map(), expected, rtol=1e-5, atol=1e-5)
        colours = frame.enlarged(frame.painted(digits.occlusion_map(), True))
        np.testing.assert_array_equal(decoded(digits.map), frame.marked(colours, digits.box, (28, 28)))
    row, column = digits.top.value + 3, digits.left.value + 3
    assert f"On the map its middle has {expected[row, column]:.2f}, the mean over" in digits.numbers.value
    digits.fill.value = "mean" if fill != "mean" else "noise"
    assert not digits.map.is_shown and "On the map" not in digits.numbers.value


def test_the_map_fills_in_and_stays_as_far_as_it_came(digits):
    steps, seen = digits.map_everything(), []
    for _ in range(3):
        done, total, _ = next(steps)
        seen.append(np.isfinite(digits.occlusion_map()).mean())
    steps.close()
    assert done < total and 0 < seen[0] < seen[1] < seen[2] < 1
    digits.left.value += 1
    assert digits.map.is_shown and np.isnan(digits.occlusion_map()).any()
    known = np.isfinite(digits.occlusion_map())
    whole = perturbation.occlusion(digits.model, digits.gallery["digit 0"], digits.target.value, progress=False)
    part = digits.occlusion_map()
    rows = known.all(1)
    complete = rows & np.roll(rows, -4)  # all windows that cover these rows are done
    np.testing.assert_allclose(part[:4][complete[:4]], whole[:4][complete[:4]], rtol=1e-5, atol=1e-5)
    digits.mapping.begin.click()
    digits.mapping.wait(SOON)
    np.testing.assert_allclose(digits.occlusion_map(), whole, rtol=1e-5, atol=1e-5)


def test_a_map_that_is_there_costs_nothing(digits, monkeypatch):
    digits.mapping.begin.click()
    digits.mapping.wait(SOON)
    monkeypatch.setattr(engine, "stream", None)
    digits.mapping.begin.click()
    digits.mapping.wait(SOON)
    assert digits.problem.value == "" and digits.map.is_shown


def test_the_patch_stays_within_the_picture(digits):
    digits.patch.value = 4
    digits.top.value = digits.left.value = 24
    digits.patch.value = 12
    assert digits.box == (16, 16, 28, 28) and digits.problem.value == ""
    digits.top.value = 2
    digits.patch.value = 4
    assert digits.box == (6, 20, 10, 24)  # the middle is where it was


@pytest.mark.parametrize("name", ["functional", "two_levels", "transfer"])
def test_networks_of_every_build(name):
    explorer = explore.occluder(zoo.build(name), pictures={"one": noise(1), "two": noise(2)})
    explorer.fill.value = "noise"
    explorer.mapping.begin.click()
    explorer.mapping.wait(SOON)
    picture, target = noise(1).astype("float32"), explorer.target.value
    expected = perturbation.occlusion(explorer.model, picture, target, 2, fill="noise", progress=False)
    np.testing.assert_allclose(explorer.occlusion_map(), expected, rtol=1e-4, atol=1e-5)
    assert explorer.target.options[0][0].startswith(f"class {explorer.model(picture[None]).numpy().argmax()}: ")
    if name == "functional":  # it ends in softmax: what it puts out is shown as it is
        share = explorer.classes.probabilities(explorer.outputs())[target]
        np.testing.assert_allclose(share, explorer.model(picture[None]).numpy().max(), rtol=1e-4)
    check_the_rules(explorer)


def test_grey_is_that_of_the_picture_and_its_slider_appears_with_it():
    picture = noise(3) / np.float32(255) - np.float32(0.5)  # a network that takes −0.5 … 0.5
    explorer = explore.occluder(zoo.functional(), pictures={"one": picture})
    assert explorer.grey.layout.display == "none"
    explorer.fill.value, explorer.grey.value = "grey", 255
    assert explorer.grey.layout.display == "flex"
    top, left = explorer.box[:2]
    np.testing.assert_allclose(explorer.covered()[top, left], picture.max())


def test_an_upload_is_covered(digits):
    upload(digits.chooser, "mine.png", encoded(noise(4, (40, 40, 3)), "PNG"))
    assert digits.chooser.value == "mine.png" and digits.problem.value == ""
    np.testing.assert_allclose(
        digits.outputs(), engine.run(digits.model, digits.gallery["mine.png"][None])[0], atol=1e-3
    )


def test_it_begins_with_a_black_patch_that_changes_the_answer_to_the_panda():
    explorer = explore.occluder()
    assert explorer.target.options[0][0].startswith("giant panda: 93.7 %")
    assert [side for _, side in explorer.patch.options] == [16, 24, 32, 48, 64, 96]
    expected = explorer.gallery["panda"].copy()
    expected[16:112, 64:160] = 0
    np.testing.assert_array_equal(explorer.covered(), expected)
    assert explorer.classes.probabilities(explorer.answer())[388] < 0.7
    outputs = engine.run(explorer.model, expected[None])[0]
    np.testing.assert_allclose(explorer.answer(), outputs, rtol=1e-3, atol=1e-3)
    check_the_rules(explorer)


def test_networks_without_classes_are_refused_in_words():
    with pytest.raises(ValueError, match="not one number for each class"):
        explore.occluder(models.load("vgg19"))


# One sigmoid, one number, several labels: tests of the network's kind, not of its name


def head(units, activation, name="head", *more):
    picture = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(picture))
    x = keras.layers.Dense(units, activation=activation, name=name)(x)
    for layer in more:
        x = layer(x)
    return zoo._randomised(keras.Model(picture, x))


def test_one_sigmoid_has_two_classes():
    model = head(1, "sigmoid")
    explorer = explore.occluder(model, pictures={"one": noise(1)}, labels=["cat", "dog"])
    p = model(noise(1)[None].astype("float32")).numpy()[0, 0]
    shares = {"dog": p, "cat": 1 - p}
    first = max(shares, key=shares.get)
    assert explorer.target.options[0] == (f"{first}: {percent(shares[first])}", ["cat", "dog"].index(first))
    for index, sign in ((1, 1), (0, -1)):
        explorer.target.value = index
        explorer.mapping.begin.click()
        explorer.mapping.wait(SOON)
        expected = sign * perturbation.occlusion(model, noise(1), 0, 2, fill=0.0, progress=False)
        np.testing.assert_allclose(explorer.occlusion_map(), expected, atol=1e-5)
    assert explorer.problem.value == ""


def test_one_number_has_no_percentage():
    model = head(1, None)
    explorer = explore.occluder(model, pictures={"one": noise(1)})
    value = model(noise(1)[None].astype("float32")).numpy()[0, 0]
    assert explorer.target.options == ((f"output 0: {frame.short(value)}", 0),)
    assert "%" not in explorer.numbers.value and f"score {value:.2f} → " in explorer.numbers.value
    assert not explorer.bars.is_shown


SOFTMAX = {
    "softmax": ("softmax",),
    "tf.nn.softmax": (tf.nn.softmax,),
    "a layer": (None, "head", keras.layers.Softmax()),
    "reshaped": ("softmax", "head", keras.layers.Reshape((5, 1)), keras.layers.Flatten()),
    "linear after it": ("softmax", "head", keras.layers.Activation("linear")),
    "an operation": (None, "head", keras.ops.softmax),
}


@pytest.mark.parametrize("case", SOFTMAX)
def test_softmax_is_known_by_what_it_computes(case):
    model = head(5, *SOFTMAX[case])
    outputs = model(noise(1)[None].astype("float32")).numpy()[0]
    found = classes.Classes(model)
    np.testing.assert_allclose(found.probabilities(outputs), outputs, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", tf.nn.sigmoid, tf.sigmoid])
def test_several_labels_are_no_softmax(activation):
    model = head(5, activation)
    outputs = model(noise(1)[None].astype("float32")).numpy()[0]
    np.testing.assert_allclose(classes.Classes(model).probabilities(outputs), outputs, atol=1e-6)


def test_what_cannot_be_known_is_not_told():
    class Own(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return tf.sigmoid(self.scale * x)

    model = head(5, None, "head", Own())
    outputs = model(noise(1)[None].astype("float32")).numpy()[0]
    assert classes.Classes(model).probabilities(outputs) is None
    assert "%" not in explore.occluder(model, pictures={"one": noise(1)}).numbers.value
    np.testing.assert_allclose(classes.Classes(head(5, None)).probabilities(outputs), softmax(outputs), rtol=1e-5)


def test_labels_are_as_many_as_classes():
    assert classes.Classes(head(3, None), ["a", "b", "c"]).names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        explore.occluder(head(3, None), pictures={"one": noise(1)}, labels=["a", "b"])


def test_any_class_is_found_by_its_name_or_number():
    explorer = explore.occluder(head(7, None), pictures={"one": noise(1)}, labels=[*"abcdef", "Big cat"])
    rare = explorer.classes.top(explorer.outputs(), 7)[5:]
    explorer.search.value = explorer.classes.names[rare[0]].upper()
    assert explorer.target.value == rare[0] and len(explorer.target.options) == 6 and explorer.search.value == ""
    explorer.search.value = f" {rare[1]} "
    assert explorer.target.value == rare[1] and len(explorer.target.options) == 6
    explorer.search.value = "big_cat"
    assert explorer.target.value == 6 and explorer.problem.value == ""
    for words in ("7", "5000", "-1", "big hat"):
        explorer.search.value = words
        assert f"no class &#x27;{words}&#x27;" in explorer.problem.value and "0 to 6" in explorer.problem.value
        assert explorer.target.value == 6
    explorer.target.value = explorer.target.options[0][1]
    assert explorer.problem.value == ""

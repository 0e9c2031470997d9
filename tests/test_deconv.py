"""The deconvolutional network against back-propagation, closed forms, and the slow obvious unpooling."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import deconv, engine, images, models, submodels, units
from tests import zoo

L = keras.layers


def backpropagated(model, layer, pictures, seed, rule):
    """The oracle: automatic differentiation, through `relu_rule` for the deconv rule."""
    network = model if rule == "gradient" else submodels.relu_rule(model, rule)
    probe, x = submodels.activations(network, layer), tf.constant(pictures)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = probe(x)[layer]
    return tape.gradient(y, x, output_gradients=tf.constant(seed)).numpy()


def everything_at_once():
    """Strides, overlapping pools, both paddings, dilation, groups, and all that can be joined."""
    picture = keras.Input((17, 19, 3))
    x = L.Rescaling(0.5, offset=1.0)(picture)
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = L.MaxPooling2D(3, strides=2, padding="same")(x)
    y = L.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2)(x)
    y = L.ReLU(max_value=6)(L.BatchNormalization()(y))
    x = L.ZeroPadding2D(((1, 0), (0, 2)))(L.Dropout(0.5)(L.Add()([x, y])))
    x = L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6")(x)
    x = L.Concatenate()([x, L.SeparableConv2D(5, 2, padding="same")(x)])
    x = L.AveragePooling2D(2, 1, padding="same")(x)
    x = L.MaxPooling2D(2, 1, padding="valid")(x)
    return zoo._randomised(keras.Model(picture, L.Conv2D(4, 1, activation="relu", name="last")(x)))


RNG = np.random.default_rng(0)
CASES = {
    "everything at once": (everything_at_once, "last", lambda: RNG.normal(0, 5, (2, 17, 19, 3))),
    "mnist_cnn": (lambda: models.load("mnist_cnn"), "pool2", lambda: RNG.uniform(0, 255, (3, 28, 28, 1))),
    "vgg19": (lambda: models.load("vgg19", size=96), "block4_conv2", lambda: images.batch(_koala(), size=96)),
    "efficientnet_lite0": (lambda: models.load(size=96), "block5c_add", lambda: images.batch(_koala(), size=96)),
    "residual": (lambda: zoo.build("residual"), "depthwise", lambda: zoo.pictures()),
    "nested": (lambda: zoo.build("transfer"), "join", lambda: zoo.pictures()),
    "shared": (lambda: zoo.build("shared"), "inside#2", lambda: zoo.pictures()),
}


def _koala():
    return images.sample("koala")


@pytest.mark.parametrize("rule", ["deconv", "gradient", "guided"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_explicit_network_equals_back_propagation(case, rule):
    build, layer, make = CASES[case]
    model, pictures = build(), make().astype("float32")
    maps = engine.run(submodels.activations(model, layer), pictures)[layer]
    seed = (np.random.default_rng(1).normal(size=maps.shape) * (maps > 0)).astype("float32")
    wanted = backpropagated(model, layer, pictures, seed, rule)
    result = engine.run(submodels.deconvnet(model, layer, rule), pictures, seed)
    assert np.linalg.norm(wanted) > 0
    # The same sums in another order: float32 rounding, as the issue of the two ways to write one thing allows.
    assert np.linalg.norm(result - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_the_rules_differ():
    model, pictures = models.load("vgg19", size=64), images.batch(_koala(), size=64)
    deconvolved = deconv.project(model, pictures[0], "block3_conv1", rule="deconv")
    gradient = deconv.project(model, pictures[0], "block3_conv1", rule="gradient")
    assert np.linalg.norm(deconvolved - gradient) > 0.1 * np.linalg.norm(gradient)


@pytest.mark.parametrize(("ceiling", "wanted"), [(None, [10, 0, 0, 20]), (3.0, [6, 0, 0, 6])])
def test_deconv_rule_on_a_sum_of_squares(ceiling, wanted):
    """The signal at y = ReLU(x) for Σ y² is 2y; x = [5, −1, −2, 10]."""
    model = keras.Sequential([keras.Input((2, 2, 1)), L.ReLU(max_value=ceiling, name="relu")])
    x = np.array([5.0, -1.0, -2.0, 10.0], "float32").reshape(1, 2, 2, 1)
    seed = 2 * model(x).numpy()
    np.testing.assert_allclose(engine.run(submodels.deconvnet(model, "relu"), x, seed).ravel(), wanted)


def test_a_negative_signal_does_not_pass_a_relu_and_a_silent_place_does():
    model = keras.Sequential([keras.Input((2, 2, 1)), L.ReLU(name="relu")])
    x = np.array([5.0, -1.0, 5.0, -1.0], "float32").reshape(1, 2, 2, 1)
    seed = np.array([1.0, 1.0, -1.0, -1.0], "float32").reshape(1, 2, 2, 1)
    back = {
        rule: engine.run(submodels.deconvnet(model, "relu", rule), x, seed).ravel() for rule in ("deconv", "gradient")
    }
    np.testing.assert_array_equal(back["deconv"], [1, 1, 0, 0])
    np.testing.assert_array_equal(back["gradient"], [1, 0, -1, 0])


def test_unpooling_puts_values_at_their_switches_and_adds_up_what_meets():
    model = keras.Sequential([keras.Input((3, 3, 1)), L.MaxPooling2D(2, 1, name="pool")])
    x = np.array([[0, 1, 0], [2, 9, 3], [0, 4, 0]], "float32").reshape(1, 3, 3, 1)  # 9 wins all four windows
    seed = np.array([[1, 10], [100, 1000]], "float32").reshape(1, 2, 2, 1)
    back = engine.run(submodels.deconvnet(model, "pool"), x, seed)[0, ..., 0]
    np.testing.assert_array_equal(back, [[0, 0, 0], [0, 1111, 0], [0, 0, 0]])


def test_ties_go_where_the_forward_pass_went():
    model = keras.Sequential([keras.Input((4, 4, 2)), L.MaxPooling2D(2, name="pool")])
    x = np.zeros((1, 4, 4, 2), "float32")  # every window is a tie
    seed = np.arange(1, 9, dtype="float32").reshape(1, 2, 2, 2)
    back = engine.run(submodels.deconvnet(model, "pool"), x, seed)
    np.testing.assert_array_equal(back, backpropagated(model, "pool", x, seed, "gradient"))
    assert back.sum() == seed.sum() and (back != 0).sum() == 8  # each value once, and not at all four places


def test_switches_against_the_slow_obvious_search():
    model, picture = zoo.build("functional"), zoo.pictures(1)[0]
    maps = engine.run(submodels.activations(model, "conv1"), picture[None])["conv1"][0]
    found = deconv.switches(model, picture, "pool1")
    for row, column, channel in np.ndindex(8, 8, 6):
        window = maps[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        place = np.unravel_index(window.argmax(), (2, 2))
        assert tuple(found[row, column, channel]) == (2 * row + place[0], 2 * column + place[1])
    with pytest.raises(ValueError, match="'conv1' is a Conv2D.*'pool1'"):
        deconv.switches(model, picture, "conv1")


def test_switches_are_of_one_picture_and_of_keras_own_pooling():
    class Own(L.MaxPooling2D):
        pass

    with pytest.raises(ValueError, match="a batch of 3"):
        deconv.switches(zoo.build("functional"), zoo.pictures(3), "pool1")
    model = keras.Sequential([keras.Input((8, 8, 3)), Own(name="own"), L.MaxPooling2D(name="pool")])
    with pytest.raises(ValueError, match="'own' is a Own.*'pool'"):
        deconv.switches(model, np.zeros((8, 8, 3)), "own")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("rule", ["deconv", "gradient", "guided"])
def test_projections_of_every_float_type_are_float32(policy, rule):
    def build(dtype):
        picture = keras.Input((16, 16, 3), name="image")
        x = L.Conv2D(6, 3, padding="same", activation="relu", name="conv", dtype=dtype)(picture)
        x = L.MaxPooling2D(name="pool", dtype=dtype)(x)
        x = L.Conv2D(4, 3, activation="relu", name="last", dtype=dtype)(x)
        return keras.Model({"image": picture}, {"map": x})

    plain, model = build("float32"), build(policy)
    plain.get_layer("last").bias.assign([5.0] * 4)  # no unit is off, or about to be
    model.set_weights(plain.get_weights())
    picture = np.random.default_rng(2).uniform(0, 4, (16, 16, 3)).astype("float32")
    expected, found = (deconv.project(m, picture, "last", 1, (3, 4), rule) for m in (plain, model))
    assert found.dtype == np.float32 and np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    best = deconv.top_projections(model, "last", 1, picture, count=1)
    assert best.projections.dtype == best.patches.scores.dtype == np.float32
    if policy == "float64":
        np.testing.assert_array_equal(*(deconv.switches(m, picture, "pool") for m in (plain, model)))


def test_project_chooses_what_it_says():
    model, picture = zoo.build("functional"), zoo.pictures(1)[0]
    maps = engine.run(submodels.activations(model, "relu2"), picture[None])["relu2"][0]
    row, column, channel = np.unravel_index(maps.argmax(), maps.shape)
    strongest = deconv.project(model, picture, "relu2")
    np.testing.assert_array_equal(strongest, deconv.project(model, picture, "relu2", int(channel)))
    np.testing.assert_array_equal(strongest, deconv.project(model, picture, "relu2", int(channel), (row, column)))
    everywhere = deconv.project(model, picture, "relu2", int(channel), "all")
    back = submodels.deconvnet(model, "relu2")
    seed = np.zeros_like(maps)
    seed[..., channel] = maps[..., channel]
    np.testing.assert_allclose(everywhere, engine.run(back, picture[None], seed[None])[0], atol=1e-6)
    assert everywhere.shape == picture.shape and (everywhere < 0).any()


def test_project_stays_inside_the_receptive_field():
    model, picture = models.load("vgg19", size=64), images.batch(_koala(), size=64)[0]
    pixels = deconv.project(model, picture, "block2_conv2", position=(10, 12))
    top, left, bottom, right = units.receptive_field(model, "block2_conv2", (10, 12)).clipped
    assert np.abs(pixels[top:bottom, left:right]).max() > 0
    pixels[top:bottom, left:right] = 0
    assert not pixels.any()


def test_a_batch_gives_each_picture_its_own():
    model, pictures = zoo.build("residual"), zoo.pictures(3)
    together = deconv.project(model, pictures, "join")
    for picture, own in zip(pictures, together, strict=True):
        np.testing.assert_allclose(deconv.project(model, picture, "join"), own, atol=1e-5)


def test_a_dead_channel_projects_to_zeros_and_says_so():
    model, picture = zoo.build("functional"), zoo.pictures(1)[0]
    kernel, bias = model.get_layer("conv1").get_weights()
    bias[2] = -1000
    model.get_layer("conv1").set_weights([kernel, bias])
    with pytest.warns(UserWarning, match="'conv1', channel 2 is silent"):
        assert not deconv.project(model, picture, "conv1", 2).any()


def test_top_projections_belong_to_their_patches():
    model, pictures = zoo.build("residual"), zoo.pictures(12)
    found = deconv.top_projections(model, "join", 3, pictures, count=4)
    assert found.projections.shape == found.patches.patches.shape
    for index in range(4):
        picture, (top, left, bottom, right) = found.patches.images[index], found.patches.boxes[index]
        whole = np.pad(deconv.project(model, pictures[picture], "join", 3), ((20, 20), (20, 20), (0, 0)))
        np.testing.assert_allclose(
            found.projections[index], whole[top + 20 : bottom + 20, left + 20 : right + 20], atol=1e-6
        )
    with pytest.raises(ValueError, match="read a second time"):
        deconv.top_projections(model, "join", 3, iter(pictures))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "gap"}, "'gap' of .* puts out.*spatial"),
        ({"layer": "nothing"}, "no layer 'nothing'"),
        ({"layer": "conv1", "channel": 6}, "channels 0 to 5"),
        ({"layer": "conv1", "position": (16, 0)}, "16 × 16 positions"),
        ({"layer": "conv1", "position": "best"}, "position is 'best'"),
        ({"layer": "conv1", "position": 3}, "give \\(row, column\\)"),
        ({"layer": "conv1", "channel": 1.0}, "1.0 is not one"),
        ({"layer": "conv1", "channel": True}, "True is not one"),
        ({"layer": "conv1", "rule": "guide"}, "no rule 'guide'"),
    ],
)
def test_bad_questions_are_refused_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        deconv.project(zoo.build("functional"), zoo.pictures(1)[0], **options)


def test_a_picture_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="16 × 16 × 3"):
        deconv.project(zoo.build("functional"), np.zeros((8, 8, 3)), "conv1")


def test_what_cannot_be_run_backwards_is_named():
    swish = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(2, 3, activation="swish", name="own"), L.ReLU(name="end")]
    )
    with pytest.raises(ValueError, match="'own' \\(Conv2D\\).*silu, is no ReLU"):
        submodels.deconvnet(swish, "end")
    picture = keras.Input((8, 8, 3))
    product = keras.Model(picture, L.Multiply(name="product")([picture, L.Conv2D(3, 1)(picture)]))
    with pytest.raises(ValueError, match="'product' \\(Multiply\\).*no transposed counterpart"):
        submodels.deconvnet(product, "product")


def test_the_network_is_a_keras_model_that_shares_its_weights_and_changes_nothing():
    model, pictures = zoo.build("functional"), zoo.pictures(2)
    before = [w.numpy().copy() for w in model.weights]
    back = submodels.deconvnet(model, "conv2")
    assert isinstance(back, keras.Model) and [tuple(x.shape[1:]) for x in back.inputs] == [(16, 16, 3), (6, 6, 8)]
    assert {id(w) for w in back.weights} <= {id(w) for w in model.weights}
    deconv.project(model, pictures, "conv2")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize("side", [4, 5])
def test_without_switches_every_place_of_a_window_gets_the_same_share(side):
    """Also at the border, where a window of `"same"` has fewer places than elsewhere."""
    model = keras.Sequential([keras.Input((side, side, 1)), L.MaxPooling2D(2, padding="same", name="pool")])
    x = np.random.default_rng(0).normal(size=(1, side, side, 1)).astype("float32")
    seed = np.arange(1, 1 + (-(-side // 2)) ** 2).reshape(1, -(-side // 2), -(-side // 2), 1)
    back = engine.run(submodels.deconvnet(model, "pool", switches=False), x, seed)[0, ..., 0]
    for (row, column), value in np.ndenumerate(seed[0, ..., 0]):
        window = back[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_allclose(window, value / window.size)

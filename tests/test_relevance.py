"""Relevance propagation and DeepLIFT: each rule against its formula as a loop, the sums, and what is refused."""

import gc
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import images as pictures_of
from helpers import models, relevance, submodels
from helpers.attribution import rules

from . import zoo

L = keras.layers
RULES = {
    "LRP-0": {"rule": "epsilon", "epsilon": 0},
    "epsilon": {"rule": "epsilon", "epsilon": 0.3},
    "zplus": {"rule": "zplus"},
    "gamma": {"rule": "gamma", "gamma": 0.4},
    "alpha_beta": {"rule": "alpha_beta", "alpha": 3, "beta": 2},
    "alpha 1": {"rule": "alpha_beta", "alpha": 1, "beta": 0},
}
LAYERS = {
    "dense": lambda: L.Dense(7),
    "conv": lambda: L.Conv2D(3, 3, strides=2, padding="same"),
    "dilated": lambda: L.Conv2D(3, 2, dilation_rate=2),
    "grouped": lambda: L.Conv2D(4, 3, groups=2),
    "depthwise": lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "separable": lambda: L.SeparableConv2D(3, 3, depth_multiplier=2),
    "batchnorm": lambda: L.BatchNormalization(),
}


def plain(relevances, contributions):
    """R_i = Σ_j contribution_ij / Σ_i' contribution_i'j · R_j, `contributions` (inputs, outputs), as a loop."""
    shared = np.zeros(len(contributions))
    for j, relevance_of_unit in enumerate(relevances):
        total = sum(contributions[:, j])
        for i in range(len(shared)):
            if total != 0:
                shared[i] += contributions[i, j] / total * relevance_of_unit
    return shared


def by_the_paper(x, weights, bias, relevances, rule, epsilon=0.0, gamma=0.0, alpha=1.0, beta=0.0, low=None, high=None):
    """One linear layer, from the formulas, the bias as one more input that is 1. All arrays are flat, in float64."""
    z = np.vstack([x[:, None] * weights, bias])
    up, down = np.maximum(z, 0), np.minimum(z, 0)
    total = z.sum(0)
    if rule == "epsilon":
        stabiliser = np.where(total < 0, -epsilon, epsilon)
        return plain(relevances, np.vstack([z, stabiliser]))[: len(x)]
    if rule == "zplus":
        return plain(relevances, up)[:-1]
    if rule == "alpha_beta":
        return alpha * plain(relevances, up)[:-1] - beta * plain(relevances, down)[:-1]
    if rule == "gamma":
        return plain(relevances, z + gamma * np.where(total > 0, up, down))[:-1]
    if rule == "flat":
        return plain(relevances, (weights != 0).astype(float))
    if rule == "w2":
        return plain(relevances, weights**2)
    assert rule == "box"
    return plain(
        relevances,
        x[:, None] * weights - low[:, None] * np.maximum(weights, 0) - high[:, None] * np.minimum(weights, 0),
    )


def as_matrix(layer, shape):
    """A linear layer as `(weights (inputs, outputs), bias)`, float64, by what it makes of each unit vector."""
    size = int(np.prod(shape))
    zero = np.asarray(layer(np.zeros((1, *shape), "float32")), "float64").reshape(-1)
    units = np.asarray(layer(np.eye(size, dtype="float32").reshape(size, *shape)), "float64").reshape(size, -1)
    return units - zero, zero


def randomised(model, seed=3):
    """Weights of a spread that makes units on and off; biases and BatchNorm statistics included."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low = 0.5 if variable.name in ("moving_variance", "gamma") else -1.0
        variable.assign(rng.uniform(low, 1.0, variable.shape))
    return model


def everything(outputs):
    return tf.reduce_sum(outputs, tuple(range(1, outputs.shape.rank)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("before", "after"), [("tanh", None), ("relu", "relu")])  # with values of both signs, or not
def test_each_rule_is_its_formula(kind, rule, before, after):
    picture = keras.Input((5, 6, 4))
    x = L.Conv2D(4, 1, activation=before, name="before")(picture)
    layer = LAYERS[kind]()
    y = layer(x)
    y = L.ReLU()(y) if after else y
    model = randomised(keras.Model(picture, L.Flatten()(y)))
    image = np.random.default_rng(0).normal(size=(5, 6, 4)).astype("float32")
    _, found = relevance.lrp(model, image, everything, **RULES[rule], layers=["before"])
    x = submodels.activations(model, "before")(image[None])["before"][0].numpy().astype("float64")
    weights, bias = as_matrix(layer, x.shape)
    scores = x.reshape(-1) @ weights + bias
    wanted = by_the_paper(x.reshape(-1), weights, bias, np.maximum(scores, 0) if after else scores, **RULES[rule])
    np.testing.assert_allclose(found["before"].reshape(-1), wanted, atol=2e-4 * np.abs(wanted).max(), rtol=2e-3)


@pytest.mark.parametrize("first", ["flat", "w2", "box"])
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "batchnorm"])
def test_each_rule_for_the_first_layer_is_its_formula(kind, first):
    picture = keras.Input((5, 6, 4))
    layer = LAYERS[kind]()
    model = randomised(keras.Model(picture, L.Flatten()(layer(picture))))
    image = np.random.default_rng(0).uniform(-1, 2, (5, 6, 4)).astype("float32")
    limits = ((-1, -2, -1, -3), 2.5)
    weights, bias = as_matrix(layer, image.shape)
    x, low, high = (np.broadcast_to(value, image.shape).astype("float64").reshape(-1) for value in (image, *limits))
    scores = x @ weights + bias
    for rule in ("zplus", "composite"):
        found = relevance.lrp(
            model, image, everything, rule=rule, first=first, limits=limits if first == "box" else None
        )
        wanted = by_the_paper(x, weights, bias, scores, first, low=low, high=high)
        np.testing.assert_allclose(found.reshape(-1), wanted, atol=2e-4 * np.abs(wanted).max(), rtol=2e-3)


def test_the_composite_is_epsilon_for_dense_gamma_for_convolutions_flat_for_the_first():
    picture = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, activation="relu", name="first")(picture)
    x = L.Conv2D(4, 3, activation="relu", name="second")(x)
    model = randomised(keras.Model(picture, L.Dense(3, name="dense")(L.Flatten(name="flat")(x))))
    image = np.random.default_rng(0).normal(size=(6, 6, 2)).astype("float32")
    pixels, inside = relevance.lrp(model, image, 1, epsilon=0.2, gamma=0.5, layers=["first", "second", "flat"])
    values = submodels.activations(model, ["first", "second", "flat"])(image[None])
    received = np.zeros(3)
    received[1] = model(image[None])[0, 1]
    for name, layer, rule in (
        ("second", "dense", {"rule": "epsilon", "epsilon": 0.2}),
        ("first", "second", {"rule": "gamma", "gamma": 0.5}),
        (None, "first", {"rule": "flat"}),
    ):
        x = image if name is None else values[name][0].numpy()
        x = x.reshape(-1) if layer == "dense" else x
        linear = submodels.relu_rule(model, "guided").get_layer(layer) if layer == "dense" else model.get_layer(layer)
        twin = type(linear).from_config({**linear.get_config(), "activation": "linear"})
        twin.build((None, *x.shape))
        twin.set_weights(linear.get_weights())
        weights, bias = as_matrix(twin, x.shape)
        wanted = by_the_paper(x.reshape(-1).astype("float64"), weights, bias, received.reshape(-1), **rule)
        found = pixels if name is None else inside[name]
        np.testing.assert_allclose(found.reshape(-1), wanted, atol=1e-4 * np.abs(wanted).max(), rtol=1e-3)
        received = wanted


def bias_free(preprocess=False, activation="relu", width=6):
    """Skip connection, branches, every pooling, depthwise, separable, grouped, strided; nothing adds a constant."""
    picture = keras.Input((17, 17, 3), name="picture")
    x = L.Rescaling(1 / 100, -1.2, name="preprocess")(picture) if preprocess else picture
    options = {"use_bias": False, "activation": activation}
    x = L.Conv2D(width, 3, padding="same", name="conv1", **options)(x)
    x = L.MaxPooling2D(3, 2, name="max")(x)
    y = L.Conv2D(width, 3, padding="same", use_bias=False, name="branch")(x)
    x = L.Add(name="join")([x, y])
    x = L.Concatenate(name="both")([L.DepthwiseConv2D(3, **options)(x), L.SeparableConv2D(4, 3, **options)(x)])
    x = L.AveragePooling2D(2, 1, padding="same", name="average")(x)
    x = L.Dropout(0.5)(L.ZeroPadding2D(1, name="zeros")(x))
    x = L.Conv2D(6, 3, 2, groups=2, name="conv2", **options)(x)
    x = L.Concatenate(name="pooled")([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)])
    model = keras.Model(picture, L.Dense(5, use_bias=False, name="dense")(x))
    rng = np.random.default_rng(5)
    for variable in model.weights:
        if "seed" not in variable.name:
            variable.assign(rng.normal(0.05, 0.4, variable.shape))
    return model


BOTTLENECKS = ["conv1", "max", "join", "both", "average", "zeros", "conv2", "pooled", "dense"]


def large_pictures(count=3, size=17):
    return np.random.default_rng(2).normal(0, 1, (count, size, size, 3)).astype("float32")


def test_lrp_0_is_gradient_times_input_and_keeps_the_sum():
    model, x = bias_free(), tf.constant(large_pictures())
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = model(x)[:, 2]
    wanted = (tape.gradient(score, x) * x).numpy()
    found, inside = relevance.lrp(model, x, 2, rule="epsilon", epsilon=0, layers=BOTTLENECKS)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    for name, own in {"pixels": found, **inside}.items():
        np.testing.assert_allclose(own.sum(tuple(range(1, own.ndim))), score, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("first", ["auto", "flat", "w2", "box"])
@pytest.mark.parametrize("rule", ["zplus", "gamma", "alpha_beta", "composite"])
def test_relevance_is_kept_layer_by_layer(rule, first):
    model = bias_free(preprocess=True, activation="relu6")
    x = np.random.default_rng(0).uniform(0, 255, (4, 17, 17, 3))
    found, inside = relevance.lrp(model, x, rule=rule, first=first, epsilon=1e-9, layers=BOTTLENECKS)
    scores = model(x).numpy().max(1)
    assert (scores > 0.1).all()
    for name, own in {"pixels": found, **inside}.items():
        np.testing.assert_allclose(own.sum(tuple(range(1, own.ndim))), scores, rtol=2e-3, err_msg=name)


def test_sums_and_maxima_share_as_they_should():
    picture = keras.Input((2, 2, 1), name="picture")
    doubled = L.Rescaling(2.0)(L.Conv2D(1, 1, use_bias=False, name="same")(picture))  # no preprocessing here
    join = L.Add(name="join")([doubled, L.MaxPooling2D(1, name="also")(doubled)])
    model = keras.Model(picture, L.Flatten()(L.MaxPooling2D(2, name="max")(join)))
    model.set_weights([np.ones((1, 1, 1, 1))])
    image = np.array([[1.0, 4.0], [2.0, 3.0]])[..., None]
    found, inside = relevance.lrp(model, image, 0, rule="epsilon", layers="all")
    assert list(inside) == submodels.layer_names(model)
    np.testing.assert_allclose(found[..., 0], [[0, 16], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(inside["join"][..., 0], [[0, 16], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(inside["also"][..., 0], [[0, 8], [0, 0]], rtol=1e-5)


HEADS = {
    "rescaling": (lambda x: L.Rescaling([0.5, -1.0, 2.0], [0.1, 0.2, 0.3])(x), None),
    "normalization": (lambda x: L.Normalization(mean=[1, 2, 3], variance=[4, 5, 6])(x), None),
    "operations": (lambda x: (x - np.float32([1, 2, 3])) / 2.0 * 3.0 + 1.0, None),
    "channels": (lambda x: L.Rescaling(1.0, [1.0, 2.0, 3.0])(x[..., ::-1]), np.s_[..., ::-1]),
    "batchnorm": (lambda x: L.BatchNormalization()(x), None),
}


@pytest.mark.parametrize("first", [None, "box"])
@pytest.mark.parametrize("head", HEADS)
def test_preprocessing_is_passed_as_identity_and_the_limits_go_through_it(head, first):
    build, order = HEADS[head]
    picture, direct = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    pad, conv, dense = L.ZeroPadding2D(1), L.Conv2D(4, 3, activation="relu", padding="same"), L.Dense(3)

    def rest(x):
        return dense(L.Flatten()(conv(pad(x))))

    before = keras.Model(picture, build(picture))
    model, bare = randomised(keras.Model(picture, rest(before(picture)))), keras.Model(direct, rest(direct))
    x = np.random.default_rng(0).uniform(0, 10, (2, 8, 8, 3)).astype("float32")
    ends = [before(np.full_like(x, end)).numpy()[0, 0, 0] for end in (0, 10)]
    found = relevance.lrp(model, x, 1, rule="epsilon", first=first, limits=(0, 10) if first else None)
    limits = (np.minimum(*ends), np.maximum(*ends)) if first else None
    wanted = relevance.lrp(bare, before(x).numpy(), 1, rule="epsilon", first=first, limits=limits)
    wanted = wanted[order] if order else wanted
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_limits_are_0_and_255_or_those_of_the_picture():
    model, x = bias_free(), np.random.default_rng(0).uniform(0, 255, (17, 17, 3))
    np.testing.assert_array_equal(
        relevance.deep_taylor(model, x, 0), relevance.deep_taylor(model, x, 0, limits=(0, 255))
    )
    dark = x - 100
    found = relevance.deep_taylor(model, np.stack([dark, x]), [0, 0])
    for image, limits, own in ((dark, (dark.min(), dark.max()), found[0]), (x, (0, 255), found[1])):
        wanted = relevance.deep_taylor(model, image, 0, limits=limits)
        np.testing.assert_allclose(own, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("first", ["box", "flat", "w2"])
def test_deep_taylor_is_never_negative_and_says_where_there_is_no_evidence(first):
    model, x = bias_free(preprocess=True), np.random.default_rng(0).uniform(0, 255, (6, 17, 17, 3))
    scores = model(x).numpy()
    classes = [int(row.argmin() if index % 2 else row.argmax()) for index, row in enumerate(scores)]
    picked = scores[range(6), classes]
    assert (picked[::2] > 0).all() and (picked[1::2] < 0).all()
    with pytest.warns(UserWarning, match=r"pictures \[1, 3, 5\] is not positive"):
        found = relevance.deep_taylor(model, x, classes, first=first)
    assert (found >= -1e-6 * found.max()).all()
    np.testing.assert_allclose(found.sum((1, 2, 3)), np.maximum(picked, 0), rtol=1e-3)


# ----------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_networks_of_every_build_and_a_final_softmax_is_left_out(name):
    model, x = zoo.build(name), zoo.pictures(3)
    found = relevance.lrp(model, x)
    assert found.shape == x.shape and np.isfinite(found).all() and (np.abs(found).max((1, 2, 3)) > 0).all()
    flat = submodels.flatten(submodels.logits(model))
    np.testing.assert_allclose(found, relevance.lrp(flat, x), atol=1e-5 * np.abs(found).max())
    _, inside = relevance.lrp(model, x, 3, layers="all")
    np.testing.assert_allclose(list(inside.values())[-1].sum(-1), flat(x).numpy()[:, 3], rtol=1e-4)
    one = relevance.lrp(model, x[1])
    assert one.shape == x.shape[1:]
    np.testing.assert_allclose(one, found[1], atol=1e-5 * np.abs(found).max())


def test_a_batchnorm_that_folds_leaves_no_trace():
    picture = keras.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(4, 3, name="conv")(picture)))
    model = randomised(keras.Model(picture, L.Dense(3)(L.Flatten()(x))))
    folded, image = submodels.fold_batchnorm(model), large_pictures(2, 8)
    for rule in ("epsilon", "alpha_beta"):
        found, inside = relevance.lrp(model, image, 1, rule=rule, layers=["norm", "conv"])
        wanted = relevance.lrp(folded, image, 1, rule=rule)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
        np.testing.assert_array_equal(inside["norm"], inside["conv"])


def test_relevance_follows_the_weights():
    model, image = zoo.build("functional"), zoo.pictures(1)[0]
    relevance.lrp(model, image, 0)
    for name in ("norm2", "conv1"):
        layer = model.get_layer(name)
        layer.set_weights([weight[::-1] * 1.5 for weight in layer.get_weights()])
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        wanted = relevance.lrp(twin, image, 0)
        np.testing.assert_allclose(relevance.lrp(model, image, 0), wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_function_as_target_starts_from_its_gradient_times_the_logits():
    model, x = zoo.build("residual"), zoo.pictures(2)
    by_index = relevance.lrp(model, x, 3)
    np.testing.assert_allclose(relevance.lrp(model, x, lambda y: y[:, 3]), by_index, atol=1e-6 * np.abs(by_index).max())
    both = relevance.lrp(model, x, 3, rule="epsilon") - relevance.lrp(model, x, 1, rule="epsilon")
    found = relevance.lrp(model, x, lambda y: y[:, 3] - y[:, 1], rule="epsilon")
    np.testing.assert_allclose(found, both, atol=1e-4 * np.abs(both).max())


def test_two_outputs_with_their_softmax_and_sigmoid():
    model, x = zoo.build("two_outputs"), zoo.pictures(2)
    logits = submodels.logits(model)(x)
    probability = 1 / (1 + np.exp(-logits["size"].numpy()[:, 0]))
    _, inside = relevance.lrp(model, x, lambda y: y["size"][:, 0], layers=["size", "kind"])
    start = probability * (1 - probability) * logits["size"].numpy()[:, 0]
    np.testing.assert_allclose(inside["size"][:, 0], start, rtol=1e-4)
    assert not inside["kind"].any()
    found = relevance.deep_lift(model, x, lambda y: y["size"][:, 0])
    difference = model(x)["size"][:, 0] - model(0 * x)["size"][:, 0]
    np.testing.assert_allclose(found.sum((1, 2, 3)), difference, atol=1e-5)


@pytest.mark.parametrize("method", [relevance.lrp, relevance.deep_taylor, relevance.deep_lift])
@pytest.mark.filterwarnings("ignore:The score")
def test_one_picture_or_33_give_the_same_rows(method):
    model, x = zoo.build("functional"), np.abs(zoo.pictures(33))
    whole = method(model, x, 1)
    np.testing.assert_allclose(whole[20:21], method(model, x[20:21], 1), atol=1e-5 * np.abs(whole).max())
    np.testing.assert_allclose(whole, method(model, x, 1, batch=7), atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("name", ["lrp", "deep_taylor", "deep_lift"])
@pytest.mark.filterwarnings("ignore:The score")
def test_the_digits_network_and_pictures_with_nothing_in_them(name):
    model, method = models.load("mnist_cnn"), getattr(relevance, name)
    for value in (0, 255):
        found = method(model, np.full((2, 28, 28, 1), value))
        assert found.shape == (2, 28, 28, 1) and np.isfinite(found).all()
    dead = keras.Sequential([keras.Input((4, 4, 1)), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    dead.set_weights([-np.ones((3, 3, 1, 2)), np.zeros(2), np.ones((8, 2)), np.zeros(2)])
    assert not method(dead, np.ones((4, 4, 1))).any()


# ----------------------------------------------------------------------------------------------------------- DeepLIFT


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_deep_lift_is_complete(name):
    model, x = zoo.build(name), 3 * zoo.pictures(3)
    for baseline in (0.0, 0.5, zoo.pictures(3, seed=9)):
        found, inside = relevance.deep_lift(model, x, 2, baseline=baseline, layers="all")
        difference = (model(x) - model(np.broadcast_to(baseline, x.shape)))[:, 2]
        np.testing.assert_allclose(found.sum((1, 2, 3)), difference, rtol=1e-3, atol=2e-5)
        if name == "functional":  # a chain, so it is complete at every layer up to the softmax
            for layer, own in inside.items():
                np.testing.assert_allclose(own.sum(tuple(range(1, own.ndim))), difference, atol=2e-5, err_msg=layer)


def test_deep_lift_is_complete_through_curves_and_products():
    picture = keras.Input((8, 8, 3))
    x = L.BatchNormalization()(L.Conv2D(4, 3, activation="silu")(picture))
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.MaxPooling2D(2)(L.Multiply()([keras.ops.tanh(x), gate]))
    x = L.LeakyReLU()(L.Conv2D(4, 2)(x))
    model = randomised(keras.Model(picture, L.Dense(3)(L.Flatten()(x))))
    x = large_pictures(3, 8)
    found = relevance.deep_lift(model, x, 0, baseline=x[::-1] * 0.7)
    np.testing.assert_allclose(found.sum((1, 2, 3)), (model(x) - model(x[::-1] * 0.7))[:, 0], rtol=1e-4, atol=1e-4)


def test_deep_lift_next_to_the_picture_is_the_gradient_and_not_rounding():
    picture = keras.Input((4, 4, 1))
    x = L.Dense(1)(L.Dense(6, activation="silu")(L.Flatten()(picture)))
    model, x = randomised(keras.Model(picture, x)), np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    baseline = x * np.float32(1 - 1e-6)
    with tf.GradientTape() as tape:
        tape.watch(tensor := tf.constant(x))
        score = model(tensor)
    wanted = tape.gradient(score, tensor).numpy() * (x - baseline)
    found = relevance.deep_lift(model, x, 0, baseline=baseline)
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_deep_lift_of_a_linear_network_is_gradient_times_difference():
    picture = keras.Input((6, 6, 3))
    x = L.AveragePooling2D(2)(L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(picture)))
    model = randomised(keras.Model(picture, L.Dense(3)(L.Flatten()(x))))
    x = tf.constant(large_pictures(2, 6))
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = model(x)[:, 1]
    wanted = tape.gradient(score, x).numpy() * (x.numpy() - 0.25)
    np.testing.assert_allclose(
        relevance.deep_lift(model, x, 1, baseline=0.25), wanted, atol=1e-5 * np.abs(wanted).max()
    )


def test_deep_lift_sees_what_the_gradient_misses():
    picture = keras.Input((1, 1, 1))  # y = 1 − ReLU(1 − x): flat from x = 1 on
    x = L.Dense(1, name="outer")(L.ReLU()(L.Dense(1, name="inner")(picture)))
    model = keras.Model(picture, L.Flatten()(x))
    model.set_weights([np.array([[-1.0]]), np.ones(1), np.array([[-1.0]]), np.ones(1)])
    image = np.full((1, 1, 1), 2.0)
    assert relevance.deep_lift(model, image, 0).item() == pytest.approx(1.0)
    assert relevance.lrp(model, image, 0, rule="epsilon").item() == 0.0


@pytest.mark.parametrize(
    ("here", "there", "wanted"),
    [((3, 1), (0, 2), (1, 0)), ((0, 1), (5, 2), (-4, 0)), ((1, 7), (5, 2), (0, 2)), ((2, 2), (2, 1), (0, 0))],
)
def test_a_rise_belongs_to_the_maximum_of_the_picture_and_a_fall_to_that_of_the_baseline(here, there, wanted):
    picture = keras.Input((1, 2, 1))
    model = keras.Model(picture, L.Flatten()(L.MaxPooling2D((1, 2))(picture)))
    here, there = (np.array(pair, "float32").reshape(1, 2, 1) for pair in (here, there))
    np.testing.assert_allclose(relevance.deep_lift(model, here, 0, baseline=there).ravel(), wanted, rtol=1e-6)


def test_a_probability_as_target_of_deep_lift_is_complete_too():
    model, x = zoo.build("residual"), 2 * zoo.pictures(3)

    def probability(y):
        return tf.nn.softmax(y)[:, 1]

    found = relevance.deep_lift(model, x, probability)
    np.testing.assert_allclose(found.sum((1, 2, 3)), probability(model(x)) - probability(model(0 * x)), atol=1e-5)


# ------------------------------------------------------------------------------------------------- bundled networks


@pytest.mark.slow
def test_the_bundled_classifier():
    model = models.load("efficientnet_lite0")
    x = pictures_of.batch(*[pictures_of.sample(name) for name in ("koala", "panda")])
    scores, black = model(x).numpy(), model(0 * x).numpy()
    found = relevance.deep_lift(model, x)
    best = scores.argmax(1)
    np.testing.assert_allclose(found.sum((1, 2, 3)), scores[[0, 1], best] - black[[0, 1], best], rtol=1e-4)
    evidence = relevance.deep_taylor(model, x)
    assert evidence.min() >= 0 and (evidence.sum((1, 2, 3)) > 0).all()
    composite, inside = relevance.lrp(model, x, layers=["logits", "pool", "head"])
    for own in inside.values():  # biases of the head keep next to nothing
        np.testing.assert_allclose(own.sum(tuple(range(1, own.ndim))), scores[[0, 1], best], rtol=0.03)
    # The koala and the panda are in the middle of their pictures; the outermost 8 pixels hold little.
    share = composite[:, 8:-8, 8:-8].sum((1, 2, 3)) / composite.sum((1, 2, 3))
    assert (share > 0.95).all()


# --------------------------------------------------------------------------------------------------------- what fails


def unfit(layer):
    picture = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(picture)
    return keras.Model(picture, L.Dense(3, name="dense")(L.Flatten(name="flat")(layer(x))))


@pytest.mark.parametrize(
    ("layer", "message", "lifts"),
    [
        (lambda x: L.Conv2D(4, 3, activation="silu", name="bad")(x), "'bad'.*silu, does not keep the sign", True),
        (lambda x: L.Activation("sigmoid", name="bad")(x), "'bad'.*sigmoid, does not keep the sign", True),
        (lambda x: L.Multiply(name="bad")([x, x]), "'bad'.*multiplies two tensors", True),
        (lambda x: L.Softmax(name="bad")(x), "'bad'.*softmax", False),
        (lambda x: L.Dense(4, activation="softmax", name="bad")(x), "'bad'.*softmax", False),
        (lambda x: L.LayerNormalization(name="bad")(x), "'bad'.*no rule for it", False),
        (lambda x: L.MultiHeadAttention(1, 2, name="bad")(x, x), "'bad'.*no rule for it", False),
        (lambda x: L.Lambda(lambda x: x * x, name="bad")(x), "'bad'.*does not keep the sign", True),
        (lambda x: 1.0 / (x + 1.0), "divide.*does not keep the sign", True),
        (lambda x: L.Conv2DTranspose(4, 3, name="bad")(x), "'bad'.*no rule for it", False),
    ],
)
def test_layers_without_a_rule_are_refused_by_name(layer, message, lifts):
    model = unfit(layer)
    for rule in ("composite", "epsilon", "zplus"):
        with pytest.raises(
            ValueError, match=f"(?i){message}.*Use {'relevance.deep_lift, or ' if lifts else ''}a method"
        ):
            relevance.lrp(model, np.ones((8, 8, 3)), 0, rule=rule)
    with pytest.raises(ValueError, match=f"(?i){message}"):
        relevance.deep_taylor(model, np.ones((8, 8, 3)), 0)
    if lifts:
        x = large_pictures(1, 8)
        np.testing.assert_allclose(relevance.deep_lift(model, x, 0).sum(), (model(x) - model(0 * x))[0, 0], atol=1e-5)
    else:
        with pytest.raises(ValueError, match="has no multiplier.*integrated_gradients"):
            relevance.deep_lift(model, np.ones((8, 8, 3)), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "epsilom"}, "no rule 'epsilom'.*'epsilon'"),
        ({"first": "bocks"}, "no rule for the first layer 'bocks'.*'box'"),
        ({"epsilon": -1}, "epsilon=-1"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"rule": "alpha_beta", "alpha": 2, "beta": 0}, "alpha − beta must be 1"),
        ({"alpha": 0, "beta": -1}, "beta=-1"),
        ({"layers": ["conv9"]}, "no layer 'conv9'.*'conv1'"),
        ({"target": 5}, "0 to 4"),
        ({"images": np.zeros((8, 8, 3))}, "takes pictures of 16"),
        ({"images": np.full((16, 16, 3), np.nan)}, "NaN"),
        ({"images": np.zeros((16, 16))}, "images has shape"),
        ({"first": "box", "limits": (0, 0.5)}, "pixels go from 0 to 1"),
        ({"first": "box", "limits": (5, 0)}, "pixels go from 0 to 1"),
        ({"first": "box", "limits": 3}, "give .lowest, highest."),
        ({"first": "box", "limits": (np.zeros(2), 1)}, "one for each of the 3 channels"),
        ({"limits": (0, 1)}, "are for first='box', and first is 'flat'"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_bad_input(options, message):
    model = zoo.build("functional")
    before = [np.copy(weight) for weight in model.get_weights()]
    images = np.linspace(0, 1, 768).reshape(16, 16, 3)
    with pytest.raises(ValueError, match=message):
        relevance.lrp(model, **{"images": images, **options})
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_bad_input_of_the_others():
    model, images = zoo.build("functional"), zoo.pictures(2)
    with pytest.raises(ValueError, match="first=None.*'box'"):
        relevance.deep_taylor(model, images, first=None)
    with pytest.raises(ValueError, match="The baseline has shape"):
        relevance.deep_lift(model, images, baseline=np.zeros((8, 8, 3)))
    with pytest.raises(ValueError, match="which one is meant"):
        relevance.lrp(zoo.build("two_outputs"), images)


def test_nothing_is_changed_compiled_twice_or_kept_alive():
    model, x = zoo.build("transfer"), zoo.pictures(1)
    before = [np.copy(weight) for weight in model.get_weights()]
    first = relevance.lrp(model, x, 1)
    entries = set(model.__dict__["_helpers_cache"].built)
    np.testing.assert_array_equal(relevance.lrp(model, x, 1), first)
    relevance.lrp(model, x, 3)
    assert set(model.__dict__["_helpers_cache"].built) == entries
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------------ rules and networks of one's own


def ends_in_classes(preprocess, size=12, activation="relu"):
    """What comes before the first layer, and a small network behind it."""
    keras.utils.set_random_seed(0)
    picture = keras.Input((size, size, 3))
    x = L.Conv2D(6, 3, activation=activation, name="conv")(preprocess(picture))
    return keras.Model(picture, L.Dense(4, name="dense")(L.GlobalAveragePooling2D()(x)))


def test_a_rule_of_ones_own_is_used_for_every_layer_with_a_kernel():
    model, x = ends_in_classes(lambda x: L.Conv2D(5, 3, activation="relu")(x)), zoo.pictures(2)[:, :12, :12]
    given = []

    def epsilon(layer, x, relevance, options):
        given.append(layer.kernel.shape.rank)
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = layer.apply(x, layer.kernel) + layer.bias
        ratio = relevance / (z + options.epsilon * tf.where(z < 0, -1.0, 1.0))
        return x * tape.gradient(z, x, output_gradients=ratio)

    options = {"epsilon": 0.1}
    wanted = relevance.lrp(model, x, 1, rule="epsilon", **options)
    np.testing.assert_allclose(relevance.lrp(model, x, 1, rule=epsilon, **options), wanted, atol=1e-6)
    assert given == [2, 4, 4]
    relevance.lrp(model, x, 1, rule=epsilon, epsilon=0.2)
    assert given == [2, 4, 4]  # nothing is compiled again for the same function or for other numbers
    flat = relevance.lrp(model, x, 1, rule="epsilon", first="flat", **options)
    own = relevance.lrp(model, x, 1, rule=epsilon, first=rules.flat, **options)
    np.testing.assert_allclose(own, flat, atol=1e-6)


def test_other_numbers_of_a_rule_add_nothing_to_the_model():
    model, x = ends_in_classes(L.Conv2D(4, 3, activation="relu")), zoo.pictures(1)[:, :12, :12]
    one = relevance.lrp(model, x, 1, gamma=0.1)
    count = len(model.__dict__["_helpers_cache"].built)
    assert np.abs(relevance.lrp(model, x, 1, gamma=0.7) - one).max() > 0
    assert len(model.__dict__["_helpers_cache"].built) == count


FAMILIES = ["vgg16", "resnet", "mobilenet_v2", "densenet", "inception_v3", "efficientnet", "convnext"]
PREPROCESSING = {name: getattr(keras.applications, name).preprocess_input for name in FAMILIES} | {
    "x / 255": lambda x: x / 255.0,
    "x / 127.5 - 1": lambda x: x / 127.5 - 1,
    "Rescaling": L.Rescaling(1 / 127.5, offset=-1),
    "Normalization": L.Normalization(mean=[100.0, 110, 120], variance=[3e3, 2e3, 1e3]),
    "Resizing": L.Resizing(9, 9),
    "CenterCrop": L.CenterCrop(8, 8),
}


@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing_in_the_graph_is_passed(name):
    preprocess = PREPROCESSING[name]
    model = ends_in_classes(preprocess)
    x = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype("float32")
    behind = keras.Model(
        seen := keras.Input(model.get_layer("conv").input.shape[1:]),
        model.layers[-1](model.layers[-2](model.get_layer("conv")(seen))),
    )
    wanted = relevance.lrp(behind, np.asarray(keras.Model(model.input, model.get_layer("conv").input)(x)), 1)
    found = relevance.lrp(model, x, 1)
    if wanted.shape == found.shape:  # each value scaled and shifted by itself, or channels in another order
        np.testing.assert_allclose(found[..., ::-1] if name in ("vgg16", "resnet") else found, wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum((1, 2, 3)), wanted.sum((1, 2, 3)), rtol=1e-3, atol=1e-5)
    lifted = relevance.deep_lift(model, x, 1)
    np.testing.assert_allclose(lifted.sum((1, 2, 3)), (model(x) - model(0 * x)).numpy()[:, 1], rtol=1e-3, atol=1e-5)


def test_the_same_function_inside_of_a_layer_or_behind_it():
    x = zoo.pictures(1)[:, :12, :12]
    for inside, function in ((L.ReLU(negative_slope=0.3), L.ReLU(negative_slope=0.3)), (tf.nn.relu, L.ReLU())):
        one = ends_in_classes(lambda x: x, activation=inside)
        keras.utils.set_random_seed(0)
        picture = keras.Input((12, 12, 3))
        conv, dense = L.Conv2D(6, 3, name="conv"), L.Dense(4)
        other = keras.Model(picture, dense(L.GlobalAveragePooling2D()(function(conv(picture)))))
        other.set_weights(one.get_weights())
        for rule in ("composite", "gamma", "zplus", "alpha_beta", "epsilon"):
            wanted = relevance.lrp(other, x, 1, rule=rule)
            np.testing.assert_allclose(relevance.lrp(one, x, 1, rule=rule), wanted, atol=1e-5 * np.abs(wanted).max())


def test_deep_lift_says_when_a_bent_target_function_makes_it_miss():
    model, x = ends_in_classes(lambda x: x), 3 * zoo.pictures(2)[:, :12, :12]
    here, there = model(x).numpy()[:, 1], model(0 * x).numpy()[:, 1]
    middle = float(0.49 * here[0] + 0.51 * there[0])
    with pytest.warns(UserWarning, match="add up to.*the scores change by.*has a bend"):
        relevance.deep_lift(model, x, lambda y: tf.abs(y[:, 1] - middle))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance.deep_lift(model, x, lambda y: tf.square(y[:, 1] - middle))

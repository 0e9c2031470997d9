"""A layer is recognised by what it computes: by whatever name a function goes, and whatever a class inherits from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import engine, gradients, relevance, submodels
from helpers.submodels import graph, kinds
from tests import zoo

L, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)


def classifier(*layers, head=None):
    """A network of these layers between a convolution and a Dense layer, with weights that tell something."""
    picture = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", name="first")(picture)
    for layer in layers:
        x = layer(x)
    x = L.Dense(4, name="scores")(L.GlobalAveragePooling2D(name="gap")(x))
    return zoo._randomised(keras.Model(picture, head(x) if head else x))


def pictures(count=2):
    return zoo.pictures(count, side=8)


RELUS = {
    "string": "relu",
    "tf": tf.nn.relu,
    "layer": L.ReLU(),
    "lambda": lambda x: tf.maximum(x, 0.0),
    "maximum": lambda x: ops.maximum(x, 0),
    "relu6": tf.nn.relu6,
    "ceiling": L.ReLU(max_value=3.0),
    "slope": L.ReLU(negative_slope=0.3),
    "leaky": L.LeakyReLU(0.3),
    "threshold": L.ReLU(threshold=0.5),
}
OTHERS = {
    "softmax": tf.nn.softmax,
    "sigmoid": tf.nn.sigmoid,
    "silu": tf.nn.swish,
    "gelu": lambda x: keras.activations.gelu(x),
    "tanh": ops.tanh,
    "linear": lambda x: x,
    "elu": L.ELU(),
    "log_softmax": tf.nn.log_softmax,
}


@pytest.mark.parametrize("name", sorted(RELUS))
def test_a_rectifier_is_one_by_whatever_name(name):
    assert kinds.recognised(keras.activations.get(RELUS[name])).is_rectifier
    inside, behind = (
        classifier(L.Conv2D(5, 3, activation=RELUS[name], name="c")),
        classifier(L.Conv2D(5, 3, name="c"), RELUS[name] if name == "layer" else L.Activation(RELUS[name])),
    )
    behind.set_weights(inside.get_weights())
    x = pictures()
    assert submodels.layer_names(inside, "relu") == ["c"] and len(submodels.layer_names(behind, "relu")) == 1
    for rule in ("guided", "deconv"):
        found = zoo.gradient(submodels.relu_rule(inside, rule), x)
        np.testing.assert_allclose(found, zoo.gradient(submodels.relu_rule(behind, rule), x), atol=1e-6)
        assert np.abs(found - zoo.gradient(inside, x)).max() > 1e-3


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_other_functions_are_known_by_what_they_compute_too(name):
    found = kinds.recognised(OTHERS[name])
    assert found.name == name and not found.is_rectifier
    assert found.is_elementwise == ("softmax" not in name) and found.is_affine == (name == "linear")


def test_pooling_and_normalisation_are_no_functions_of_a_place():
    """On a map of one place they would pass for the identity, also in films, along any axis."""
    film, over_time = keras.Input((8, 8, 8, 3)), L.MaxPooling3D((3, 1, 1), 1, padding="same")
    assert not kinds.is_idle(graph.trace(keras.Model(film, over_time(film))).calls[0])
    for layer in (L.MaxPooling2D(3, 1, padding="same"), L.AveragePooling2D(3, 1, padding="same"), L.Resizing(8, 8)):
        call = graph.trace(classifier(layer)).calls[1]
        assert kinds.activation(call) is None and not kinds.is_idle(call)


IDLE = {
    "flip": lambda: L.RandomFlip(),
    "rotation": lambda: L.RandomRotation(0.2),
    "contrast": lambda: L.RandomContrast(0.5),
    "zoom": lambda: L.RandomZoom(0.3),
    "brightness": lambda: L.RandomBrightness(0.5, value_range=(-3, 3)),
    "noise": lambda: L.GaussianNoise(0.9),
    "dropout": lambda: L.Dropout(0.5),
    "spatial dropout": lambda: L.SpatialDropout2D(0.5),
    "alpha dropout": lambda: L.AlphaDropout(0.5),
    "gaussian dropout": lambda: L.GaussianDropout(0.5),
    "regularisation": lambda: L.ActivityRegularization(0.1),
    "identity": lambda: L.Identity(),
    "linear": lambda: L.Activation("linear"),
    "own": lambda: L.Lambda(lambda x: x),
}


@pytest.mark.parametrize("name", sorted(IDLE))
def test_what_only_trains_does_nothing(name):
    layer, conv = IDLE[name](), L.Conv2D(6, 3, activation="relu", name="c")
    picture = keras.Input((8, 8, 3))
    model = zoo._randomised(keras.Model(picture, conv(layer(picture))))
    call = graph.trace(model).calls[0]
    assert kinds.is_idle(call)
    x, seeds = pictures(), [v.numpy().copy() for v in model.non_trainable_variables]
    probe = submodels.activations(model, "c")
    for _ in range(3):
        np.testing.assert_array_equal(probe(x)["c"], conv(x))
    back = submodels.deconvnet(model, "c")
    seed = np.asarray(conv(x))
    np.testing.assert_allclose(
        engine.run(back, x, seed),
        engine.run(submodels.deconvnet(keras.Model(picture, conv(picture)), "c"), x, seed),
        atol=1e-6,
    )
    for before, after in zip(seeds, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)  # no draw was made


# ------------------------------------------------------------------------------------------------------- subclasses


class Standardised(L.Conv2D):
    """Takes the scale out of its kernel, so that BatchNorm folded into it would be lost."""

    def call(self, x):
        mean, variance = tf.nn.moments(self.kernel, (0, 1, 2))
        return tf.nn.conv2d(x, (self.kernel - mean) / tf.sqrt(variance + 1e-5), 1, "VALID") + self.bias


class NormReLU(L.BatchNormalization):
    def call(self, x, training=None, mask=None):
        return ops.relu(super().call(x, training=training))


class Twice(L.Dense):
    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize(
    "layers",
    [
        [lambda: Standardised(6, 3), lambda: L.BatchNormalization()],
        [lambda: L.Conv2D(6, 3), lambda: NormReLU()],
        [lambda: L.BatchNormalization(), lambda: Twice(5)],
        [lambda: L.BatchNormalization(), lambda: Standardised(6, 3)],
    ],
    ids=["convolution", "normalisation", "dense", "convolution behind"],
)
def test_a_subclass_is_not_its_parent(layers):
    model, x = classifier(*[make() for make in layers]), pictures()
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)
    np.testing.assert_allclose(gradients.saliency(model, x, 1), zoo.gradient(model, x), atol=1e-5)
    with pytest.raises(ValueError):
        relevance.lrp(model, x, 1)


class Dotted:
    """A regulariser without a configuration, as readers write them."""

    def __call__(self, x):
        return 1e-3 * ops.sum(x**2)


OWN = {
    "regulariser": [lambda: L.Conv2D(5, 3, kernel_regularizer=Dotted()), lambda: L.BatchNormalization()],
    "initialiser": [
        lambda: L.Conv2D(5, 3, kernel_initializer=lambda shape, dtype=None: tf.random.normal(shape, dtype=dtype)),
        lambda: L.BatchNormalization(),
    ],
    "activation": [
        lambda: L.BatchNormalization(),
        lambda: L.Conv2D(5, 3, activation=lambda x: x * tf.nn.sigmoid(2 * x)),
    ],
    "tf": [lambda: L.BatchNormalization(), lambda: L.Dense(5, activation=tf.nn.softmax)],
    "constraint": [lambda: L.DepthwiseConv2D(3, depthwise_constraint=lambda w: w), lambda: L.BatchNormalization()],
}


@pytest.mark.parametrize("name", sorted(OWN))
def test_what_a_reader_made_for_training_does_not_matter(name):
    model, x = classifier(*[make() for make in OWN[name]]), pictures()
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    assert len(report.folded) == 1 and not submodels.flatten(folded).losses
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)
    np.testing.assert_allclose(gradients.saliency(model, x, 1), zoo.gradient(model, x), atol=1e-5)


class Block(L.Layer):
    """Holds a layer, and has an activation: rebuilt from its configuration its weights would be new ones."""

    def __init__(self, filters, activation, hidden=False, **options):
        super().__init__(**options)
        self.conv, self.activation, self.hidden = L.Conv2D(filters, 3), keras.activations.get(activation), hidden

    def build(self, shape):
        self.conv.build(shape)

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def call(self, x):
        x = self.conv(tf.nn.relu(x) if self.hidden else x)
        return self.activation(x)


def test_a_layer_that_holds_layers_keeps_their_weights():
    model, x = classifier(Block(5, "relu", name="own")), pictures()
    ruled = submodels.relu_rule(model, "guided")
    np.testing.assert_array_equal(ruled(x), model(x))
    own, t = model.get_layer("own"), tf.constant(x)
    plain = classifier(L.Conv2D(5, 3, activation="relu", name="own"))
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(zoo.gradient(ruled, x), zoo.gradient(submodels.relu_rule(plain, "guided"), x), atol=1e-6)
    picture = keras.Input((8, 8, 3))
    ends = keras.Model(picture, Block(4, "softmax")(picture))
    np.testing.assert_allclose(ops.softmax(submodels.logits(ends)(t)), ends(t), atol=1e-6)
    assert own.activation is keras.activations.relu


class Squared(Block):
    """Does something after its activation."""

    def call(self, x):
        return super().call(x) ** 2


def test_a_softmax_that_cannot_be_taken_away_is_refused_by_name():
    picture = keras.Input((8, 8, 3))
    model = keras.Model(picture, Squared(4, "softmax", name="own")(picture))
    with pytest.raises(ValueError, match="'own' \\(Squared\\).*not the last thing"):
        submodels.logits(model)


HIDING = {
    "twice": lambda: L.Conv2D(5, 3, activation=lambda x: 2 * tf.nn.relu(x), name="own"),
    "moved": lambda: L.Activation(lambda x: tf.nn.relu(x - 1), name="own"),
    "own layer": lambda: Block(5, "linear", hidden=True, name="own"),
    "beside its own": lambda: Block(5, "relu", hidden=True, name="own"),
    "lambda": lambda: L.Lambda(lambda x: tf.concat([tf.nn.relu(x), -x], -1), name="own"),
    "wrapper": lambda: L.TimeDistributed(L.Dense(5, activation="relu"), name="own"),
    "maximum": lambda: L.TimeDistributed(L.Dense(5, activation=lambda x: tf.maximum(x, 0.0)), name="own"),
}


@pytest.mark.parametrize("name", sorted(HIDING))
def test_a_hidden_relu_is_told_of(name):
    model = classifier(HIDING[name](), L.ReLU())
    for rule in ("guided", "deconv"):
        with pytest.raises(ValueError, match="ReLUs inside of 'own'"):
            submodels.relu_rule(model, rule)
    with pytest.raises(ValueError, match="ReLUs inside of 'own'"):
        gradients.guided_backprop(model, pictures())


def test_a_layer_of_ones_own_without_a_relu_is_passed():
    model = classifier(Block(5, "tanh", name="own"), L.ReLU())
    assert submodels.relu_rule(model, "guided")(pictures()).shape == (2, 4)


# --------------------------------------------------------------------------------------------------------- endings

ENDS = {
    "tf": lambda: L.Dense(4, activation=tf.nn.softmax, name="end"),
    "lambda": lambda: L.Dense(4, activation=lambda x: ops.softmax(x), name="end"),
    "layer as activation": lambda: L.Dense(4, activation=L.Softmax(), name="end"),
    "layer": lambda: keras.Sequential([L.Dense(4, name="end"), L.Softmax()]),
    "then linear": lambda: keras.Sequential([L.Dense(4, activation="softmax", name="end"), L.Activation("linear")]),
    "then reshape": lambda: keras.Sequential([L.Dense(4, activation="softmax", name="end"), L.Reshape((2, 2))]),
    "sigmoid": lambda: L.Dense(4, activation=tf.nn.sigmoid, name="end"),
}


@pytest.mark.parametrize("name", sorted(ENDS))
def test_logits_know_the_function_by_whatever_name(name):
    model, x = classifier(head=ENDS[name]()), pictures()
    found = np.asarray(submodels.logits(model)(x)).reshape(2, 4)
    scores = submodels.activations(model, "scores")(x)["scores"]
    end = next(layer for layer in submodels.flatten(model).layers if "end" in layer.name)
    np.testing.assert_allclose(found, scores @ end.kernel + end.bias, atol=1e-5)
    again = tf.nn.sigmoid(found) if name == "sigmoid" else tf.nn.softmax(found)
    np.testing.assert_allclose(again, np.asarray(model(x)).reshape(2, 4), atol=1e-5)


@pytest.mark.parametrize("function", [tf.nn.softmax, tf.nn.sigmoid], ids=["softmax", "sigmoid"])
def test_a_temperature_is_no_part_of_the_function(function):
    """softmax(x / 2) of large numbers looks like softmax(x): whoever takes x for its logits is off by a factor of 2."""

    class Cooled(L.Layer):
        def __init__(self):
            super().__init__()
            self.activation = function

        def call(self, x):
            return self.activation(x / 2)

    x = pictures()
    for head in (L.Activation(lambda x: function(x / 2)), Cooled()):
        model = classifier(head=head)
        found, scores = (submodels.logits(model)(x), submodels.activations(model, "scores")(x)["scores"])
        wanted = scores / 2 if isinstance(head, Cooled) else model(x)  # the function is found, or nothing is removed
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_what_clips_far_out_is_not_the_identity():
    found = kinds.recognised(lambda x: ops.clip(x, -128, 200))
    assert not found.is_affine and found.name != "linear"
    assert kinds.recognised(lambda x: ops.clip(x, 0, 255)).is_rectifier


def test_logits_of_heads_that_are_shared_or_of_one_name():
    def head(name):
        features = keras.Input((3,))
        return keras.Model(features, L.Dense(4, activation="softmax", name="end")(features), name=name)

    picture, pool, shared = keras.Input((8, 8, 3)), L.GlobalAveragePooling2D(), L.Dense(4, activation="softmax")
    one, other = pool(picture), pool(L.Conv2D(3, 3)(picture))
    x = pictures()
    for outputs in ([shared(one), shared(other)], [head("a")(one), head("b")(other)]):
        model = zoo._randomised(keras.Model(picture, outputs))
        scores = submodels.logits(model)
        for found, wanted in zip(scores(x), model(x), strict=True):
            np.testing.assert_allclose(tf.nn.softmax(found), wanted, atol=1e-6)
            assert np.abs(np.sum(found, 1) - 1).max() > 0.01
        assert set(submodels.layer_names(scores)) == set(submodels.layer_names(model))


def test_only_the_copy_that_leaves_the_network_is_changed():
    picture = keras.Input((8, 8, 3))
    features = L.Conv2D(6, 3, activation="relu")(picture)
    gate = L.Conv2D(1, 1, activation="sigmoid", name="gate")(features)
    kind = L.Dense(4)(L.GlobalAveragePooling2D()(L.Multiply()([features, gate])))
    model, x = zoo._randomised(keras.Model(picture, [kind, gate])), pictures()
    scores, opened = submodels.logits(model)(x)
    np.testing.assert_allclose(scores, model(x)[0], atol=1e-6)
    np.testing.assert_allclose(tf.nn.sigmoid(opened), model(x)[1], atol=1e-6)
    assert np.abs(np.asarray(opened) - np.asarray(model(x)[1])).max() > 0.1
    assert {"gate", "gate_logits"} <= set(submodels.layer_names(submodels.logits(model)))


def test_a_twin_calls_itself_where_a_layer_holds_its_own_method():
    """Libraries that watch a layer put a function in place of its `call`, and afterwards the method itself."""
    model, x = classifier(L.Conv2D(4, 3, activation="relu", name="watched")), pictures()
    wanted = gradients.guided_backprop(model, x, 1)
    watched = keras.models.clone_model(model)
    watched.set_weights(model.get_weights())
    layer = watched.get_layer("watched")
    layer.call = layer.call
    np.testing.assert_array_equal(gradients.guided_backprop(watched, x, 1), wanted)
    assert np.abs(wanted - gradients.saliency(model, x, 1)).max() > 0

"""Small networks of every build that a reader may bring, with weights that make their outputs tell something."""

import functools

import keras
import numpy as np
import tensorflow as tf

from helpers import models

L = keras.layers


def _randomised(model, seed=0):
    """The model with weights, BatchNorm statistics included, that no test result can hide behind."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "kernel" not in variable.name and "seed" not in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def functional():
    picture = keras.Input((16, 16, 3))
    x = L.Conv2D(6, 3, activation="relu", padding="same", name="conv1")(picture)
    x = L.MaxPooling2D(name="pool1")(x)
    x = L.Conv2D(8, 3, name="conv2")(x)
    x = L.BatchNormalization(name="norm2")(x)
    x = L.ReLU(max_value=6, name="relu2")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(picture, L.Dense(5, activation="softmax", name="answer")(x))


def sequential():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            L.Conv2D(6, 3, name="conv1"),
            L.Activation("relu", name="relu1"),
            L.AveragePooling2D(2, name="pool1"),
            L.Flatten(name="flatten"),
            L.Dense(5, name="dense"),
            L.Softmax(name="softmax"),
        ]
    )


def sequential_without_input():
    model = keras.Sequential([L.Conv2D(6, 3, activation="relu", name="conv1"), L.Flatten(), L.Dense(5, name="dense")])
    model(np.zeros((4, 16, 16, 3), "float32"))
    return model


def residual():
    picture = keras.Input((16, 16, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu", name="stem")(picture)
    y = L.Conv2D(6, 3, padding="same", activation="relu", name="branch")(x)
    x = L.Add(name="join")([x, y])
    x = L.DepthwiseConv2D(3, strides=2, activation="relu6", name="depthwise")(x)
    x = L.GlobalMaxPooling2D(name="gmp")(x)
    return keras.Model(picture, L.Dense(5, name="dense")(x))


def bare_operations():
    picture = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, name="conv1")(picture)
    x = keras.ops.relu(x) + 0.5 * keras.ops.relu6(x)
    return keras.Model(picture, keras.ops.softmax(L.Dense(5, name="dense")(L.Flatten()(x))))


def transfer():
    base = residual()
    base = keras.Model(base.input, base.get_layer("join").output, name="base")
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            L.Rescaling(1 / 64, name="rescaling"),
            base,
            L.GlobalAveragePooling2D(name="gap"),
            L.Dense(5, name="dense"),
        ]
    )


def two_levels():
    inner = keras.Sequential(
        [keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="conv1"), L.BatchNormalization(), L.ReLU()], name="inner"
    )
    picture = keras.Input((16, 16, 3))
    middle = keras.Model(picture, L.Conv2D(4, 3, name="conv1")(inner(picture, training=False)), name="middle")
    picture = keras.Input((16, 16, 3))
    x = L.Conv2D(3, 3, padding="same", activation="relu", name="conv1")(picture)
    return keras.Model(picture, L.Dense(5, name="dense")(L.GlobalAveragePooling2D()(middle(x))), name="outer")


def shared():
    twice = L.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    block = keras.Sequential(
        [keras.Input((16, 16, 3)), L.Conv2D(3, 1, name="inside"), L.ReLU(name="relu")], name="block"
    )
    picture = keras.Input((16, 16, 3))
    x = block(twice(block(twice(picture))))
    return keras.Model(picture, L.Dense(5, name="dense")(L.GlobalAveragePooling2D()(x)))


def two_outputs():
    picture = keras.Input((16, 16, 3))
    trunk = L.Conv2D(4, 3, activation="relu", name="trunk")(picture)
    pooled = L.GlobalAveragePooling2D(name="gap")(trunk)
    kind = L.Dense(5, activation="softmax", name="kind")(pooled)
    size = L.Dense(1, activation="sigmoid", name="size")(pooled)
    return keras.Model(picture, {"kind": kind, "size": size})


MODELS = {
    build.__name__: build
    for build in (
        functional,
        sequential,
        sequential_without_input,
        residual,
        bare_operations,
        transfer,
        two_levels,
        shared,
        two_outputs,
    )
}


def build(name):
    return _randomised(MODELS[name]())


@functools.cache
def common(name):
    """`build(name)`, once for all tests of a worker that change nothing of it: what they compile, they share."""
    keras.utils.set_random_seed(0)  # the same network whichever test comes first
    model = build(name)
    BUILT.append((model, model.get_weights()))
    return model


BUILT = []  # the shared networks, and the weights that they began with


def pictures(count=3, seed=1, side=16):
    return np.random.default_rng(seed).normal(0, 1, (count, side, side, 3)).astype("float32")


def gradient(model, x, score=lambda outputs: outputs[:, 1]):
    """The gradient of each picture's score by that picture, by the tape alone."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = score(model(x, training=False))
    return tape.gradient(values, x).numpy()


def efficientnet_lite0(size=224, seed=0):
    """EfficientNet-Lite0 with random weights and with its BatchNorm layers, which `models.load` has folded away.

    Their statistics are random too. For measuring what folding changes: the answers mean nothing.
    """
    convolutions = L.Conv2D, L.DepthwiseConv2D

    def without_bias(layer):
        bias = {"use_bias": False} if isinstance(layer, convolutions) else {}
        return type(layer).from_config({**layer.get_config(), **bias})

    def with_norm(layer, x):
        is_convolution = isinstance(layer, convolutions)
        return L.BatchNormalization(epsilon=1e-3, name=f"{layer.name}_bn")(layer(x)) if is_convolution else layer(x)

    model = keras.models.clone_model(
        models.load("efficientnet_lite0", size, None), clone_function=without_bias, call_function=with_norm
    )
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            gamma, beta, mean, variance = (random.uniform(-0.5, 0.5, layer.gamma.shape) for _ in range(4))
            layer.set_weights([1 + gamma, beta, mean, 1 + variance])
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            inputs = np.prod(kernel.shape[: 2 if isinstance(layer, L.DepthwiseConv2D) else -1])
            layer.set_weights([random.normal(0, np.sqrt(2 / inputs), kernel.shape), *bias])  # keeps the signal's scale
    return model


def application(name, size=224):
    """A `keras.applications` network with random weights and non-trivial BatchNorm statistics, ending in logits."""
    options = {"weights": None, "classifier_activation": None, "input_shape": (size, size, 3)}
    return _randomised(getattr(keras.applications, name)(**options))

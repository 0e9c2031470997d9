"""What all attribution methods share: which score of which network is explained for which pictures.

A method is `method(model, images, target=None, …)`. It starts with `prepare`, which checks what it was given, and works
on the `Task` that comes back: the network with BatchNorm folded (the same function, in fewer operations), the
pictures as a batch, and one target for each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..pictures import images as pictures
from ..submodels import engine, taps
from ..submodels.folding import following
from ..submodels.graph import trace

OWN = -1  # the target that stands for: whatever class is the most probable in this very pass


class Task(NamedTuple):
    """What is to be explained."""

    model: keras.Model  # equal to the reader's, BatchNorm folded where that is exact; layers go by the same names
    images: np.ndarray  # (B, H, W, C) float32
    targets: np.ndarray  # (B,) int32: index of the logit; zeros if the reader gave a function
    score: Callable  # (outputs, targets) → (B,) tensor: what is explained
    single: bool  # one picture without a batch axis was given
    key: Any  # the reader's function, or None: what compiled functions depend on, besides the network

    @property
    def shell(self):
        """The task without its pictures: what a compiled function refers to, because it outlives them."""
        return self._replace(images=None, targets=None)

    def answer(self, values):
        """Values with a batch axis, as the reader gave the pictures: without that axis for one picture."""
        values = np.asarray(values, "float32")
        return values[0] if self.single else values


def prepare(model, images, target=None, *, layers=(), resolve=True):
    """Check a model, its pictures and the target, and return the `Task`.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input. Explained is what it puts out: of a network
            that ends in softmax that is a probability, and `submodels.logits(model)` explains its logits.
        images: `(B, H, W, C)`, or one picture `(H, W, C)`, raw, as the model takes it.
        target: None (the class that is the most probable for each picture), an int (that output), one int for each
            picture, or a function `outputs → (B,)` of what the model puts out, in TensorFlow operations.
        layers: names of the layers that the method will look at. Folding changes what a few layers put out; if one of
            them is asked for, nothing is folded.
        resolve: False leaves `target=None` to the pass itself (`OWN`), which spares a method of one pass another one.

    Raises:
        ValueError: no graph of layers, pictures of the wrong shape or with NaN, a target out of range or not one for
            each picture, an int for a model without one row of numbers for each picture.
    """
    trace(model)  # first, since it says best what is wrong with a model that is no graph
    batch, single = engine.as_batch(model, images)
    network, changed = following(model)
    if changed & {_canonical(model, name) for name in layers}:
        network = model
    if callable(target):
        score, key, targets = _score_of(target), target, np.zeros(len(batch), "int32")
    else:
        score, key, targets = _logit, None, _checked_targets(model, target, len(batch))
    task = Task(network, batch, targets, score, single, key)
    if resolve and key is None and (targets == OWN).any():
        task = task._replace(targets=engine.run(network, batch).argmax(-1).astype("int32"))
    return task


def _score_of(function):
    def score(outputs, targets):
        values = tf.convert_to_tensor(function(outputs))
        if values.shape.rank != 1:
            raise ValueError(
                f"The target function returned shape {tuple(values.shape)}: return one score for each picture, (B,)."
            )
        return tf.cast(values, "float32")

    return score


def classes(outputs, targets):
    """The targets `(B,)`, with the most probable class in place of `OWN`."""
    return tf.where(targets == OWN, tf.argmax(outputs, -1, targets.dtype), targets)


def _logit(outputs, targets):
    return tf.gather(outputs, classes(outputs, targets), batch_dims=1)


def _checked_targets(model, target, count):
    """One class for each picture, `(B,)` int32."""
    how = "Give a function of the outputs instead, for instance target=lambda outputs: …"
    shapes = [tuple(x.shape) for x in keras.tree.flatten(model.outputs)]
    if len(shapes) > 1:
        raise ValueError(f"Model {model.name!r} has {len(shapes)} outputs, {shapes}: which one is meant? {how}")
    if len(shapes[0]) != 2:
        raise ValueError(
            f"Model {model.name!r} puts out {shapes[0]}, not one number for each class, so there is no class to "
            f"explain. {how}, such as target=lambda maps: tf.reduce_mean(maps[..., 3], axis=(1, 2))."
        )
    if target is None:
        return np.full(count, OWN, "int32")
    given = np.asarray(target)
    if given.dtype.kind not in "iu" or given.ndim > 1 or given.ndim == 1 and len(given) != count:
        raise ValueError(
            f"target={target!r}: give None, an int, one int for each of the {count} pictures, or a function "
            "of the outputs."
        )
    classes = shapes[0][-1]
    if given.size and not (0 <= given.min() and given.max() < classes):
        raise ValueError(f"target={target!r}: model {model.name!r} has {classes} outputs, 0 to {classes - 1}.")
    return np.broadcast_to(given, count).astype("int32")


def _canonical(model, name):
    """The name in `layer_names` of a layer that the reader may also have given by its full path."""
    graph = trace(model)
    return graph.calls[graph.index(name)].name


def compiled(task, name, function):
    """`function`, compiled once for the model and the kind of target.

    Args:
        task: from `prepare`.
        name: hashable, and different for different functions and options.
        function: of tensors, to tensors. It is kept, so it must not hold on to pictures: let it use `task.shell`.
    """
    # Of a reader's own function only the latest is kept: a new lambda with each call must not pile up.
    slot = engine.cached(task.model, ("attribution", name, task.key is None), dict)
    if slot.get("key", slot) is not task.key:
        slot["key"], slot["function"] = task.key, tf.function(function, autograph=False, reduce_retracing=True)
    return slot["function"]


def scores(task):
    """A compiled function `(pictures, targets) → (B,)` scores."""
    task = task.shell

    def forward(x, targets):
        return task.score(task.model(x, training=False), targets)

    return compiled(task, "scores", forward)


def gradients(task):
    """A compiled function `(pictures, targets) → (scores (B,), gradient of each picture's score (B, H, W, C))`."""
    task = task.shell

    def backward(x, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            score = task.score(task.model(x, training=False), targets)
        return score, tape.gradient(score, x, unconnected_gradients="zero")

    return compiled(task, "gradients", backward)


def layer_gradients(task, layers):
    """A compiled function `(pictures, targets) → (scores, {layer: activation}, {layer: gradient by it})`.

    Nothing before the deepest of the layers is differentiated, and the network need not have a bottleneck there.
    """
    task, layers = task.shell, tuple(layers)
    graph = trace(task.model)
    taps = engine.cached(
        task.model,
        ("taps", layers),
        lambda: graph.model([{name: graph.tensor(name) for name in layers}, graph.outputs]),
    )

    def backward(x, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)  # else nothing is recorded; what no output needs is dropped when the function is compiled
            activations, outputs = taps(x, training=False)
            score = task.score(outputs, targets)
        return score, activations, tape.gradient(score, activations, unconnected_gradients="zero")

    return compiled(task, ("layer_gradients", layers), backward)


def spatial_layer(model, layer=None):
    """Check that a layer has spatial axes, or find the last one that has (more than one position, that is).

    Raises:
        ValueError: no such layer, or one without spatial axes.
    """
    graph = trace(model)
    if layer is not None:
        return taps.spatial(model, layer)
    spatial = [
        call.name
        for call in graph.calls
        if isinstance(call.operation, keras.layers.Layer)
        and taps.is_spatial(call.outputs)
        and tuple(call.outputs.shape[1:3]) != (1, 1)
    ]
    if not spatial:
        raise ValueError(f"Model {model.name!r} has no layer with spatial axes: there is no map to draw.")
    return spatial[-1]


def baseline(task, value=0.0):
    """The pictures that the given ones are compared with, `(B, H, W, C)` float32.

    Args:
        task: from `prepare`.
        value: a number (each pixel), one picture `(H, W, C)`, or one for each `(B, H, W, C)`.

    Raises:
        ValueError: another shape, or NaN.
    """
    given = np.asarray(value, "float32")
    shape = task.images.shape
    if given.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"The baseline has shape {given.shape}: give a number, one picture {shape[1:]}, or one for each {shape}."
        )
    if not np.isfinite(given).all():
        raise ValueError("The baseline has NaN or infinite pixels.")
    return np.broadcast_to(given, shape)


def upsample(maps, size):
    """Maps `(B, h, w)` brought to `size`, (height, width), float32."""
    return np.stack([pictures.resize(one, size) for one in maps])

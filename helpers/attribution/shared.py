"""What all attribution methods share: which score of which network is explained for which pictures.

A method is `method(model, images, target=None, …)`. It starts with `prepare`, which checks what it was given, and works
on the `Task` that comes back: the network with BatchNorm folded (the same function, in fewer operations), the
pictures as a batch, and one target for each.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..pictures import images as pictures
from ..submodels import engine, folding, taps
from ..submodels.graph import ids, trace
from ..submodels.memory import cached
from .targets import AGAINST, ONE_EACH, check, check_function, logit, one_sigmoid, only, score_of


class Task(NamedTuple):
    """What is to be explained."""

    model: keras.Model  # computes what the reader's does, BatchNorm folded; layers go by the same names
    images: np.ndarray  # (B, H, W, C) float32
    targets: np.ndarray  # (B,) int32: index of the output, or `AGAINST`; zeros if the reader gave a function
    score: Callable  # (outputs, targets) → (B,) float32 tensor: what is explained
    single: bool  # one picture without a batch axis was given
    key: Any  # the reader's function, or None: what compiled functions depend on, besides the network
    layers: tuple  # names of the layers that the method looks at

    @property
    def shell(self):
        """The task without its pictures: what a compiled function refers to, because it outlives them."""
        return self._replace(images=None, targets=None)

    def run(self, function, *more, batch, **options):
        """What a function `(pictures, targets, *more)` makes of all pictures, as `engine.run`."""
        return engine.run(function, self.images, self.targets, *more, batch=batch, **options)

    def answer(self, values):
        """Values with a batch axis, as the reader gave the pictures: without that axis for one picture."""
        values = np.asarray(values, "float32")
        return values[0] if self.single else values


def prepare(model, images, target=None, *, layers=(), resolve=True):
    """Check a model, its pictures and the target, and return the `Task`.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input. Explained is what it puts out: of a network
            that ends in softmax that is a probability, and `submodels.logits(model)` explains its logits.
        images: `(B, H, W, C)`, or one picture `(H, W, C)`, raw, as the model takes it. A model of whole numbers
            (uint8) is run in float32, so that a pixel has a gradient.
        target: None (each picture's own answer: the class that is the most probable; of one sigmoid the output, or
            where it is below 0.5 its negative; of any other one output that output), an int (that output), one int
            for each picture, or a function `outputs → (B,)` of what the model puts out, in TensorFlow operations.
        layers: that the method looks at (`spatial_layer`). If folding changes what one puts out, nothing is folded.
        resolve: False leaves `target=None` to the pass itself (`OWN`), which spares a method of one pass another one.

    Raises:
        ValueError: no graph of layers, pictures of the wrong shape or with NaN, a target out of range or not one for
            each picture, an int for a model without one row of numbers for each picture.
    """
    batch, single = engine.as_batch(model, images)
    layers = tuple(dict.fromkeys(spatial_layer(model, layer) for layer in layers))
    network, changed = folding.following(model)
    if changed and layers:
        graph = trace(model)
        network = model if changed & {graph.calls[graph.index(layer)].name for layer in layers} else network
    network = _of_floats(network, batch)
    if callable(target):
        check_function(model, target)
        return Task(network, batch, np.zeros(len(batch), "int32"), score_of(target), single, target, layers)
    targets = check(model, target, len(batch))
    binary = target is None and one_sigmoid(model)
    if binary or target is None and resolve:
        outputs = only(engine.run(network, batch))
        targets = np.where(outputs[:, 0] < 0.5, AGAINST, 0) if binary else outputs.argmax(-1)
    return Task(network, batch, targets.astype("int32"), logit, single, None, layers)


def _of_floats(model, batch):
    """The same network of one float32 tensor, where it takes whole numbers, or its picture in a dict or a list."""
    [given] = model.inputs
    bare = isinstance(model, keras.Sequential) or keras.backend.is_keras_tensor(model.input)
    if bare and keras.backend.is_float_dtype(given.dtype):
        return model

    def build():
        graph = trace(model)
        network, whole = graph._replace(inputs=only(graph.inputs)).model(), batch[:1].astype(given.dtype)
        for one, two in zip(*(keras.tree.flatten(engine.run(net, whole)) for net in (model, network)), strict=True):
            if not np.allclose(one, two, rtol=1e-3, atol=1e-3 * np.abs(one).max()):
                raise ValueError(
                    f"Model {model.name!r} computes with {given.dtype} before it turns that into float32, so its "
                    "pixels have no gradient. Rebuild it with keras.Input(shape, dtype='float32')."
                )
        return network

    return cached(model, "of floats", build)


def compiled(task, name, function):
    """`function`, of tensors to tensors, compiled once for the model, the kind of target and the hashable `name`.

    It is kept, so it must not hold on to pictures: let it use `task.shell`.
    """
    # Of a reader's own function only the latest is kept: a new lambda with each call must not pile up.
    slot = cached(task.model, ("attribution", name, task.key is None), dict)
    if slot.get("key", slot) != task.key:
        ready = tf.function(function, autograph=False, reduce_retracing=True)
        slot["key"], slot["function"] = task.key, ready if task.key is None else _in_words(ready)
    return slot["function"]


def _in_words(function):
    """A compiled function that says in words what the scores of a reader's target function turned out to be."""

    def call(*arguments):
        try:
            return function(*arguments)
        except tf.errors.InvalidArgumentError as error:
            if ONE_EACH not in error.message:
                raise
        raise ValueError(f"The target function gave another number of scores than of pictures: {ONE_EACH}.")

    return call


def scores(task):
    """A compiled function `(pictures, targets) → (B,)` scores."""
    task = task.shell
    return compiled(task, "scores", lambda x, targets: task.score(task.model(x, training=False), targets))


def slopes(tape, score, by, what="the pictures"):
    """The gradient of scores, float32, by tensors. What has none is refused, by the words `what`: it is not zero."""
    found = tape.gradient(score, by)
    if any(x is None for x in keras.tree.flatten(found)):
        raise without_gradient(what)
    return keras.tree.map_structure(lambda x: tf.cast(x, "float32"), found)


def without_gradient(what):
    """What a reader is told of a score of which TensorFlow has no gradient by `what`."""
    return ValueError(
        f"The score has no gradient by {what}: either it does not depend on that at all, or an operation in between "
        "hides how (argmax, rounding, a cast to whole numbers, stop_gradient). Ask for another score, or use a method "
        "that needs no gradient, such as perturbation.occlusion."
    )


def gradients(task):
    """A compiled function `(pictures, targets) → (scores (B,), gradient of each picture's score (B, H, W, C))`."""
    task = task.shell

    def backward(x, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            score = task.score(task.model(x, training=False), targets)
        return score, slopes(tape, score, x)

    return compiled(task, "gradients", backward)


def layer_gradients(task, layers):
    """A compiled function `(pictures, targets) → (scores, {layer: activation}, {layer: gradient by it})`, float32.

    Nothing before the first of the layers is differentiated, and the network need not have a bottleneck there.
    """
    task, layers = task.shell, tuple(layers)

    def backward(x, targets):
        graph = trace(task.model)
        stops = sorted({graph.index(name) + 1 for name in layers} | {len(graph.calls)})
        values = {id(only(graph.inputs)): tf.cast(x, only(graph.inputs).dtype)}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for start, stop in itertools.pairwise([0, *stops]):  # what is watched as it is made has a gradient
                values = graph.values(values, graph.calls[start:stop])
                activations = {name: values[id(x)] for name in layers if id(x := graph.tensor(name)) in values}
                tape.watch(activations)
            score = task.score(keras.tree.map_structure(lambda x: values[id(x)], graph.outputs), targets)
        by_layer = slopes(tape, score, activations, " and ".join(map(repr, layers)))
        return score, keras.tree.map_structure(lambda x: tf.cast(x, "float32"), activations), by_layer

    return compiled(task, ("layer_gradients", layers), backward)


def spatial_layer(model, layer=None):
    """The name of a layer with spatial axes; any other is refused.

    None is the last one that has more than one position and comes after one with a kernel: neither the picture, however
    preprocessed, nor its border.
    """
    if layer is None:
        return cached(model, "last spatial layer", lambda: _last_spatial(model))
    trace(model).index(layer)  # the input is no layer
    return taps.spatial(model, layer)


def _last_spatial(model):
    learned, found = set(), None  # the tensors that something with a kernel has worked on
    for call in trace(model).calls:
        operation, tensor = call.operation, call.outputs
        has_kernel = any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))
        if has_kernel and not isinstance(operation, keras.layers.Normalization) or learned & set(ids(call.inputs)):
            learned.update(ids(tensor))
            shown = isinstance(operation, keras.layers.Layer) and not isinstance(operation, keras.layers.ZeroPadding2D)
            if shown and taps.is_spatial(tensor) and tuple(tensor.shape[1:3]) != (1, 1):
                found = call.name
    if found is None:
        raise ValueError(
            f"Model {model.name!r} has no layer with spatial axes after one with a kernel: there is no map to draw. "
            "gradients.saliency and perturbation.occlusion need none."
        )
    return taps.spatial(model, found)


def baseline(task, value=0.0, name="baseline", words=""):
    """The pictures that the given ones are compared with, or what stands in their place: `(B, H, W, C)` float32.

    `value` is a number (each pixel), a colour `(C,)`, one picture `(H, W, C)`, or one for each. Another shape or NaN is
    refused; `name` is what it is called there, and `words` what else may be given.
    """
    given, shape = np.asarray(value, "float32"), task.images.shape
    if given.shape not in ((), shape[3:], shape[1:], shape):
        raise ValueError(
            f"The {name} has shape {given.shape}: give a number, a colour {shape[3:]}, one picture {shape[1:]}, or one "
            f"for each {shape}{words}."
        )
    if not np.isfinite(given).all():
        raise ValueError(f"The {name} has NaN or infinite pixels.")
    return np.broadcast_to(given, shape)


def upsample(maps, size):
    """Maps `(B, h, w)` brought to `size`, (height, width), float32."""
    return np.stack([pictures.resize(one, size) for one in maps])

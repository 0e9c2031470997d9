"""DeepDream: change a photograph until a network sees more of something in it.

After Mordvintsev, Olah and Tyka (2015), "Inceptionism: Going Deeper into Neural Networks", and their notebook.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from .. import submodels
from ..features import units
from ..pictures import images
from ..submodels import engine, taps
from ..submodels.graph import trace


class Objective(NamedTuple):
    """What a picture is to get more of."""

    layers: tuple  # the names of the layers that the score reads
    score: Callable  # a dict, layer name → its output (B, …), to (B,) scores


class Octave(NamedTuple):
    """One size of the picture, with the objective on the unshifted picture before its first and after its last step."""

    size: tuple  # (height, width)
    before: float
    after: float


class Frame(NamedTuple):
    """A dream on the way."""

    octave: int  # from 0
    step: int  # steps done in this octave: 0 for the picture that it begins with
    picture: np.ndarray  # (h, w, C) float32, 0..255, of the octave's size
    score: float | None  # the objective on the unshifted picture, before the first and after the last step


class Dream(NamedTuple):
    """A dreamt picture, and how the objective rose on the way."""

    picture: np.ndarray  # (H, W, C) float32, 0..255
    octaves: list  # of `Octave`, the smallest first


def deep_dream(
    model,
    image,
    objective,
    *,
    octaves=4,
    octave_scale=1.4,
    steps=10,
    step=1.0,
    jitter=32,
    tile=None,
    seed=0,
    progress=True,
):
    """Gradient ascent on the picture itself, from a small size to the full one.

    Each step adds `step · g / mean|g|`, with g the gradient of the objective by the picture, and clips to 0..255. For
    each step the picture is shifted around by a random amount, so that the grid of the network's strides leaves no
    trace. Each octave starts from the photograph at its size plus, enlarged, what the octave before has changed: the
    detail that the smaller size could not hold is back.

    A network of fixed size is laid out again for any size, which works for convolutions, pooling and global pooling.

    Args:
        model: a `keras.Model` that is a graph of layers, from raw pixels 0..255. One that takes something else gets
            its preprocessing in front: `keras.Sequential([keras.Input(…), keras.layers.Rescaling(…), model])`.
        image: `(H, W, C)`, 0..255.
        objective: what there is to be more of:
            a layer name: the mean of its squared outputs, as in the original;
            a dict, layer name → weight: the weighted sum of such means;
            `(layer, channel)`: the mean output of one channel;
            an int: the logit of that class;
            an `Objective`: any function of the outputs of any layers.
        octaves: how many sizes, each smaller than the next by the factor `octave_scale`.
        steps: in each octave.
        step: how far a pixel moves in one step, on average.
        jitter: largest shift down and across, in pixels.
        tile: None, or the side of the windows in which the gradient of a larger picture is computed, one at a time:
            memory is then bounded by the window. The windows cover the picture, those that overlap are averaged, and
            with any jitter the shift is by up to a window, so that seams are everywhere and nowhere. The objective is
            the mean over the windows.
        seed: of the shifts. Same seed, same bits.
        progress: show a bar.

    Returns:
        `Dream`. Where the objective did not rise in an octave, a warning says so.

    Raises:
        ValueError: an unknown layer, channel or class; a class of a network without logits; a picture of the wrong
            shape or range, with NaN, or in one octave of a size that the network does not take; a number out of range;
            a tile smaller than the receptive field of a layer, in which no unit would see all that it can see.
    """
    numbers = {"octaves": octaves, "octave_scale": octave_scale, "steps": steps, "step": step, "jitter": jitter}
    history, before = [], None
    with tqdm(total=octaves * steps, desc="dreaming", disable=not progress, leave=False) as bar:
        for frame in frames(model, image, objective, **numbers, tile=tile, seed=seed):
            if frame.step == 0:
                before = frame.score
                continue
            bar.update()
            if frame.step == steps:
                history.append(Octave(frame.picture.shape[:2], before, frame.score))
    flat = [octave.size for octave in history if not octave.after > octave.before]
    if flat:
        warnings.warn(
            f"The objective did not rise in the octaves of size {flat}. If it is 0, what was asked for is silent here: "
            "take another channel, layer or picture. Else take a smaller step.",
            stacklevel=2,
        )
    return Dream(frame.picture, history)


def frames(model, image, objective, *, octaves=4, octave_scale=1.4, steps=10, step=1.0, jitter=32, tile=None, seed=0):
    """The way of `deep_dream`, one step at a time: to show it as it goes, and to end it at any moment.

    Takes what `deep_dream` takes, and raises what it raises. The last frame has its picture.

    Returns:
        Iterator of `octaves · (steps + 1)` `Frame`s. Each is computed when it is asked for.
    """
    _check_numbers(octaves, octave_scale, steps, step, jitter, tile)
    ascent = _ascent(model, objective)
    photograph = _photograph(ascent.network, image)
    shrunk = [octave_scale**n for n in reversed(range(octaves))]
    sizes = [tuple(max(1, round(side / factor)) for side in photograph.shape[:2]) for factor in shrunk]
    for size in sizes:
        _check_size(ascent.network, size, tile)
    if tile is not None and tile < max(sizes[-1]):
        _check_tile(ascent.model, ascent.layers, tile)
    return _climb(ascent, photograph, sizes, steps, step, jitter, tile, seed)


def _climb(ascent, photograph, sizes, steps, step, jitter, tile, seed):
    random, picture = np.random.default_rng(seed), images.resize(photograph, sizes[0])
    for octave, size in enumerate(sizes):
        picture = resized(picture, photograph, size)
        yield Frame(octave, 0, picture, ascent.measure(picture, tile))
        for done in range(1, steps + 1):
            picture = ascent.step(picture, float(step), _shift(random, jitter, tile), tile)
            yield Frame(octave, done, picture, ascent.measure(picture, tile) if done == steps else None)


def resized(picture, photograph, size):
    """A dream at another size: the photograph in all its detail there, plus what was dreamt, scaled.

    Args:
        picture: `(h, w, C)` float32, a dream of the photograph at any size.
        photograph: `(H, W, C)`, 0..255.
        size: `(height, width)`; that of the picture gives the picture.
    """
    if picture.shape[:2] == tuple(size):
        return picture
    dreamt = picture - images.resize(photograph, picture.shape[:2])
    return np.clip(images.resize(photograph, size) + images.resize(dreamt, size), 0, 255)


def measure(model, image, objective):
    """The objective of `deep_dream` on a picture `(H, W, C)`, 0..255, as it is."""
    ascent = _ascent(model, objective)
    photograph = _photograph(ascent.network, image)
    _check_size(ascent.network, photograph.shape[:2])
    return ascent.measure(photograph, None)


def guided_dream(model, image, guide_image, layer, **options):
    """A dream towards the features of a second photograph.

    The features x at each position of the layer's map are drawn to those features y of the guide, at whatever position,
    for which x · y is largest, as in the original. The objective is the mean of these products, by channels.

    Args:
        model, image: as for `deep_dream`.
        guide_image: `(H, W, C)` of any size, 0..255.
        layer: name of a layer with an output `(B, h, w, c)`.
        **options: those of `deep_dream`.

    Returns:
        `Dream`.

    Raises:
        ValueError: as `deep_dream`, for both pictures; a layer without spatial axes.
    """
    network = _free_size(model, (layer,))
    if not taps.is_spatial(network.outputs[0]):
        raise ValueError(
            f"Layer {layer!r} puts out {tuple(network.outputs[0].shape)}; a guide needs (B, height, width, channels). "
            "submodels.layer_names(model, kind='spatial') lists the layers."
        )
    guide = _photograph(network, guide_image)
    _check_size(network, guide.shape[:2])
    features = engine.run(network, guide[None])[layer]
    features = tf.constant(features.reshape(-1, features.shape[-1]))
    return deep_dream(model, image, Objective((layer,), lambda outputs: _matched(outputs[layer], features)), **options)


def _matched(outputs, guide):
    """(B,): the mean of the largest products of the features `(B, h, w, c)` with those of the guide `(n, c)`, by c."""

    def choose(row):
        return tf.argmax(tf.matmul(row, guide, transpose_b=True), axis=-1)

    shape = tf.shape(outputs)
    rows = tf.reshape(outputs, (-1, shape[2], shape[3]))
    # The choice has no gradient. Made row by row, it never holds all pairs of positions at once.
    best = tf.map_fn(choose, rows, fn_output_signature=tf.int64)
    return tf.reduce_mean(tf.reshape(rows * tf.gather(guide, best), (shape[0], -1)), axis=-1)


def _ascent(model, objective):
    """The `_Ascent` of a model towards an objective, compiled once if the objective is given by value."""
    graph = trace(model)
    match objective:
        case Objective():  # its function would never be found again
            return _Ascent(model, objective)
        case str():
            key, build = objective, lambda: _Ascent(model, _layers({objective: 1.0}))
        case dict():
            key, build = tuple(objective.items()), lambda: _Ascent(model, _layers(dict(objective)))
        case (str(), int() | np.integer()):
            key, build = objective, lambda: _Ascent(model, _channel(graph, *objective))
        case int() | np.integer():
            key, build = objective, lambda: _class_ascent(submodels.logits(model), objective)
        case _:
            raise ValueError(
                f"objective is {objective!r}: give a layer name, a dict of layer names and weights, (layer, channel), "
                "the int of a class, or a dream.Objective."
            )
    return engine.cached(model, ("dream", id(graph), key), build)


def _layers(weights):
    def score(outputs):
        return sum(weight * _mean(tf.square(outputs[name])) for name, weight in weights.items())

    return Objective(tuple(weights), score)


def _channel(graph, layer, channel):
    units.check_channels(layer, graph.tensor(layer).shape[-1], [channel])
    return Objective((layer,), lambda outputs: _mean(outputs[layer][..., channel]))


def _class_ascent(model, index):
    outputs = model.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise ValueError(
            f"Model {model.name!r} puts out {[tuple(x.shape) for x in outputs]}: it has no logits (B, classes), so no "
            f"class {index} to dream of. Give a layer, or a network that ends in logits."
        )
    if not 0 <= index < outputs[0].shape[-1]:
        raise ValueError(f"There is no class {index}: {model.name!r} has classes 0 to {outputs[0].shape[-1] - 1}.")
    name = next(call.name for call in trace(model).calls if call.outputs is outputs[0])
    return _Ascent(model, Objective((name,), lambda outputs: outputs[name][:, index]))


def _mean(values):
    """(B,): the mean over all other axes."""
    return tf.reduce_mean(values, axis=tf.range(1, tf.rank(values)))


def _free_size(model, layers):
    """The part of a network up to these layers, for pictures of any size. Nothing is computed beyond."""
    part = submodels.activations(model, layers)
    if len(part.inputs) != 1 or len(part.inputs[0].shape) != 4:
        raise ValueError(f"A dream needs a network of one picture (B, H, W, C), which {model.name!r} is not.")
    picture = keras.Input((None, None, part.inputs[0].shape[-1]))
    return submodels.flatten(keras.Model(picture, part(picture), name=model.name))


class _Ascent:
    """The way up: the compiled score and gradient of an objective. Pictures are numpy `(H, W, C)`."""

    def __init__(self, model, objective):
        self.network = network = _free_size(model, objective.layers)
        self.model, self.layers = model, objective.layers

        @tf.function(input_signature=[tf.TensorSpec((1, None, None, network.inputs[0].shape[-1]))])
        def score(window):
            return objective.score(network(window, training=False))[0]

        @tf.function(input_signature=score.input_signature)
        def gradient(window):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(window)
                value = objective.score(network(window, training=False))
            return tape.gradient(value, window, unconnected_gradients="zero")[0]

        self.score, self.gradient = score, gradient

    def measure(self, picture, tile):
        """The mean of the score over the windows."""
        try:
            return float(np.mean([self.score(picture[None, *window]) for window in _windows(picture, tile)]))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"A picture of {picture.shape[0]} × {picture.shape[1]} pixels does not go through {self.model.name!r} "
                f"up to {self.layers}: a layer on the way wants one size, as a dense one behind Flatten does. Take an "
                "earlier layer, or octaves=1 and a picture of the network's own size."
            ) from error

    def step(self, picture, length, shift, tile):
        """One step uphill, computed on the shifted picture."""
        shifted = np.roll(picture, shift, axis=(0, 1))
        total, count = np.zeros_like(picture), np.zeros_like(picture)
        for window in _windows(picture, tile):
            total[window] += self.gradient(shifted[None, *window]).numpy()
            count[window] += 1
        gradient = np.roll(total / count, np.negative(shift), axis=(0, 1))
        size = np.abs(gradient).mean()
        return np.clip(picture + length / size * gradient, 0, 255) if size > 0 else picture


def _windows(picture, tile):
    """Slices of windows with sides of at most `tile`: as few as cover the picture, evenly spread."""
    starts = []
    for length in picture.shape[:2]:
        side = min(tile or length, length)
        first = np.linspace(0, length - side, math.ceil(length / side)).astype(int)
        starts.append([slice(start, start + side) for start in first])
    return itertools.product(*starts)


def _shift(random, jitter, tile):
    """Pixels to shift by, down and across."""
    return random.integers(-jitter, jitter + 1, 2) if tile is None or not jitter else random.integers(0, tile, 2)


def _photograph(network, image):
    pictures, single = engine.as_batch(network, image)
    if not single:
        raise ValueError(f"One picture (H, W, C) is dreamt at a time, and this has shape {np.shape(image)}.")
    if pictures.min() < 0 or pictures.max() > 255:
        raise ValueError(f"Pixels go from 0 to 255; these go from {pictures.min():.4g} to {pictures.max():.4g}.")
    return pictures[0]


def _check_numbers(octaves, octave_scale, steps, step, jitter, tile):
    side = 1 if tile is None else tile
    for name, value, least in (("octaves", octaves, 1), ("steps", steps, 1), ("jitter", jitter, 0), ("tile", side, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number from {least}.")
    for name, value, least in (("octave_scale", octave_scale, 1), ("step", step, 0)):
        if not least < value < math.inf:
            raise ValueError(f"{name} is {value!r}: give a number above {least}.")


def _check_size(network, size, tile=None):
    """Raise a `ValueError` if a picture of this size, or its windows, are too small for the network."""
    window = [min(side, tile or side) for side in size]
    graph = trace(network)
    layers = [call for call in graph.calls if keras.backend.is_keras_tensor(call.outputs)]
    every = keras.Function(graph.inputs, [call.outputs for call in layers])
    try:
        shapes = every.compute_output_shape((1, *window, network.inputs[0].shape[-1]))
        nothing = [call.name for call, shape in zip(layers, shapes, strict=True) if 0 in shape]
        if nothing:  # Keras before 3.14 lets that pass
            raise ValueError(f"Nothing is left at {nothing[0]!r}.")
    except ValueError as error:
        raise ValueError(
            f"{window[0]} × {window[1]} pixels are too few for {network.name!r}: {error} Give a larger picture, or "
            "fewer octaves, so that the smallest is larger."
        ) from error


def _check_tile(model, layers, tile):
    """Raise a `ValueError` if no unit in a tile sees as much as it can see."""
    free = None in model.inputs[0].shape[1:3]
    for layer in layers:
        needed = max(units.receptive_field(model, layer, size=(tile, tile) if free else None).size)
        if tile < needed:
            raise ValueError(
                f"tile is {tile}, and a unit of {layer!r} sees {needed} pixels: in such a tile no unit would see all "
                f"that it can. Give tile={math.ceil(needed / 32) * 32} or more, or an earlier layer."
            )

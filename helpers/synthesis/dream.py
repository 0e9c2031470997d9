"""DeepDream: change a photograph until a network sees more of something in it.

After Mordvintsev, Olah and Tyka (2015), "Inceptionism: Going Deeper into Neural Networks", and their notebook.
"""

import math
import operator
import warnings
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from .. import checks
from ..features import units
from ..pictures import images
from ..pictures.reading import refuse_shares
from ..submodels import engine, taps
from ..submodels.graph import trace
from . import transforms
from .ascent import Ascent, output, up_to
from .objectives import LOGITS, Objective, alike, channel, layer


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
    model, image, objective, *, octaves=4, octave_scale=1.4, steps=10, step=1.0, jitter=32, tile=None, seed=0,
    progress=True,
):  # fmt: skip
    """Gradient ascent on the picture itself, from a small size to the full one: a `Dream`.

    Each step adds `step · g / mean|g|`, with g the gradient of the objective by the picture, and clips to 0..255. For
    each step the picture is shifted around by a random amount, so that the grid of the network's strides leaves no
    trace. Each octave starts from the photograph at its size plus, enlarged, what the octave before has changed. A
    network of fixed size is laid out again for any size. Where the objective did not rise, a warning says so.

    model: a `keras.Model` that is a graph of layers, from raw pixels 0..255. One that takes something else gets its
        preprocessing in front: `keras.Sequential([keras.Input(…), keras.layers.Rescaling(…), model])`.
    image: `(H, W, C)`, 0..255.
    objective: what there is to be more of: a layer name (the mean of its squared outputs, as in the original); a dict,
        layer name → weight (the weighted sum of such means); `(layer, channel)` (the mean output of one channel); an
        int (the logit of that class); an `Objective`: a sum of those in `objectives`, or any function.
    octaves: how many sizes, each smaller than the next by the factor `octave_scale`.
    steps, step: how many in each octave, and how far a pixel moves in one, on average.
    jitter: largest shift down and across, in pixels.
    tile: None, or the side of the windows in which the gradient of a larger picture is computed, one at a time, to
        bound the memory. Windows that overlap are averaged, the objective is the mean over the windows, and with any
        jitter the shift is by up to a window.
    seed: of the shifts. Same seed, same bits. progress: show a bar.
    ValueError: an unknown layer, channel or class; a class of a network without logits; a picture of the wrong shape or
        range, with NaN, or in one octave of a size that the network does not take; a number out of range; a tile
        smaller than the receptive field of a layer, in which no unit would see all that it can see.
    """
    numbers = {"octaves": octaves, "octave_scale": octave_scale, "steps": steps, "step": step, "jitter": jitter}
    way, done = frames(model, image, objective, **numbers, tile=tile, seed=seed), []
    with tqdm(total=octaves * steps, desc="dreaming", disable=not progress, leave=False) as bar:
        for frame in way:
            bar.update(frame.step > 0)
            if frame.step == 0:
                before = frame.score
            if frame.step == steps:
                done.append(Octave(frame.picture.shape[:2], before, frame.score))
    if flat := [octave.size for octave in done if not octave.after > octave.before]:
        warnings.warn(
            f"The objective did not rise in the octaves of size {flat}. If it is 0, what was asked for is silent here: "
            "take another channel, layer or picture. Else take a smaller step.",
            stacklevel=2,
        )
    return Dream(frame.picture, done)


def frames(model, image, objective, *, octaves=4, octave_scale=1.4, steps=10, step=1.0, jitter=32, tile=None, seed=0):
    """The way of `deep_dream`, one step at a time: to show it as it goes, and to end it at any moment.

    Takes and raises what `deep_dream` does. An iterator of `octaves · (steps + 1)` `Frame`s: each is computed when it
    is asked for, and the last one has the picture.
    """
    for name, value in (("octaves", octaves), ("steps", steps), ("tile", 1 if tile is None else tile)):
        checks.whole(value, name)
    checks.whole(jitter, "jitter", 0)
    checks.real(octave_scale, "octave_scale", above=1)
    checks.real(step, "step", above=0)
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
            picture = ascent.step(picture, float(step), transforms.jitter(random, jitter, tile), tile)
            yield Frame(octave, done, picture, ascent.measure(picture, tile) if done == steps else None)


def resized(picture, photograph, size):
    """A dream `(h, w, C)` at another size, (height, width): the photograph in all its detail, plus what was dreamt."""
    if picture.shape[:2] == tuple(size):
        return picture
    dreamt = picture - images.resize(photograph, picture.shape[:2])
    return np.clip(images.resize(photograph, size) + images.resize(dreamt, size), 0, 255)


def measure(model, image, objective):
    """The objective of `deep_dream` on a picture `(H, W, C)`, 0..255, as it is."""
    ascent = _ascent(model, objective)
    photograph = _photograph(ascent.network, image)
    _check_size(ascent.network, photograph.shape[:2])
    return ascent.measure(photograph)


def guided_dream(model, image, guide_image, layer, **options):
    """A dream towards the features of a second photograph; arguments, result and errors as of `deep_dream`.

    The features x at each position of the layer's map are drawn to those features y of the guide, at whatever position,
    for which x · y is largest, as in the original. The objective is the mean of these products, by channels.

    guide_image: `(H, W, C)` of any size, 0..255.
    layer: name of a layer with an output `(B, h, w, c)`; `ValueError` for one without spatial axes.
    """
    layer = taps.spatial(model, layer)
    network = up_to(model, (layer,))
    guide = _photograph(network, guide_image)
    _check_size(network, guide.shape[:2])
    features = engine.run(network, guide[None])[layer].astype("float32")
    features = tf.constant(features.reshape(-1, features.shape[-1]))
    return deep_dream(model, image, alike(layer, features), **options)


def _ascent(model, objective):
    """The `Ascent` towards an objective. All weights of a layer share one, as do all its channels, and all classes."""
    if isinstance(objective, Objective):  # its function would never be found again
        return Ascent(model, objective.layers, objective.score)
    layers, numbers, build = _by_value(model, objective)
    numbers = [tf.constant(number) for number in numbers]
    ascent = engine.cached(
        model,
        ("dream", layers, tuple(number.dtype for number in numbers)),
        lambda: Ascent(model, layers, lambda outputs, *numbers: build(*numbers).score(outputs), numbers),
    )
    return ascent.at(*numbers)


def _by_value(model, objective):
    """An objective that is given by value: its layers, its numbers, and the function of these to an `Objective`."""
    match objective:
        case str():
            return _by_value(model, {objective: 1.0})
        case dict() if objective:
            names, nothing = tuple(objective), Objective((), lambda outputs: 0.0)
            weights = [checks.real(weight, f"The weight of {name!r}") for name, weight in objective.items()]
            return names, weights, lambda *weights: sum(map(operator.mul, map(layer, names), weights), nothing)
        case (str() as name, number):
            number = checks.channel(number, name, output(model, name).shape[-1])
            return (name,), [number], lambda number: channel(name, number)
        case int() | np.integer() if not isinstance(objective, bool):
            return _by_value(model, (LOGITS, objective))
    raise ValueError(
        f"objective is {objective!r}: give a layer name, a dict of layer names and weights, (layer, channel), the int "
        "of a class, or a synthesis.Objective."
    )


def _photograph(network, image):
    photograph = checks.single(*engine.as_batch(network, image), "deep_dream")
    if photograph.min() < 0 or photograph.max() > 255:
        raise ValueError(f"Pixels go from 0 to 255; these go from {photograph.min():.4g} to {photograph.max():.4g}.")
    own = "keras.Sequential([keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), model])"
    refuse_shares(photograph, f"A network that takes 0 to 1 gets its preprocessing in front: {own}.")
    return photograph


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
        few = f"{window[0]} × {window[1]} pixels are too few for {network.name!r}"
        raise ValueError(f"{few}: {error} Give a larger picture, or fewer octaves.") from error


def _check_tile(model, layers, tile):
    """Raise a `ValueError` if no unit in a tile sees as much as it can see."""
    size = (tile, tile) if None in engine.picture_shape(model)[:2] else None
    for name in layers:
        needed = max(units.receptive_field(model, -1 if name == LOGITS else name, size=size).size)
        if tile < needed:
            how = f"Give tile={math.ceil(needed / 32) * 32} or more, or an earlier layer."
            raise ValueError(f"tile is {tile}, and a unit of {name!r} sees {needed} pixels: none would see all. {how}")

"""What a unit of a network can see, and what it looks for."""

import functools
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .. import checks, submodels
from ..submodels import engine, taps
from ..submodels.graph import trace
from . import receptive


class ReceptiveField(NamedTuple):
    """The part of the picture that one unit can see. Boxes are (top, left, bottom, right) in pixels, ends excluded."""

    position: tuple  # (row, column) of the unit on its layer's map; None for a layer without spatial axes
    size: tuple  # (height, width) of `box`: the theoretical receptive field
    stride: tuple  # pixels (down, across) between the fields of neighbouring units; 0: all see the same
    box: tuple  # as if the picture went on beyond its border
    clipped: tuple  # the pixels that are there: picture[top:bottom, left:right]; (0, 0, 0, 0) if there are none


def receptive_field(model, layer, position=None, method="exact", size=None):
    """The box of input pixels that a unit depends on, as a `ReceptiveField`.

    `"exact"` goes back through the network by arithmetic: kernels, strides, dilation, the uneven padding of `"same"`,
    pooling, transposed convolution, resizing, and the union where branches meet. Global pooling, squeeze-and-excitation
    and fully connected layers see all of what they are given.

    `"gradient"` measures instead: the pixels with a non-zero gradient of that unit in a twin of the network in which no
    gradient can vanish by chance: positive random kernels, no biases, no activations, average in place of maximum, sums
    in place of products. (For the gradient of the trained network see `effective_receptive_field`.)

    model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
    layer: name of a layer.
    position: (row, column) on the layer's map; None for the middle one.
    method: `"exact"` or `"gradient"`. A measured box ends at the border: `box` is `clipped`, and `stride` None.
    size: (height, width) of the picture, for a network that leaves them free.
    ValueError: an unknown layer, position or method, no size at all, or (`"exact"`) an operation of unknown reach.
    """
    checks.choose(method, ("exact", "gradient"), "method")
    network = receptive.reach(model, size)
    position, stride = _checked_position(layer, network.shape(layer), position), None
    if method == "gradient":
        box = clipped = network.measured_box(layer, position)
    else:
        fields, (row, column) = network.fields(layer), position or (0, 0)
        box = receptive.box(fields.reach[0][row], fields.reach[1][column])
        clipped = receptive.box(fields.inside[0][row], fields.inside[1][column])
        stride = fields.stride
    return ReceptiveField(position, (box[2] - box[0], box[3] - box[1]), stride, box, clipped)


def effective_receptive_field(model, layer, images, position=None, channel=None, batch=16, progress=False):
    """How strongly a unit depends on each pixel: the mean size of its gradient over pictures (Luo et al. 2016).

    Returns `(H, W)` float32: |gradient|, summed over the colours, averaged over the pictures. Not normalised.

    model, layer, images, batch, progress: as for `top_patches`; one picture `(H, W, C)` will do.
    position, channel: (row, column) on the layer's map, None for the middle one; None for the sum over all channels.
    ValueError: an unknown layer or one without spatial axes, a position or channel that it has not, wrong pictures.
    """
    pictures, _ = engine.as_batch(model, images)
    layer = taps.spatial(model, layer)
    shape = receptive.reach(model, pictures.shape[1:3]).shape(layer)
    channels = range(shape[-1]) if channel is None else [checks.channel(channel, layer, shape[-1])]
    place = _checked_position(layer, shape, position)
    unit = tf.constant(place), tf.constant(channels)  # tensors: one compiled function serves all units of a layer
    part = probe(model, layer)

    def dependence(x, place, channels):
        with tf.GradientTape() as tape:
            tape.watch(x)
            answer = part(x, training=False)[layer][:, place[0], place[1]]
            unit = tf.reduce_sum(tf.gather(answer, channels, axis=-1))
        return tf.reduce_sum(tf.abs(pixel_gradient(tape, unit, x, layer)), axis=-1)

    build = functools.partial(tf.function, dependence, reduce_retracing=True, autograph=False)
    depends = engine.cached(model, ("effective_receptive_field", layer), build)
    passes = engine.stream(lambda x: depends(x, *unit), pictures, batch=batch, progress=progress, label=layer)
    total = sum((part.sum(axis=0) for part in passes), np.zeros(pictures.shape[1:3]))
    return (total / len(pictures)).astype("float32")


def pixel_gradient(tape, score, pixels, layer):
    """The gradient of a score by the pixels; where TensorFlow has none, a `ValueError` instead of zeros."""
    gradient = tape.gradient(score, pixels)
    if gradient is None:
        what = f"something on the way to {layer!r} cannot be differentiated, such as rounding"
        raise ValueError(f"There is no gradient by the pixels: {what}. Take an earlier layer.")
    return gradient


class Patches(NamedTuple):
    """The strongest patches of one channel, best first."""

    channel: int
    patches: np.ndarray  # (count, h, w, C) float32, in the units of the pictures
    scores: np.ndarray  # (count,) float32, the channel's activation there
    images: np.ndarray  # (count,) int, which picture
    positions: np.ndarray  # (count, 2) int, (row, column) on the layer's map
    boxes: np.ndarray  # (count, 4) int, what the patch shows: (top, left, bottom, right), maybe beyond the border


def top_patches(model, layer, channel, images, count=9, per_image=1, pad=128, batch=16, progress=False):
    """Where in a collection of pictures a channel answers most strongly, cut out at its receptive field.

    One pass serves all channels. Memory is bounded by a batch and the patches that are kept, each a whole picture where
    the field covers it: ask for some channels rather than for all.

    model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
    layer: name of a layer with an output `(B, H, W, C)`.
    channel: an int, or a list of them.
    images: `(N, H, W, C)`, or an iterable of `(H, W, C)` of one size, which is walked once; raw.
    count: patches for each channel. There are fewer if the pictures have no more.
    per_image: at most so many from one picture; None for no limit.
    pad: what a patch shows beyond the border of the picture: a grey level, or `"edge"` for the outermost pixels.
    batch, progress: as for `engine.stream`.

    Returns `Patches`, or a list of them for a list of channels. Along an axis on which the field is larger than the
    picture, a patch shows the whole picture. Equal scores: the earlier picture and position first.
    ValueError: a layer or channel that is not there, no spatial axes, wrong pictures or none, a count below 1.
    """
    layer, several = taps.spatial(model, layer), np.ndim(channel) > 0
    channels = list(channel) if several else [channel]
    count = checks.whole(count, "count")
    most = count if per_image is None else min(count, checks.whole(per_image, "per_image"))
    find, pictures = strongest_places(model, layer, channels, most), rows(model, images)
    best, seen = [[] for _ in channels], 0
    for scores, places, shown in engine.stream(find, pictures, batch=batch, progress=progress, label=layer):
        fields = receptive.reach(model, shown.shape[1:3]).fields(layer)
        width = len(fields.reach[1])
        for index, kept in enumerate(best):
            kept += [
                (score, seen + image, divmod(int(place), width))
                for image, pairs in enumerate(zip(scores[:, index], places[:, index], strict=True))
                for score, place in zip(*pairs, strict=True)
            ]
            kept.sort(key=lambda one: -one[0])  # stable: the earlier first
            del kept[count:]
            for place, one in enumerate(kept):
                if len(one) == 3:  # new: only what stays among the best is cut out
                    picture = shown[one[1] - seen]
                    box = _shown_box(fields, one[2], picture.shape)
                    kept[place] = *one, box, cut(picture, box, pad)
        seen += len(shown)
    if not seen:
        raise ValueError("images is empty: give at least one picture.")
    answers = []
    for number, kept in zip(channels, best, strict=True):
        scores, *others, patches = map(np.array, zip(*kept, strict=True))
        answers.append(Patches(int(number), patches, scores, *others))
    return answers if several else answers[0]


class Activity(NamedTuple):
    """How much a layer has to say about a collection of pictures."""

    sparsity: float  # share of its values that are not above zero
    dead: float  # share of its channels that are not above zero anywhere, in any picture
    energy: float  # mean of its squared values


def activity(model, images, layers, batch=4, progress=False):
    """Sparsity, dead channels and energy of layers over a collection of pictures: a dict, name → `Activity`.

    model, images, batch, progress: as for `top_patches`. Memory does not grow with the pictures.
    layers: a name, or several, of layers that end in a ReLU: before one, "not above zero" means nothing special.
    ValueError: an unknown layer, or no picture.
    """
    found = reduced(model, layers, images, _summary, batch, progress)
    return {
        name: Activity(float(silent.mean()), float((peaks.max(0) <= 0).mean()), float(energy.mean()))
        for name, (silent, peaks, energy) in found.items()
    }


def _summary(maps):
    axes = list(range(1, len(maps.shape)))
    silent = tf.reduce_mean(tf.cast(maps <= 0, "float32"), axes)
    return silent, tf.reduce_max(maps, axes[:-1]), tf.reduce_mean(maps**2, axes)


def strongest_places(model, layer, channels, count):
    """Function of a batch to the `count` highest values of each channel in each picture, their places, the batch.

    Values and places are `(B, channels, count)`; a place is row × width + column.
    """
    network = probe(model, layer)
    channels = [checks.channel(channel, layer, network.outputs[0].shape[-1]) for channel in channels]

    def strongest(x, channels, count):
        maps = tf.cast(tf.gather(network(x, training=False)[layer], channels, axis=-1), "float32")
        shape = tf.shape(maps)
        flat = tf.transpose(tf.reshape(maps, (shape[0], -1, shape[-1])), (0, 2, 1))
        scores, places = tf.math.top_k(flat, tf.minimum(count, tf.shape(flat)[-1]))
        return scores, places, x

    build = functools.partial(tf.function, strongest, reduce_retracing=True)
    compiled = engine.cached(model, ("strongest places", layer), build)
    return lambda x: compiled(x, tf.constant(channels), tf.constant(count))


def patch_box(model, layer, position, size=None):
    """The box that `top_patches` shows of a unit; the arguments are those of `receptive_field`."""
    network = receptive.reach(model, size)
    return _shown_box(network.fields(layer), position, network.shapes[id(network.picture)][1:3])


def _shown_box(fields, position, shape):
    """(top, left, bottom, right): of one size for all units of a layer, and no larger than the picture."""
    sides = []
    for reach, index, length in zip(fields.reach, position, shape, strict=False):
        extents = reach[:, 1] - reach[:, 0] + 1
        extent = int(extents[np.isfinite(extents)].max())  # resizing makes them differ by one
        first = int(reach[index, 0]) if np.isfinite(reach[index, 0]) else -extent
        sides.append((0, length) if extent >= length else (first, first + extent))
    return tuple(np.transpose(sides).ravel().tolist())


def cut(picture, box, pad=128):
    """The part in a `box` of a picture `(H, W, C)`, which may reach beyond its border; `pad` as for `top_patches`."""
    top, left, bottom, right = map(int, box)
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    patch = picture.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
    if pad != "edge":
        patch[(rows < 0) | (rows >= picture.shape[0])] = pad
        patch[:, (columns < 0) | (columns >= picture.shape[1])] = pad
    return patch


def one_output(model, layer):
    """The symbolic output of a layer that has only one, with its channels last."""
    tensor = trace(model).single(layer)
    if len(tensor.shape) == 4:
        taps.spatial(model, layer)
    return tensor


def probe(model, layers):
    """The network from its one picture up to some layers, with one output each: to a dict, name → float tensor."""
    names = submodels.activations(model, layers).output
    picture = keras.tree.flatten(trace(model).inputs)[0]
    return keras.Model(picture, {name: one_output(model, name) for name in names})


def reduced(model, layers, images, reduce, batch, progress):
    """`reduce(maps)` of some layers over pictures: a dict, name → what it gives, for each picture.

    `reduce` is a function of maps `(B, …, C)` float32 to a tensor, or several, with that first axis. It is taken within
    the pass, so that the maps themselves never leave it.
    """
    network = probe(model, layers)

    def numbers(x):
        return {name: reduce(tf.cast(maps, "float32")) for name, maps in network(x, training=False).items()}

    build = functools.partial(tf.function, numbers, reduce_retracing=True)
    compiled = engine.cached(model, ("reduced", reduce, *network.output), build)
    found = engine.run(compiled, rows(model, images), batch=batch, progress=progress)
    return {name: found[name] for name in network.output}  # in the order in which they were asked for


def rows(model, images):
    """The pictures one by one, as float32, checked on the way: for `engine.stream`."""
    if isinstance(images, (str, Path, tf.data.Dataset)) or getattr(images, "ndim", 4) != 4:
        images, _ = engine.as_batch(model, images)

    def checked(shape=None):
        for image in images:
            if np.ndim(image) != 3:
                raise ValueError(f"images holds something of shape {np.shape(image)}; give pictures (H, W, C).")
            shape = shape or np.shape(image)
            if np.shape(image) != shape:
                raise ValueError(f"images holds pictures of {shape} and of {np.shape(image)}: crop them to one size.")
            yield engine.as_batch(model, image)[0][0]

    return engine.Counted(checked(), len(images)) if hasattr(images, "__len__") else checked()


def _checked_position(layer, shape, position):
    if len(shape) != 4:
        if position is not None:
            raise ValueError(f"Layer {layer!r} has no spatial axes, so it has no position {position}: leave it out.")
        return None
    return (shape[1] // 2, shape[2] // 2) if position is None else checks.place(position, layer, shape[1:3])

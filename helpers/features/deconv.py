"""Deconvolutional networks: what in the picture made a feature fire (Zeiler and Fergus 2014, arXiv:1311.2901)."""

import warnings
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .. import checks, submodels
from ..submodels import engine, taps
from ..submodels.graph import trace
from . import units


def project(model, image, layer, channel=None, position=None, rule="deconv", switches=True):
    """Map an activation back to the pixels that caused it, through `submodels.deconvnet`.

    model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
    image: one picture `(H, W, C)`, or `(B, H, W, C)`, raw.
    layer: name of a layer with an output `(B, h, w, c)`.
    channel: int, or None for the channel with the strongest single activation, in each picture its own.
    position: `(row, column)` on the layer's map; None for the strongest of the channel, in each picture its own;
        `"all"` for the whole map (with `channel=None` of all channels together).
    rule, switches: as for `submodels.deconvnet`; the defaults are those of the paper.

    Returns float32 of the shape of `image`, signed: what the transposed network paints. Where the channel is silent in
    a picture, zeros, and a warning says so.
    ValueError: a layer without spatial axes, or that cannot be run backwards; a layer, channel or position that is not
        there; a picture of the wrong size.
    """
    pictures, single = engine.as_batch(model, image)
    layer = taps.spatial(model, layer)
    back = submodels.deconvnet(model, layer, rule, switches)
    maps = engine.run(submodels.activations(model, layer), pictures)[layer].astype("float32")
    seeds = np.stack([_seed(own, layer, channel, position) for own in maps])
    silent = np.flatnonzero(~seeds.any(axis=(1, 2, 3)))
    if len(silent):
        what = f"layer {layer!r}" + ("" if channel is None else f", channel {channel}")
        where = "" if single else f" for pictures {silent.tolist()}"
        warnings.warn(f"There is nothing to project{where}: {what} is silent there.", stacklevel=2)
    pixels = engine.run(back, pictures, seeds)
    return pixels[0] if single else pixels


def _seed(maps, layer, channel, position):
    """The activations `(h, w, c)` with all but the chosen ones set to zero."""
    whole = isinstance(position, str)
    if whole and position != "all":
        raise ValueError(f"position is {position!r}: give (row, column), 'all', or None for the strongest one.")
    row = column = slice(None)
    if position is not None and not whole:
        row, column = checks.place(position, layer, maps.shape[:2])
    asked = row, column, slice(None) if channel is None else checks.channel(channel, layer, maps.shape[-1])
    if not whole:
        candidates = np.full_like(maps, -np.inf)
        candidates[asked] = maps[asked]
        asked = np.unravel_index(candidates.argmax(), maps.shape)
    seed = np.zeros_like(maps)
    seed[asked] = maps[asked]
    return seed


class Projections(NamedTuple):
    """The strongest patches of a channel, and for each what in it the channel answered to."""

    patches: units.Patches
    projections: np.ndarray  # (count, h, w, C) float32, signed, cut out like the patches; 0 beyond the border


def top_projections(model, layer, channel, images, count=9, rule="deconv", **options):
    """The figure of the paper: the strongest patches of a channel over many pictures, each with its projection.

    model, layer, channel (an int), rule: as for `project`.
    images: `(N, H, W, C)`, or a list of pictures, raw; `ValueError` for what can only be walked once.
    count, options: how many patches, each from another picture; `pad`, `batch`, `progress` of `units.top_patches`.
    """
    if not hasattr(images, "__getitem__"):
        raise ValueError("The strongest pictures are read a second time: give an array or a list, not an iterator.")
    if getattr(images, "ndim", 4) != 4:
        images, _ = engine.as_batch(model, images)
    patches = units.top_patches(model, layer, channel, images, count=count, **options)
    projections = [
        units.cut(project(model, images[index], layer, channel, tuple(position), rule), box, pad=0.0)
        for index, position, box in zip(patches.images, patches.positions, patches.boxes, strict=True)
    ]
    return Projections(patches, np.stack(projections))


def switches(model, image, pool):
    """Where each window of a max-pooling layer found its maximum: int `(h, w, c, 2)`, row and column on what it pools.

    model, image: as for `project`; one picture. pool: name of a `MaxPooling2D` layer; `ValueError` for any other.
    """
    pictures, _ = engine.as_batch(model, image)
    checks.single(pictures, len(pictures) == 1, "switches")
    pool, graph = taps.spatial(model, pool), trace(model)
    call = graph.calls[graph.index(pool)]
    layer = call.operation
    if type(layer) is not keras.layers.MaxPooling2D:
        there = ", ".join(map(repr, submodels.layer_names(model, "MaxPooling2D")))
        raise ValueError(f"Only max-pooling has switches, and {pool!r} is a {type(layer).__name__}. Here: {there}.")
    before = engine.cached(model, ("pooled by", pool), lambda: graph.model(call.inputs[0]))
    maps = engine.run(before, pictures).astype("float32")
    places = tf.nn.max_pool_with_argmax(maps, layer.pool_size, layer.strides, layer.padding.upper())[1][0].numpy()
    width, channels = maps.shape[2:]
    return np.stack([places // channels // width, places // channels % width], axis=-1)

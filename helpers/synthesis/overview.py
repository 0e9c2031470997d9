"""One photograph through every window of the second flagship: what fired, why, what is wanted more, what is left."""

from typing import NamedTuple

import numpy as np

from .. import submodels
from ..features import deconv
from ..pictures import images, plots
from ..submodels import engine
from . import dream, inversion


class View(NamedTuple):
    """What one layer makes of a photograph."""

    layer: str
    channel: int  # with the strongest single activation away from the border, where padding makes its own
    activation: np.ndarray  # (h, w) float32, the map of the channel
    projection: np.ndarray  # (H, W, C) float32, signed: the whole map through the deconvolutional network
    overlay: np.ndarray  # (H, W, 3) uint8, the map over the photograph, fading where it is weak
    dream: np.ndarray  # (H, W, C) float32, 0..255: more of what the layer sees
    reconstruction: np.ndarray  # (H, W, C) float32, 0..255: what the layer still knows
    error: float  # ‖Φ(reconstruction) − Φ₀‖ / ‖Φ₀‖


def views(model, image, layers, dream_options=None, invert_options=None, progress=True):
    """Look at a photograph at several depths: a list of `View`, one for each layer. Errors are those of its methods.

    model: a `keras.Model` that is a graph of layers with ReLUs, from raw pixels 0..255.
    image: one picture `(H, W, 3)`, of the model's size.
    layers: names of layers with an output `(B, h, w, c)`.
    dream_options: for `dream.deep_dream`, as a dict; every layer may want its own `step`: dict layer → dict.
    invert_options: for `inversion.invert`, as a dict.
    progress: show bars.
    """
    pictures, _ = engine.as_batch(model, image)
    dream_options, invert_options = dream_options or {}, invert_options or {}
    found = []
    for layer in [layers] if isinstance(layers, str) else layers:
        maps = engine.run(submodels.activations(model, layer), pictures[:1])[layer][0]
        rows, columns = (slice(side // 8, side - side // 8) for side in maps.shape[:2])
        channel = int(maps[rows, columns].max((0, 1)).argmax())
        own = dream_options.get(layer, dream_options)
        projection = deconv.project(model, pictures[0], layer, channel, "all")
        overlay = images.overlay(pictures[0], maps[..., channel], 0.8, fade=True)
        dreamt = dream.deep_dream(model, pictures[0], layer, progress=progress, **own).picture
        inverted = inversion.invert(model, pictures[0], layer, progress=progress, **invert_options)
        error = float(inverted.errors[inverted.losses[:, -1].argmin()])
        found.append(View(layer, channel, maps[..., channel], projection, overlay, dreamt, inverted.picture, error))
    return found


def portrait(model, image, layers, title=None, **options):
    """The large figure for any picture in one call: `draw(views(model, image, layers, **options), title)`."""
    return draw(views(model, image, layers, **options), title)


def draw(found, title=None):
    """The large figure, a `plots.Picture`, of what `views` found: a row for each depth, four pictures wide."""
    heads = ["the map over the photograph", "sent back to pixels", "dream", "reconstruction"]
    cells = []
    for view in found:
        cells += [view.overlay, images.signed(view.projection), view.dream, view.reconstruction]
    rows = [f"{view.layer}\nchannel {view.channel}" for view in found]
    return plots.grid(cells, heads, columns=len(heads), rows=rows, title=title, width=7.2)

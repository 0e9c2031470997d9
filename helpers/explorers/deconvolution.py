"""`explore.deconvolution`: what in the picture caused one value of an activation map."""

from typing import NamedTuple

import ipywidgets as widgets
import numpy as np

from .. import submodels
from ..pictures import images
from ..submodels import engine
from .frame import LABELLED, WRAPPED, Number, Panel, enlarged, marked, painted, short
from .layers import ChannelExplorer

RULES = {"deconvolution": "deconv", "guided backpropagation": "guided", "gradient": "gradient"}
KEPT = 0.05  # share of the picture's area that is not darkened, at most


class Cause(NamedTuple):
    """What in the picture caused one activation. Boxes are (top, left, bottom, right) in pixels, ends excluded."""

    value: float  # the activation
    pixels: np.ndarray  # (H, W, C) float32, signed: what the deconvolutional network paints
    box: tuple  # around everything that it paints; None if that is nothing


def cause(model, picture, layer, maps, channel, position, rule="deconv"):
    """Send one activation back to the pixels, as `deconv.project` does, but from maps that are there already.

    Args:
        model, layer, channel, position, rule: as for `deconv.project`.
        picture: `(H, W, C)` float32.
        maps: `(h, w, c)`, what the layer makes of it.
    """
    seed = np.zeros_like(maps)
    seed[(*position, channel)] = maps[(*position, channel)]
    pixels = engine.run(submodels.deconvnet(model, layer, rule), picture[None], seed[None])[0]
    rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in ((1, 2), (0, 2)))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else None
    return Cause(float(maps[(*position, channel)]), pixels, box)


def lit(picture, pixels, kept=KEPT):
    """The picture `(H, W, 3)` uint8, dark where the projection `(H, W, C)` is weak.

    kept: share of the area, where the projection is strongest, that stays as it is; less if it paints less.
    """
    strength = np.abs(pixels).sum(axis=-1)
    share = min(kept, (strength > 0).mean())
    return images.masked(picture, strength, share) if share else (picture * 0.15).astype(np.uint8)


class Deconvolution(ChannelExplorer):
    """Point at a place in an activation map and see what in the picture caused it (Zeiler and Fergus 2014).

    The place is chosen by its row and column, and marked on the map; on the picture a frame shows what the unit there
    sees. Its activation alone goes back to the pixels through `submodels.deconvnet`: shown are what arrives, the part
    of the picture that it comes from, and the picture with everything else darkened.

    Args:
        model: as for `explore.layers`, but a network that can be run backwards, with ReLUs; None for VGG19, of which
            the max-pooling layers have the switches that the paper is about.
        pictures, layer: as for `explore.layers`.

    Raises:
        ValueError: as for `explore.layers`, and for a first layer that cannot be run backwards.
    """

    NETWORK = "vgg19"
    LIVE = False  # each step is a pass

    def __init__(self, model=None, *, pictures=None, layer=None):
        self.row, self.column = Number("Row", live=False), Number("Column", live=False)
        self.strongest = widgets.Button(description="Strongest place of the channel", layout={"width": "auto"})
        self.rule = widgets.Dropdown(options=list(RULES.items()), description="Backwards by", style=LABELLED)
        self.map, self.projection = Panel(), Panel()
        self.masked = Panel("The picture where the projection is strongest.")
        self.crop, self.detail = Panel(), Panel("The same part of the projection.")
        place = widgets.HBox([self.row, self.column], layout=WRAPPED)
        buttons = widgets.HBox([self.strongest, self.rule], layout=WRAPPED)
        rows = [[Panel(), self.map, self.projection], [self.crop, self.detail, self.masked]]
        super().__init__("deconvolution", model, pictures, layer, [place, buttons], rows)
        self.listen(self.row.slider)
        self.listen(self.column.slider)
        self.listen(self.strongest, self.change_channel)
        self.listen(self.rule)
        self.start()

    def change_channel(self, change=None):
        """Go to the strongest place of the channel."""
        values = self.layer_maps()[..., self.channel.value]
        place = np.unravel_index(values.argmax(), values.shape)
        for number, length, index in zip((self.row, self.column), values.shape, place, strict=True):
            number.set(length - 1, int(index))

    change_picture = change_channel  # elsewhere in another picture

    @property
    def position(self):
        """`(row, column)` on the map."""
        return self.row.value, self.column.value

    def found(self):
        """The `Cause` of the chosen activation, computed once."""
        name, layer, rule = self.chooser.value, self.layer.value, self.rule.value
        key = "cause", name, layer, rule, self.channel.value, *self.position

        def compute():
            arguments = self.gallery[name], layer, self.layer_maps(), self.channel.value, self.position, rule
            return cause(self.model, *arguments)

        if key in self.cache:
            return self.cache.get(key, compute)
        with self.busy(f"Running {layer} backwards; the first time for a layer takes a few seconds …"):
            return self.cache.get(key, compute)

    def refresh(self):
        picture, values = self.gallery.shown(self.chooser.value), self.layer_maps()[..., self.channel.value]
        _, signed = self.about_layer()
        found, field = self.found(), self.field(self.position)
        self.tell(values, field)
        row, column = self.position
        cell = row, column, row + 1, column + 1
        self.map.show(
            marked(enlarged(painted(values, signed), self.map.width), cell, values.shape),
            f"Channel {self.channel.value}. Frame: row {row}, column {column}, activation {short(found.value)}.",
        )
        self.show_picture(picture, field)
        self._show_cause(picture, found)

    def _show_cause(self, picture, found):
        shown = images.signed(found.pixels)
        shown = shown if shown.shape[-1] == 3 else shown[..., :1].repeat(3, axis=-1)
        self.masked.show(lit(picture, found.pixels))
        if found.box is None:
            self.projection.show(shown, "The unit is silent here: there is nothing to send back.")
            self.crop.hide()
            self.detail.hide()
            return
        top, left, bottom, right = found.box
        self.projection.show(shown, "What arrives at the pixels. Grey is zero.")
        self.crop.show(
            picture[top:bottom, left:right],
            f"Where it comes from: rows {top}–{bottom - 1}, columns {left}–{right - 1}.",
        )
        self.detail.show(shown[top:bottom, left:right])

"""`explore.deconvolution`: what in the picture caused one value of an activation map."""

import ipywidgets as widgets
import numpy as np

from .. import submodels
from ..pictures import images
from ..submodels import engine
from .frame import Number, Panel, button, enlarged, labelled, marked, painted, row, short
from .layers import ChannelExplorer

RULES = {"deconvolution": "deconv", "guided backpropagation": "guided", "gradient": "gradient"}
KEPT = 0.05  # share of the picture's area that is not darkened, at most


def lit(picture, pixels, kept=KEPT):
    """The picture `(H, W, 3)` uint8, dark but for the share `kept` where the projection `(H, W, C)` is strongest."""
    strength = np.abs(pixels).sum(axis=-1)
    share = min(kept, (strength > 0).mean())
    return images.masked(picture, strength, share) if share else (picture * 0.15).astype(np.uint8)


class Deconvolution(ChannelExplorer):
    """Point at a place in an activation map and see what in the picture caused it (Zeiler and Fergus 2014).

    A frame on the picture shows what the unit at the chosen place sees. Its activation alone goes back to the pixels
    through `submodels.deconvnet`: shown are what arrives, the part of the picture that it comes from, and the picture
    with everything else darkened.

    Args, raises: as `explore.layers`, but
        model: a network that can be run backwards, with ReLUs; `ValueError` if the first layer cannot. None for VGG19,
            of which the max-pooling layers have the switches that the paper is about.
    """

    NETWORK = "vgg19"
    LIVE = False  # each step is a pass

    def __init__(self, model=None, *, pictures=None, layer=None):
        self.row, self.column = Number("Row", live=False), Number("Column", live=False)
        self.strongest = button("Strongest place of the channel")
        self.rule = labelled(widgets.Dropdown, "Backwards by", options=list(RULES.items()))
        self.map, self.projection = Panel(), Panel()
        self.masked = Panel("The picture where the projection is strongest.")
        self.crop, self.detail = Panel(), Panel("The same part of the projection.")
        controls = [row(self.row, self.column), row(self.strongest, self.rule)]
        rows = [[Panel(), self.map, self.projection], [self.crop, self.detail, self.masked]]
        super().__init__("deconvolution", model, pictures, layer, controls, rows)
        self.listen(self.row, self.column, self.rule)
        self.listen(self.strongest, prepare=self.choose_place)
        self.start()

    def choose_place(self, change=None):
        """Go to the strongest place of the channel."""
        values = self.layer_maps()[..., self.channel.value]
        place = np.unravel_index(values.argmax(), values.shape)
        for number, length, index in zip((self.row, self.column), values.shape, place, strict=True):
            number.set(length - 1, int(index))

    @property
    def position(self):
        """`(row, column)` on the map."""
        return self.row.value, self.column.value

    def sent_back(self):
        """What `deconv.project` gives for the chosen activation, but from maps that are there: `(H, W, C)`, signed."""
        name, layer, rule = self.chooser.value, self.layer.value, self.rule.value
        maps, unit = self.layer_maps(), (*self.position, self.channel.value)

        def compute():
            seed = np.zeros_like(maps)
            seed[unit] = maps[unit]
            backwards = submodels.deconvnet(self.model, layer, rule)
            return engine.run(backwards, self.gallery[name][None], seed[None])[0]

        key = "sent back", name, layer, rule, unit
        with self.busy(f"Running {layer} backwards; the first time takes a few seconds …", key not in self.cache):
            return self.cache.get(key, compute)

    def refresh(self):
        picture, values = self.gallery.shown(self.chooser.value), self.layer_maps()[..., self.channel.value]
        _, signed = self.about_layer()
        pixels, field = self.sent_back(), self.field(self.position)
        self.tell(values, field)
        (top, left), activation = self.position, short(values[self.position])
        drawn = enlarged(painted(values, signed), self.map.width)
        drawn = marked(drawn, (top, left, top + 1, left + 1), values.shape)
        frame = f"Frame: row {top}, column {left}, activation {activation}."
        self.map.show(drawn, f"Channel {self.channel.value}. {frame}")
        self.show_picture(picture, field)
        self._show_cause(picture, pixels)

    def _show_cause(self, picture, pixels):
        """Show what arrives at the pixels, and the part of the picture around all of it."""
        shown = images.signed(pixels)
        shown = shown if shown.shape[-1] == 3 else shown[..., :1].repeat(3, axis=-1)
        self.masked.show(lit(picture, pixels))
        if not pixels.any():
            self.projection.show(shown, "The unit is silent here: there is nothing to send back.")
            self.crop.hide()
            self.detail.hide()
            return
        rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in ((1, 2), (0, 2)))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        self.projection.show(shown, "What arrives at the pixels. Grey is zero.")
        place = f"rows {top}–{bottom - 1}, columns {left}–{right - 1}"
        self.crop.show(picture[top:bottom, left:right], f"Where it comes from: {place}.")
        self.detail.show(shown[top:bottom, left:right])

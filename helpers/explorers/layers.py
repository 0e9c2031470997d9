"""`explore.layers`: every channel of every layer, on any picture."""

import html

import ipywidgets as widgets
import numpy as np

from .. import checks, models
from ..features import units
from ..pictures import images
from ..submodels import engine
from . import frame, mosaic
from .frame import Chooser, Explorer, Number, Panel, button, enlarged, labelled, marked, overlaid, painted, row, short
from .gallery import Activations, Cache, Gallery

LIVELIEST = 8  # channels that have a button
PATCHES = 9
# Where to begin in the bundled networks: a layer, and a channel of it that can be put into words, if there is one.
BEGIN = {"efficientnet_lite0": ("block3b_add", 27), "vgg19": ("block4_conv2", None)}


def by_contrast(maps):
    """Numbers of the channels of `(h, w, c)`, those first that vary most over the picture; of equal ones the largest.

    The channels of the largest mean often say the same everywhere, which tells nothing about the picture.
    """
    return np.lexsort((-np.abs(maps).mean((0, 1)), -maps.std((0, 1))))


class Strongest:
    """Where in the pictures of a gallery each channel answers most strongly: one pass for each picture and layer."""

    def __init__(self, model, gallery):
        self.model, self.gallery, self.cache = model, gallery, Cache()

    def is_ready(self, layer):
        """Whether the bundled pictures were looked at; one that came later takes one pass more."""
        return (self.gallery.names[0], layer) in self.cache

    def patches(self, layer, shape, channel):
        """The same patches as `units.top_patches` finds: a list of `(name of the picture, score, patch)`."""
        missing = [name for name in self.gallery.names if (name, layer) not in self.cache]
        if missing:
            find = units.strongest_places(self.model, layer, tuple(range(shape[2])), 1)
            scores, places, _ = engine.run(find, np.stack([self.gallery[name] for name in missing]), batch=8)
            for name, *peaks in zip(missing, scores[..., 0], places[..., 0], strict=True):
                self.cache.put((name, layer), peaks)
        kept = [self.cache.peek((name, layer)) for name in self.gallery.names]
        scores, places = (np.array(values)[:, channel] for values in zip(*kept, strict=True))
        found = []
        for index in np.argsort(-scores, kind="stable")[:PATCHES]:
            name, position = self.gallery.names[index], divmod(int(places[index]), shape[1])
            box = units.patch_box(self.model, layer, position, self.gallery.shape[:2])
            found.append((name, float(scores[index]), units.cut(self.gallery.shown(name), box)))
        return found


def patch_sheet(patches):
    """Patches of one shape, three in a row: `(H, W, 3)` uint8, as wide as a panel or a little less."""
    height, width = patches[0].shape[:2]
    side = (frame.WIDTH - 4) // 3
    size = max(1, round(side * height / width)), side
    return images.tile([images.resize(patch, size, "nearest" if width < side else None) for patch in patches], 3)


def layer_menu(shapes, layer, height, coarsest):
    """A menu of layers `{name: (h, w, c)}`; without a `layer` it begins with the last that is not too coarse."""
    fine = [name for name, shape in shapes.items() if coarsest * shape[0] >= height] or list(shapes)
    first = fine[-1] if layer is None else checks.choose(layer, list(shapes), "layer with a map")
    options = [(f"{name}: {' × '.join(map(str, shape))}", name) for name, shape in shapes.items()]
    return labelled(widgets.Dropdown, "Layer", "400px", options=options, value=first)


class ChannelExplorer(Explorer):
    """What explorers of one channel share: a picture, a layer, a channel, and the maps of the layer."""

    NETWORK = "efficientnet_lite0"  # where no model is given
    LIVE = True  # whether a step of the channel is quick enough to be followed while its slider moves

    def __init__(self, name, model, pictures, layer, controls, rows):
        self.model = models.load(self.NETWORK) if model is None else model
        self.gallery, self.cache = Gallery(self.model, pictures), Cache()
        self.maps = Activations(self.model, self.gallery, self.cache)
        self.chooser, self.photo, self._first_channel = Chooser(self.gallery), rows[0][0], None
        if layer is None and BEGIN.get(self.model.name, [None])[0] in self.maps.shapes:
            layer, self._first_channel = BEGIN[self.model.name]
        self.layer = layer_menu(self.maps.shapes, layer, self.gallery.shape[0], 8)
        self.channel = Number("Channel", live=self.LIVE)
        self.statistics = widgets.HTML()
        super().__init__(name, [self.chooser, self.layer, self.channel, *controls, self.statistics], rows)
        self.listen_to_uploads(self.chooser, self.choose_place)
        self.listen(self.layer, prepare=self.change_layer)
        self.listen(self.channel, prepare=self.choose_place)

    def start(self):
        self.change_layer()
        if self._first_channel is not None:
            self.channel.value = self._first_channel
            self.choose_place()
        super().start()

    @property
    def shape(self):
        """`(height, width, channels)` of the layer's maps."""
        return self.maps.shapes[self.layer.value]

    def layer_maps(self):
        """`(h, w, c)` of the layer for the picture."""
        key = self.chooser.value, self.layer.value
        with self.busy("Running the network; the first time it is compiled, too …", key not in self.cache):
            return self.maps[key]

    def about_layer(self):
        """The channels `by_contrast`, and whether the layer has values below zero."""
        maps = self.layer_maps()
        key = "about", self.chooser.value, self.layer.value
        return self.cache.get(key, lambda: (by_contrast(maps), bool(maps.min() < 0)))

    def change_layer(self, change=None):
        """Begin with the liveliest channel of the new layer."""
        order, _ = self.about_layer()
        self.channel.set(self.shape[2] - 1, int(order[0]))
        self.choose_place()

    def choose_place(self, change=None):
        """The picture or the channel is another one; all else stays, so that one sees the difference."""

    def field(self, position):
        """What the unit at `(row, column)` sees: `units.ReceptiveField`, or None if that is not known."""
        try:
            return units.receptive_field(self.model, self.layer.value, position, size=self.gallery.shape[:2])
        except ValueError:  # an operation of which nobody knows how far it reaches
            return None

    def show_picture(self, picture, field, words=""):
        """The picture, with a frame around what a unit sees if that is known."""
        if field is None or not any(field.clipped):
            self.photo.show(picture, self.chooser.value)
        else:
            shown = marked(enlarged(picture, self.photo.width), field.clipped, picture.shape[:2])
            self.photo.show(shown, f"{self.chooser.value}. Frame: what the unit sees{words}.")

    def tell(self, values, field):
        """Write the statistics of the channel, `values` being its map."""
        order, _ = self.about_layer()
        rank = 1 + int(np.flatnonzero(order == self.channel.value)[0])
        sees = "an unknown part" if field is None else "{} × {} pixels".format(*field.size)
        self.statistics.value = html.escape(
            f"Channel {self.channel.value} of {self.layer.value}: mean {short(values.mean())}, largest "
            f"{short(values.max())}, {(values == 0).mean():.0%} zeros, contrast (standard deviation) "
            f"{short(values.std())}: rank {rank} of {len(order)}. One unit sees {sees} (its receptive field)."
        )

    def summary(self):
        return f"{self.chooser.value} · layer {self.layer.value} · channel {self.channel.value}"


class Layers(ChannelExplorer):
    """Walk through the channels of a network: what does each layer see in a picture?

    Shows the picture, the map of the channel, alone and over the picture, numbers about it, all channels of the layer
    in a mosaic, and on request the patches, out of all pictures, to which the channel answers most.

    model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)` of raw pixels; None for
        EfficientNet-Lite0.
    pictures: None for the bundled photographs (digits for a network of 28 × 28 × 1); a folder; a list of names of
        bundled photographs, files, or anything else that `images.load` reads; or a dict name → picture. An array of the
        network's own shape is taken as it is, of a file that is not as wide as high the middle.
    layer: to begin with, one of `submodels.layer_names(model, kind="spatial")`; None chooses a deep one.
    ValueError: a network that takes other inputs, an unknown layer, or `pictures` that cannot be read.
    """

    def __init__(self, model=None, *, pictures=None, layer=None):
        self.buttons = [button() for _ in range(LIVELIEST)]
        self.find = button("Find its strongest patches in all pictures", "search")
        self.shared = widgets.Checkbox(description="All channels on one scale", indent=False)
        self.map, self.overlay, self.patches = Panel(), Panel("The channel over the picture."), Panel()
        self.mosaic = Panel(width=mosaic.WIDTH)
        buttons = row(widgets.Label("Channels of most contrast:"), *self.buttons)
        rows = [[Panel(), self.map, self.overlay, self.patches], [self.mosaic]]
        super().__init__("layers", model, pictures, layer, [buttons, row(self.find, self.shared)], rows)
        self.strongest = Strongest(self.model, self.gallery)
        self.listen(*self.buttons, prepare=self.choose_lively)
        self.listen(self.find, prepare=self.find_patches)
        self.listen(self.shared)
        self.start()

    def choose_lively(self, pressed):
        """Go to the channel that the pressed button names."""
        order, _ = self.about_layer()
        self.channel.value = int(order[self.buttons.index(pressed)])

    def find_patches(self, change=None):
        """Look through all pictures for the strongest patches of every channel of the layer."""
        layer, count = self.layer.value, len(self.gallery.names)
        with self.busy(f"Looking through {count} pictures for all channels of {layer}, once …"):
            self.strongest.patches(layer, self.shape, self.channel.value)

    def refresh(self):
        maps, channel = self.layer_maps(), self.channel.value
        order, signed = self.about_layer()
        values, picture = maps[..., channel], self.gallery.shown(self.chooser.value)
        position = np.unravel_index(values.argmax(), values.shape)
        field = self.field(position)
        self.tell(values, field)
        self.show_picture(picture, field, " that answers most")
        largest = np.abs(values).max()
        ends = f"blue −{short(largest)}, red {short(largest)}" if signed else f"black 0, yellow {short(largest)}"
        self.map.show(painted(values, signed), f"Channel {channel}: {ends}.")
        self.overlay.show(overlaid(enlarged(picture, self.overlay.width), values, signed))
        self._show_patches()
        self._show_mosaic(maps, signed)
        for place, lively in enumerate(self.buttons):
            lively.layout.display = "" if place < len(order) else "none"
            lively.description = f"channel {order[place]}" if place < len(order) else "none"

    def _show_patches(self):
        if not self.strongest.is_ready(self.layer.value):
            return self.patches.hide()
        found = self.strongest.patches(self.layer.value, self.shape, self.channel.value)
        names, scores, patches = zip(*found, strict=True)
        caption = f"Strongest patches: {', '.join(names)}."
        if len(scores) > 1 and scores[0] == scores[-1]:
            caption += f" All reach {short(scores[0])}, the most that this layer can say: their order means nothing."
        self.patches.show(patch_sheet(patches), caption)

    def _show_mosaic(self, maps, signed):
        channel, shared = self.channel.value, self.shared.value
        key = "mosaic", self.chooser.value, self.layer.value, shared
        canvas = self.cache.get(key, lambda: mosaic.draw(maps, signed, shared))
        caption = (
            f"All {maps.shape[2]} channels of {self.layer.value}, {'on one' if shared else 'each on its own'} scale. "
            f"The number of a channel is that of its row plus that of its column. Frame: channel {channel}."
        )
        self.mosaic.show(mosaic.framed(canvas, maps.shape, channel), caption, mosaic.palette(signed))

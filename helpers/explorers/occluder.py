"""`explore.occluder`: cover a part of the picture, and see what the network makes of the rest."""

import ipywidgets as widgets
import numpy as np
from PIL import Image, ImageDraw

from ..attribution import masking, occlusion, shared
from ..submodels import engine
from .background import Background
from .classes import Classes, percent
from .frame import WIDTH, WRAPPED, Chooser, Explorer, Number, Panel, enlarged, font, marked, overlaid, painted, text
from .gallery import Cache, Gallery, as_pixels

SHARES = (14, 10, 7, 5, 3, 2)  # the patch is such a part of the shorter side; a seventh is what `occlusion` takes
FILLS = [
    ("mean colour of the picture", "mean"),
    ("the picture out of focus", "blur"),
    ("noise", "noise"),
    ("one grey", "grey"),
]
WIDE = {"description_width": "initial"}
UNKNOWN = 0.25  # contrast of the picture where the map is not filled in yet

# Colours of the bars: told apart by lightness too
BEFORE, NOW, FRAME = (190, 190, 190), (0, 114, 178), (0, 0, 0)


class Occluder(Explorer):
    """See `explore.occluder`."""

    def __init__(self, model, pictures=None):
        self.model, self.classes = model, Classes(model)
        self.gallery, self.cache = Gallery(model, pictures), Cache()
        height, width = self.gallery.shape[:2]
        sides = sorted({max(1, min(height, width) // share) for share in SHARES})
        labels = [(f"{side} × {side} pixels", side) for side in sides]
        side = max(1, min(height, width) // 7)
        self.chooser = Chooser(self.gallery)
        self.chooser.menu.value = self.gallery.first
        self.target = widgets.Dropdown(description="Class", style=WIDE)
        self.patch = widgets.Dropdown(options=labels, value=side, description="Patch", style=WIDE)
        self.fill = widgets.Dropdown(options=FILLS, description="It shows", style=WIDE)
        self.grey = Number("Grey (0 is black, 255 white)", 255, 127, live=False)
        self.left = Number("Pixels from the left", width - side, (width - side) // 2, live=False)
        self.top = Number("Pixels from the top", height - side, (height - side) // 2, live=False)
        self.mapping = Background("Map everything", "th")
        self.numbers = widgets.HTML()
        self.photo, self.bars = Panel(), Panel("Probabilities", width=440)
        self.map, self.overlay = Panel(), Panel("The same over the picture.")
        options = widgets.HBox([self.target, self.patch, self.fill], layout=WRAPPED)
        controls = [self.chooser, options, self.grey, self.left, self.top, self.mapping, self.numbers]
        super().__init__("occluder", controls, [[self.photo, self.bars], [self.map, self.overlay]])
        self.listen_to_uploads(self.chooser, self.change_picture)
        self.listen(self.patch, self.change_patch)
        for control in (self.target, self.fill, self.grey.slider, self.left.slider, self.top.slider):
            self.listen(control)
        self.mapping.attach(self, self.map_everything)
        self.change_picture()
        self.start()

    # What is computed

    @property
    def box(self):
        """`(top, left, bottom, right)` of the patch."""
        top, left, side = self.top.value, self.left.value, self.patch.value
        return top, left, top + side, left + side

    @property
    def _shown(self):
        """What the patch shows, as `perturbation.occlusion` takes it: a word, or a number."""
        return self._grey() if self.fill.value == "grey" else self.fill.value

    def _grey(self):
        """The grey in the units of the network's input, which need not be 0 … 255."""
        low, high = _range(self.gallery[self.chooser.value])
        return low + self.grey.value * (high - low) / 255

    def _task(self):
        return shared.prepare(self.model, self.gallery[self.chooser.value], self.target.value)

    def _fill(self):
        """The picture that the patch is cut out of, `(H, W, C)`."""
        key = "fill", self.chooser.value, self._shown
        return self.cache.get(key, lambda: np.array(masking.fills(self._task(), self._shown)[0]))

    def clean(self):
        """What the network puts out for the whole picture, `(classes,)`."""
        name = self.chooser.value
        return self.cache.get(("clean", name), lambda: engine.run(self.model, self.gallery[name][None])[0])

    def covered(self):
        """The picture as the network gets it, `(H, W, C)` float32."""
        top, left, bottom, right = self.box
        picture = self.gallery[self.chooser.value].copy()
        picture[top:bottom, left:right] = self._fill()[top:bottom, left:right]
        return picture

    def answer(self):
        """What the network puts out for the covered picture, `(classes,)`."""
        key = "covered", self.chooser.value, self._shown, self.box
        return self.cache.get(key, lambda: engine.run(self.model, self.covered()[None])[0])

    @property
    def _sweep_key(self):
        return "sweep", self.chooser.value, self._shown, self.patch.value

    @property
    def windows(self):
        """The positions of the map."""
        return occlusion.Windows.over(self.gallery.shape[:2], self.patch.value)

    def occlusion_map(self):
        """What `perturbation.occlusion` gives for the class, `(H, W)`, NaN where it is not known yet; or None."""
        if self._sweep_key not in self.cache:
            return None
        scores, windows = self.cache.get(self._sweep_key, None)[:, self.target.value], self.windows
        return windows.mean((scores[0] - scores[1:]).reshape(len(windows.tops), len(windows.lefts))).astype("float32")

    def map_everything(self):
        """Cover the picture everywhere, unless that is done. One pass serves all classes."""
        values = self.occlusion_map()
        if values is not None and not np.isnan(values).any():
            return
        windows, task = self.windows, self._task()
        total = 1 + len(windows.tops) * len(windows.lefts)
        outputs = np.full((total, len(self.classes.names)), np.nan, np.float32)
        self.cache.put(self._sweep_key, outputs)
        done = 0
        for _, found in occlusion.sweep(task, windows, self._fill()[None], 0, also=("outputs",)):
            outputs[done : done + len(found)] = found
            done += len(found)
            self._show_map()
            yield done - 1, total - 1, f"{done - 1} of {total - 1} positions"

    # What is done when a control was changed

    def change_picture(self, change=None):
        """Offer the classes that are the most probable for the new picture, and choose the first."""
        self.target.options = self.classes.menu(self.clean())
        self.target.value = self.target.options[0][1]

    def change_patch(self, change=None):
        """Keep the patch within the picture, and its middle where it is."""
        side, before = self.patch.value, change["old"]
        for number, length in ((self.top, self.gallery.shape[0]), (self.left, self.gallery.shape[1])):
            number.set(length - side, min(max(number.value + (before - side) // 2, 0), length - side))

    def refresh(self):
        clean, now = self.clean(), self.answer()
        self.grey.layout.display = "flex" if self.fill.value == "grey" else "none"
        self.photo.show(self._marked(as_pixels(self.covered())), f"{self.chooser.value}, as the network gets it.")
        before, after = self.classes.probabilities(clean), self.classes.probabilities(now)
        shown = self.classes.top(clean)
        shown += [index for index in self.classes.top(now, 1) if index not in shown]
        rows = [(self.classes.names[k], before[k], after[k], k == self.target.value) for k in shown]
        self.bars.show(drawn_bars(rows, self.bars.width))
        self._show_map()
        self._tell(clean, now, before, after)

    def _marked(self, pixels):
        return marked(enlarged(pixels), self.box, self.gallery.shape[:2])

    def _show_map(self):
        values = self.occlusion_map()
        if values is None or np.isnan(values).all():
            self.map.hide()
            self.overlay.hide()
            return
        largest, name = np.nanmax(np.abs(values)), self.classes.names[self.target.value]
        if np.isnan(values).any():
            colours, laid = self._drawn(values)
        else:
            key = "drawn", self._sweep_key, self.target.value
            colours, laid = self.cache.get(key, lambda: self._drawn(values))
        self.map.show(
            self._marked(colours),
            f"Fall of the score of {name} when a place is covered. Red: it speaks for the class; blue: against it. "
            f"Colours from {-largest:.3g} to {largest:.3g}.",
        )
        self.overlay.show(self._marked(laid))

    def _drawn(self, values):
        """The map alone and over the picture, `(H, W, 3)` each, with the picture, faint, where nothing is known yet."""
        known, photo = ~np.isnan(values), self.gallery.shown(self.chooser.value)
        faint = np.uint8(255 - UNKNOWN * (255 - photo.mean(2, keepdims=True))).repeat(3, 2)
        values = np.where(known, values, 0)
        pictures = painted(values, True), overlaid(photo, values, True)
        return [np.where(known[..., None], pixels, faint) for pixels in pictures]

    def _tell(self, clean, now, before, after):
        """Write the numbers of the class."""
        target, top = self.target.value, self.classes.top(now, 1)[0]
        drop = clean[target] - now[target]
        words = (
            f"{self.classes.names[target]}: probability {percent(before[target])} → {percent(after[target])}, score "
            f"{clean[target]:.2f} → {now[target]:.2f}, a {'fall' if drop >= 0 else 'rise'} of {abs(drop):.2f}. "
            f"Most probable now: {self.classes.names[top]}, {percent(after[top])}."
        )
        values = self.occlusion_map()
        row, column = (self.box[0] + self.box[2]) // 2, (self.box[1] + self.box[3]) // 2
        if values is not None and not np.isnan(values[row, column]):
            words += f" The map in the middle of the patch: {values[row, column]:.2f}."
        self.numbers.value = text(words)

    def summary(self):
        side, fill = self.patch.value, next(label for label, value in FILLS if value == self.fill.value)
        return f"{self.chooser.value} · patch of {side} × {side} pixels: {fill}"


def _range(picture):
    """What is black and what is white: 0 and 255, or the ends of another range."""
    low, high = float(picture.min()), float(picture.max())
    return (0.0, 255.0) if low >= 0 and 1 < high <= 255 else (low, high)


def drawn_bars(rows, width=2 * WIDTH, line=38):
    """Probabilities before and now, two bars for each class: `(h, width, 3)` uint8.

    rows: of `(name, before, now, is the chosen one)`.
    """
    canvas = Image.new("RGB", (width, 26 + line * len(rows)), "white")
    draw, own = ImageDraw.Draw(canvas), font(12)
    for left, colour, words in ((2, BEFORE, "whole picture"), (130, NOW, "with the patch")):
        draw.rectangle((left, 6, left + 12, 16), fill=colour)
        draw.text((left + 18, 3), words, fill="black", font=own)
    for place, (name, before, now, is_chosen) in enumerate(rows):
        top = 26 + line * place
        if is_chosen:
            draw.polygon([(2, top + 4), (2, top + 14), (9, top + 9)], fill=FRAME)
        draw.text((14 if is_chosen else 2, top), name, fill="black", font=own)
        numbers = f"{percent(before)} → {percent(now)}"
        draw.text((width - 2, top), numbers, fill="black", font=own, anchor="ra")
        for offset, share, colour in ((18, before, BEFORE), (25, now, NOW)):
            draw.rectangle((2, top + offset, 2 + max(1, round(share * (width - 5))), top + offset + 6), fill=colour)
        draw.line((2, top + 18, 2, top + 31), fill=FRAME)
    return np.array(canvas)

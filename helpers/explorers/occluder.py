"""`explore.occluder`: cover a part of the picture, and see what the network makes of the rest."""

import ipywidgets as widgets
import keras
import numpy as np
from PIL import Image, ImageDraw

from .. import models
from ..attribution import masking, occlusion, shared
from .background import Background
from .classes import Classes, ClassExplorer, percent
from .frame import Number, Panel, enlarged, font, labelled, marked, overlaid, painted, row, text
from .gallery import Gallery, as_pixels, black_and_white

SHARES = (2, 3, 4, 6, 8, 12)  # the patch is so many 28ths of the shorter side; four are what `occlusion` takes
FILLS = [
    ("black", "black"),
    ("one grey", "grey"),
    ("mean colour of the picture", "mean"),
    ("the picture out of focus", "blur"),
    ("noise", "noise"),
]
FIRST, BEGIN = "panda", (16, 64, 96)  # the picture, and row, column and side of a patch that changes the answer
UNKNOWN = 0.25  # contrast of the picture where the map is not filled in yet

# Colours of the bars: told apart by lightness too
BEFORE, NOW, FRAME = (190, 190, 190), (0, 114, 178), (0, 0, 0)


class Occluder(ClassExplorer):
    """Cover a part of the picture with a patch: what does the network take it for now?

    Shows the picture exactly as the network gets it, with a frame around the patch, and the probabilities of the likely
    classes before and after. *Map everything* covers one place after the other and draws how far the score of the
    chosen class falls: `perturbation.occlusion(model, picture, class, patch=…, fill=…)`. So does
    `explorer.mapping.begin.click(); explorer.mapping.wait()`.

    model, pictures, labels, errors: as for `explore.heatmaps`; `ValueError` also for a network that puts out something
        else than one number for each class.
    """

    def __init__(self, model=None, *, pictures=None, labels=None):
        model = models.load() if model is None else model
        gallery, classes = Gallery(model, pictures), Classes(model, labels)
        (height, width, _), first = gallery.shape, gallery.first(FIRST)
        sides = sorted({max(1, round(min(height, width) * share / 28)) for share in SHARES})
        side = max(1, min(height, width) // 7)
        top, left = (height - side) // 2, (width - side) // 2
        if pictures is None and (height, width) == (224, 224):
            top, left, side = BEGIN
        sizes = [(f"{each} × {each} pixels", each) for each in sorted({side, *sides})]
        self.patch = labelled(widgets.Dropdown, "Patch", options=sizes, value=side)
        self.fill = labelled(widgets.Dropdown, "It shows", options=FILLS)
        self.grey = Number("Grey", 255, 127, live=False, typed="0 is black, 255 white")
        self.left = Number("From the left", width - side, left, live=False, typed="px from the left")
        self.top = Number("From the top", height - side, top, live=False, typed="px from the top")
        self.mapping = Background("Map everything", "th")
        self.numbers = widgets.HTML()
        self.photo, self.bars = Panel(), Panel("Probabilities", width=440)
        self.map, self.overlay = Panel(), Panel("The same over the picture.")
        controls = [row(self.patch, self.fill), self.grey, self.left, self.top, self.mapping, self.numbers]
        rows = [[self.photo, self.bars], [self.map, self.overlay]]
        super().__init__("occluder", model, gallery, classes, controls, rows, first)
        self.listen(self.patch, prepare=self.change_patch)
        self.listen(self.fill, self.grey, self.left, self.top)
        self.mapping.attach(self, self.map_everything)
        self.start()

    @property
    def box(self):
        """`(top, left, bottom, right)` of the patch."""
        top, left, side = self.top.value, self.left.value, self.patch.value
        return top, left, top + side, left + side

    @property
    def _shown(self):
        """What the patch shows, as `perturbation.occlusion` takes it: a word, or a number."""
        if self.fill.value not in ("black", "grey"):
            return self.fill.value
        low, high = black_and_white(self.gallery[self.chooser.value])  # the network's input need not be 0 … 255
        return low + (self.grey.value if self.fill.value == "grey" else 0) * (high - low) / 255

    def _task(self):
        return shared.prepare(self.model, self.gallery[self.chooser.value], self.classes.target(self.target.value))

    def _fill(self):
        """The picture that the patch is cut out of, `(H, W, C)`."""
        key = "fill", self.chooser.value, self._shown
        return self.cache.get(key, lambda: np.array(masking.fills(self._task(), self._shown)[0]))

    def covered(self):
        """The picture as the network gets it, `(H, W, C)` float32."""
        top, left, bottom, right = self.box
        picture = self.gallery[self.chooser.value].copy()
        picture[top:bottom, left:right] = self._fill()[top:bottom, left:right]
        return picture

    def answer(self):
        """What the network puts out for the covered picture, `(outputs,)`."""
        key = "covered", self.chooser.value, self._shown, self.box
        return self.cache.get(key, lambda: self.run(self.covered()))

    @property
    def _sweep_key(self):
        return "sweep", self.chooser.value, self._shown, self.patch.value

    @property
    def windows(self):
        """The positions of the map."""
        return occlusion.Windows.over(self.gallery.shape[:2], self.patch.value)

    def occlusion_map(self):
        """What `perturbation.occlusion` gives for the class, `(H, W)`, NaN where it is not known yet; or None."""
        outputs, windows = self.cache.peek(self._sweep_key), self.windows
        if outputs is None:
            return None
        scores = self.classes.scores(outputs)[:, self.target.value]
        return windows.mean((scores[0] - scores[1:]).reshape(len(windows.tops), len(windows.lefts))).astype("float32")

    def map_everything(self):
        """Cover the picture everywhere, unless that is done. One pass serves all classes."""
        values = self.occlusion_map()
        if values is not None and not np.isnan(values).any():
            return
        windows, task, done = self.windows, self._task(), 0
        total = 1 + len(windows.tops) * len(windows.lefts)
        outputs = np.full((total, self.classes.outputs), np.nan, np.float32)
        self.cache.put(self._sweep_key, outputs)
        for _, found in occlusion.sweep(task, windows, self._fill()[None], 0, also=("outputs",)):
            (rows,) = keras.tree.flatten(found)
            outputs[done : done + len(rows)] = rows
            done += len(rows)
            self._show_map()
            yield done - 1, total - 1, f"{done - 1} of {total - 1} positions"

    def change_patch(self, change=None):
        """Keep the patch within the picture, and its middle where it is."""
        side, before = self.patch.value, change["old"]
        for number, length in ((self.top, self.gallery.shape[0]), (self.left, self.gallery.shape[1])):
            number.set(length - side, min(max(number.value + (before - side) // 2, 0), length - side))

    def refresh(self):
        clean, now, target = self.outputs(), self.answer(), self.target.value
        self.grey.layout.display = "flex" if self.fill.value == "grey" else "none"
        self.photo.show(self._marked(as_pixels(self.covered())), f"{self.chooser.value}, as the network gets it.")
        before, after = self.classes.probabilities(clean), self.classes.probabilities(now)
        if before is None or after is None:
            self.bars.hide()
        else:
            shown = dict.fromkeys([*self.classes.top(clean), target, *self.classes.top(now, 1)])
            rows = [(self.classes.names[k], before[k], after[k], k == target) for k in shown]
            self.bars.show(drawn_bars(rows, self.bars.width))
        self._show_map()
        self._tell(clean, now, before, after)

    def _marked(self, pixels):
        return marked(enlarged(pixels, self.photo.width), self.box, self.gallery.shape[:2])

    def _show_map(self):
        """The map alone and over the picture, with the picture, faint, where nothing is known yet."""
        values = self.occlusion_map()
        if values is None or np.isnan(values).all():
            self.map.hide()
            self.overlay.hide()
            return
        largest, name = np.nanmax(np.abs(values)), self.classes.names[self.target.value]
        known, photo = ~np.isnan(values), self.gallery.shown(self.chooser.value)
        faint = np.uint8(255 - UNKNOWN * (255 - photo.mean(2, keepdims=True))).repeat(3, 2)
        values = np.where(known, values, 0)
        caption = (
            f"Fall of the score of {name} when a place is covered. Red: it speaks for the class; blue: against it. "
            f"Colours from {-largest:.3g} to {largest:.3g}."
        )
        self.map.show(self._marked(np.where(known[..., None], painted(values, True), faint)), caption)
        self.overlay.show(self._marked(np.where(known[..., None], overlaid(photo, values, True), faint)))

    def _tell(self, clean, now, before, after):
        """Write the numbers of the class."""
        target, top = self.target.value, self.classes.top(now, 1)[0]
        whole, part = (self.classes.scores(outputs)[target] for outputs in (clean, now))
        words = f"score {whole:.2f} → {part:.2f}, a {'fall' if whole >= part else 'rise'} of {abs(whole - part):.2f}."
        if before is not None and after is not None:
            words = f"probability {percent(before[target])} → {percent(after[target])}, {words}"
            words += f" Most probable now: {self.classes.names[top]}, {percent(after[top])}."
        values = self.occlusion_map()
        middle = (self.box[0] + self.box[2]) // 2, (self.box[1] + self.box[3]) // 2
        if values is not None and not np.isnan(values[middle]):
            words += f" On the map its middle has {values[middle]:.2f}, the mean over all patches that cover it."
        self.numbers.value = text(f"{self.classes.names[target]}: {words}")

    def summary(self):
        return f"{self.chooser.value} · patch of {self.patch.label}: {self.fill.label}"


def drawn_bars(rows, width, line=38):
    """Two bars for each of the rows `(class, probability before, and now, is it the chosen one)`: `(h, width, 3)`."""
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

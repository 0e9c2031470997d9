"""The figure that all plots draw on: its style, its title, and how it shows itself in a notebook."""

import io
import textwrap

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

MAX_BYTES = 140_000  # what one picture may add to a notebook; a large one three times as much
QUALITIES = (90, 85, 80, 70, 60, 50, 40)  # of a JPEG, tried until it is small enough
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito (2008)
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "image.cmap": "inferno",
}


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook, whatever the backend, in the format that suits it."""

    density = 1

    def large(self):
        """The figure itself, from now on drawn with twice as many dots each way: for the two best of a notebook."""
        self.density = 2
        return self

    def pixels(self):
        """The whole figure as `(H, W, 3)` uint8, so that figures of one size can be the frames of a film."""
        canvas = FigureCanvasAgg(self)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]

    def encoded(self):
        """`(mime type, bytes)` of the figure."""
        FigureCanvasAgg(self)
        drawn, dots = io.BytesIO(), self.density * self.dpi
        # "tight": long labels are never cut off
        self.savefig(drawn, format="png", dpi=dots, bbox_inches="tight", pad_inches=0.06)
        return encoded(Image.open(drawn).convert("RGB"), self.density > 1)

    def _ipython_display_(self):
        from IPython.display import display

        mime, content = self.encoded()
        width = Image.open(io.BytesIO(content)).width // self.density
        metadata = {mime: {"width": width}} if self.density > 1 else {}
        display({mime: content, "text/plain": repr(self)}, metadata=metadata, raw=True)


def encoded(image, large=False):
    """`(mime type, bytes)` of a PIL image in RGB: the smaller of PNG (lines, flat colours) and JPEG (photographs)."""
    most, qualities = (3 * MAX_BYTES, QUALITIES[:2]) if large else (MAX_BYTES, QUALITIES)
    lossless, content = _saved(image, "PNG"), _saved(image, "JPEG", quality=qualities[0])
    if len(lossless) < min(len(content), most):
        return "image/png", lossless
    for quality in qualities[1:]:
        if len(content) > most:
            content = _saved(image, "JPEG", quality=quality, optimize=True, progressive=True)
    return "image/jpeg", content


def _saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def figure(width, height, title):
    """Empty picture, `width` × `height` inches and room for its title above."""
    title = wrapped(title, width, 12)
    picture = Picture(figsize=(width, height + 0.25 * (title.count("\n") + bool(title))), layout="constrained")
    if title:
        picture.suptitle(title)
    return picture


def wrapped(text, inches, points=9):
    """Text broken into lines that fit; a letter is about 0.6 of its height wide."""
    letters = max(8, int(inches * 72 / (0.6 * points)))
    return "\n".join(textwrap.fill(line, letters) for line in str(text or "").splitlines())

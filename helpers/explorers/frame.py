"""What the explorers are built from: panels, a chooser of pictures, numbers, and the frame that holds them together.

Core ipywidgets only, version 7.7 and 8. A picture on the page is a `widgets.Image` that is fed from an array.
"""

import base64
import contextlib
import html
import io
import textwrap

import ipywidgets as widgets
import matplotlib
import numpy as np
import traitlets
from PIL import Image, ImageDraw, ImageFont

from ..pictures import colour, figure, images

WIDTH = 224  # pixels of a panel on the page; read when one is made, so that a page with more room can set it before
MARK = (230, 159, 0)  # orange, told from every colour of the maps also by colour-blind readers
# Narrow screens get more rows; pictures stand on a line; boxes of ipywidgets would each have scroll bars of their own.
WRAPPED = {"flex_flow": "row wrap", "align_items": "flex-end", "overflow": "visible", "max_width": "100%"}


# Arrays into pictures


def painted(values, signed):
    """The colours of a map `(h, w)` on a scale of its own, from zero or around it: `(h, w, 3)` uint8."""
    return images.colorize(values, *colour.scale(values, signed, from_zero=True))


def overlaid(picture, values, signed):
    """A map laid over its picture `(H, W, 3)` uint8, with the colours of `painted`, which fade where it is weak."""
    return images.overlay(picture, values, 0.8, *colour.scale(values, signed, from_zero=True), fade=True)


def font(size):
    """For words in a picture, of `size` pixels. It comes with matplotlib, and unlike that of PIL it has arrows."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def enlarged(pixels, width=None):
    """A small picture `width` pixels wide, by default those of a panel; one that is not smaller as it is."""
    width, before = width or WIDTH, pixels.shape[1]
    if before >= width:
        return pixels
    size = max(1, round(pixels.shape[0] * width / before)), width
    return images.resize(pixels, size, "nearest" if 2 * before <= width else "bicubic")  # even, or smooth


def marked(pixels, box, shape=None, colour=MARK, edge=(0, 0, 0)):
    """A copy of the picture with a frame around the box `(top, left, bottom, right)`, ends excluded.

    pixels: `(H, W, 3)` uint8, or `(H, W)` with `colour` and `edge` to match, the colours of the frame and of its sides.
    shape: `(height, width)` of the grid that the box counts in, a map that `pixels` shows enlarged; None for pixels.
    """
    sides = np.array(pixels.shape[:2])
    first, last = np.rint(np.reshape(box, (2, 2)) * sides / (sides if shape is None else shape)).astype(int)
    top, left = first = np.clip(first, 3, sides - 4)  # with room for the frame
    bottom, right = np.clip(last, first + 1, sides - 3)
    picture = Image.fromarray(pixels)  # a copy
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 3, top - 3, right + 2, bottom + 2), outline=edge, width=4)
    draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=colour, width=2)
    return np.array(picture)


# Parts of the page


def labelled(kind, label, width=None, **options):
    """A control of this `kind` of widget, with a label as long as its words, and no wider than a narrow screen."""
    layout = {"width": width, "max_width": "98%"}
    return kind(description=label, style={"description_width": "initial"}, layout=layout, **options)


def button(label="", icon=""):
    """A button as wide as its words."""
    return widgets.Button(description=label, icon=icon, layout={"width": "auto"})


def row(*controls):
    """Controls side by side, on a narrow screen below each other."""
    return widgets.HBox(controls, layout=WRAPPED)


def told(error):
    """An error in words: those that `helpers` raise are written for readers, of others the first line has to do."""
    if isinstance(error, ValueError):
        return str(error)
    first = next(iter(str(error).strip().splitlines()), "")
    return f"This should not have happened. {type(error).__name__}: {textwrap.shorten(first, 200)}"


def text(content, kind="status"):
    """Words on the page, which screen readers announce when they change: `kind` is `"status"` or `"alert"`."""
    style = ' style="color: #a40000; background: #fff4f4; padding: 0.4em; border-left: 4px solid"'
    return f'<div role="{kind}"{style if kind == "alert" else ""}>{html.escape(content)}</div>' if content else ""


class Panel(widgets.VBox):
    """A picture under a caption, `width` pixels wide on the page (None: `WIDTH`). `pixels` is what was shown last."""

    def __init__(self, caption="", width=None):
        self.caption, self.width = caption, width or WIDTH
        self.pixels = self.palette = None
        size = {"width": f"{self.width}px", "max_width": "100%"}
        self.heading = widgets.HTML(layout=size)
        self.image = widgets.Image(format="png", layout=size)
        layout = {"display": "none", "padding": "0 8px 8px 0", "max_width": "100%", "overflow": "visible"}
        super().__init__([self.heading, self.image], layout=layout)

    def show(self, pixels, caption=None, palette=None):
        """Put a picture `(H, W, 3)` on the page, or quicker: `(H, W)` numbers of the colours of a palette `(N, 3)`."""
        self.caption = self.caption if caption is None else caption
        self.heading.value = f'<div style="line-height: 1.3">{html.escape(self.caption)}</div>'
        if not (np.array_equal(pixels, self.pixels) and np.array_equal(palette, self.palette)):
            picture, file = Image.fromarray(enlarged(pixels, self.width)), io.BytesIO()
            if palette is not None:
                picture.putpalette(palette.tobytes())
            picture.save(file, "PNG", compress_level=1)  # lossless, and quick rather than small
            self.image.value = file.getvalue()
            self.pixels, self.palette = pixels, palette
        self.layout.display = "flex"

    def drawn(self):
        """The picture as it is on the page: `(h, w, 3)` uint8."""
        pixels = enlarged(self.pixels, self.width)
        return pixels if self.palette is None else self.palette[pixels]

    def hide(self):
        """Take the panel from the page until the next `show`."""
        self.layout.display = "none"

    @property
    def is_shown(self):
        return self.layout.display != "none"


class Number(widgets.HBox):
    """A whole number from 0, by a slider (`live`: also while it moves) or in the field beside it, labelled `typed`."""

    def __init__(self, label, high=0, value=0, live=True, typed=None):
        typed = typed or f"{label} number"
        self.slider = labelled(widgets.IntSlider, label, "320px", readout=False, continuous_update=live)
        self.field = labelled(widgets.BoundedIntText, typed, f"{80 + 8 * len(typed)}px")  # room for four digits
        self.link = traitlets.link((self.slider, "value"), (self.field, "value"))
        super().__init__([self.slider, self.field], layout=WRAPPED)
        self.set(high, value)

    def set(self, high, value):
        """Allow 0 … high, and choose one."""
        self.slider.value = 0  # within the old and the new range
        self.field.max = high
        self.slider.max = max(high, 1)  # the slider of the page cannot have a single place
        self.slider.disabled = high == 0
        self.slider.value = value

    @property
    def value(self):
        return self.slider.value

    @value.setter
    def value(self, value):
        self.slider.value = value


class Chooser(widgets.HBox):
    """A menu of the pictures of a `Gallery`, and a button to bring along one's own.

    The button accepts pictures only, and so a phone or tablet offers its camera there. The kernel hears of a file when
    all of it has arrived; until then the page writes the number of files on their way behind the words of the button.
    """

    def __init__(self, gallery, first=None):
        self.gallery = gallery
        self.menu = labelled(widgets.Dropdown, "Picture", options=gallery.names, value=first or gallery.first())
        self.upload = widgets.FileUpload(accept="image/*", description="Your own picture", layout={"width": "auto"})
        super().__init__([self.menu, self.upload], layout=WRAPPED)

    @property
    def value(self):
        """The name of the chosen picture."""
        return self.menu.value

    def take(self):
        """Put what was brought along into the gallery and choose it; what there is to say of it. Or `ValueError`."""
        value, note = self.upload.value, ""
        is_dict = isinstance(value, dict)  # name → file in ipywidgets 7; a tuple of files in 8
        try:
            for name, file in value.items() if is_dict else [(file["name"], file) for file in value]:
                name, note = self.gallery.add(name, bytes(file["content"]))
                self.menu.options = self.gallery.names
                self.menu.value = name
        finally:  # free the memory of the file, and let the same file be chosen again
            if is_dict:
                self.upload.data, self.upload.metadata, self.upload._counter = [], [], 0
            else:
                self.upload.value = ()
        return note


# The frame


class Explorer(widgets.VBox):
    """Controls above, pictures below, and between them a line that says what is going on or what went wrong.

    A subclass hands its `name`, its controls from top to bottom, and rows of panels (a list of lists) to
    `super().__init__`, calls `listen` for each control and at last `start`. It defines `refresh`, which brings all
    panels up to date with all controls, and `summary`: what is shown, in one line, for the picture without a kernel.
    """

    def __init__(self, name, controls, rows):
        self.name, self.rows = name, rows
        self.status, self.problem = widgets.HTML(), widgets.HTML()
        self._is_working = True  # until `start`
        pictures = [row(*shown) for shown in rows]
        super().__init__([*controls, self.problem, self.status, *pictures], layout={"overflow": "visible"})

    def start(self):
        """Show the first state. Errors are raised, as by any other function."""
        self.refresh()
        self._is_working = False

    def listen(self, *controls, prepare=None, trait="value"):
        """When a reader changes a control, or presses it: call `prepare(change)` if given, then `refresh()`, once."""

        def changed(change):
            if not self._is_working:  # as it is when `prepare` changes other controls
                with self.working():
                    if prepare:
                        prepare(change)
                    self.refresh()

        for control in controls:
            if isinstance(control, widgets.Button):
                control.on_click(changed)
            else:  # both parts of a `Number` agree
                getattr(control, "slider", control).observe(changed, trait)

    def listen_to_uploads(self, chooser, prepare=None):
        """The same for both parts of a `Chooser`; what there is to say about an upload is said."""

        def changed(change):
            note = ""
            if change["owner"] is chooser.upload:
                with self.busy("Reading the picture …"):
                    note = chooser.take()
            if prepare:
                prepare(change)
            self.say(note)

        self.listen(chooser.menu, chooser.upload, prepare=changed)

    @contextlib.contextmanager
    def working(self):
        """While a control is followed: no other is. Ends with the error on the page, or with none there."""
        self._is_working = True
        self.say("")
        try:
            yield
        except Exception as error:
            self.problem.value = text(told(error), "alert")
        else:
            self.problem.value = ""
        finally:
            self._is_working = False

    def say(self, words):
        """Show a line of text until the next change of a control."""
        self.status.value = text(words)

    @contextlib.contextmanager
    def busy(self, words, when=True):
        """Show a line of text while something takes longer than a step; not if `when` says that it does not."""
        before = self.status.value
        if when:
            self.say(words)
        try:
            yield
        finally:
            self.status.value = before

    def __repr__(self):
        return f"explore.{self.name}: run this cell to use it"

    _ipython_display_ = None  # ipywidgets 7 would use it in place of the following

    def _repr_mimebundle_(self, **options):
        """The explorer, and where no kernel runs a picture of what is shown now."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        rows = [[part for one in shown for part in parts(one) if isinstance(part, Panel)] for shown in self.rows]
        rows = [[panel for panel in panels if panel.is_shown] for panels in rows]
        picture = composed(f"explore.{self.name} · {self.summary()}", list(filter(None, rows)))
        mime, content = figure.encoded(Image.fromarray(picture))
        still = base64.b64encode(content).decode()
        return {"application/vnd.jupyter.widget-view+json": view, mime: still, "text/plain": repr(self)}


def parts(widget):
    """A widget and everything in it."""
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts(child))]


def short(number):
    """A number in few letters, without powers of ten where it can be."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def composed(title, rows, gap=8, line=15):
    """One picture of rows of panels under their captions: `(H, W, 3)` uint8, black on white."""
    captions = [[textwrap.wrap(panel.caption, round(panel.width / 6.5)) for panel in row] for row in rows]
    pictures = [[panel.drawn() for panel in row] for row in rows]
    width = max(sum(picture.shape[1] + gap for picture in row) for row in pictures) + gap
    heads = [line * max(map(len, row)) + 4 for row in captions]
    heights = [head + max(map(len, row)) + gap for head, row in zip(heads, pictures, strict=True)]
    titles = textwrap.wrap(title, width // 8)
    top = 20 * len(titles) + gap
    canvas = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text((gap, 4), "\n".join(titles), fill="black", font=font(13))
    for head, height, words, row in zip(heads, heights, captions, pictures, strict=True):
        left = gap
        for lines, picture in zip(words, row, strict=True):
            draw.multiline_text((left, top), "\n".join(lines), fill="black", font=font(11), spacing=2)
            canvas.paste(Image.fromarray(picture), (left, top + head))
            left += picture.shape[1] + gap
        top += height
    return np.array(canvas)

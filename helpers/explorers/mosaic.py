"""All channels of a layer in one picture, with numbers at its edges, drawn in the colours of a palette."""

from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from ..pictures import colour, images
from .frame import MARK, marked

WIDTH = 928  # pixels, that of four panels
LEFT, TOP, GAP = 40, 18, 2  # pixels for the numbers of the rows, of the columns, and between the tiles
SHADES = 248  # colours of the palette that belong to the map; then the frame, and seven greys from white to black
FRAME, WHITE, GREY, BLACK = 248, 249, 251, 255


class Mosaic(NamedTuple):
    """Where the tile of each channel is."""

    channels: int
    columns: int  # a round number, so that row + column is the channel
    height: int  # of a tile, in pixels
    width: int

    @classmethod
    def of(cls, shape):
        """For maps of this `(h, w, c)`."""
        columns = next((columns for columns, most in ((10, 40), (20, 240)) if shape[2] <= most), 40)
        width = (WIDTH - LEFT) // columns - GAP
        return cls(shape[2], columns, max(1, round(width * shape[0] / shape[1])), width)

    def box(self, channel):
        """`(top, left, bottom, right)` of a channel's tile."""
        row, column = divmod(channel, self.columns)
        top, left = TOP + row * (self.height + GAP), LEFT + column * (self.width + GAP)
        return top, left, top + self.height, left + self.width


def palette(signed):
    """The colours of a mosaic, `(256, 3)` uint8."""
    colours = matplotlib.colormaps[colour.DIVERGING if signed else colour.SEQUENTIAL](np.linspace(0, 1, SHADES))
    greys = np.repeat(np.linspace(255, 0, BLACK - WHITE + 1)[:, None], 3, axis=1)
    return np.rint(np.concatenate([255 * colours[:, :3], [MARK], greys])).astype(np.uint8)


def draw(maps, signed, shared=False):
    """The maps `(h, w, c)` as `(H, 928)` colours of the `palette`: on one scale (`shared`), or each its own."""
    mosaic = Mosaic.of(maps.shape)
    is_small = 2 * maps.shape[1] <= mosaic.width  # then its pixels can be shown; otherwise they would differ in width
    tiles = images.resize(maps, (mosaic.height, mosaic.width), "nearest" if is_small else "bilinear")
    shares = colour.shares(tiles, None if shared else (0, 1))
    shades = np.rint((SHADES - 1) * ((shares + 1) / 2 if signed else shares)).astype(np.uint8)
    # Grey between the tiles: in signed maps white is zero.
    drawn = images.tile(np.moveaxis(shades, -1, 0), min(mosaic.columns, mosaic.channels), GAP, GREY)
    canvas = np.full((TOP + len(drawn), WIDTH), WHITE, np.uint8)
    canvas[TOP:, LEFT : LEFT + drawn.shape[1]] = drawn
    top, _, _, right = mosaic.box(mosaic.channels - 1)
    canvas[top:, right:] = WHITE
    # The first channel of each row stands on the left, and what to add to it above.
    picture = Image.fromarray(canvas)
    write = ImageDraw.Draw(picture)
    for column in range(min(mosaic.columns, mosaic.channels)):
        _, left, _, right = mosaic.box(column)
        write.text(((left + right) / 2, TOP - 4), f"{column}", BLACK, font_size=11, anchor="ms")
    for first in range(0, mosaic.channels, mosaic.columns):
        top, _, bottom, _ = mosaic.box(first)
        write.text((LEFT - 5, (top + bottom) / 2), f"{first}", BLACK, font_size=11, anchor="rm")
    return np.array(picture)


def framed(canvas, shape, channel):
    """With a frame around the tile of a channel; `shape` is that of the maps."""
    return marked(canvas, Mosaic.of(shape).box(channel), colour=FRAME, edge=BLACK)

"""Pictures in, pictures out: read files, cut and stack them, lay maps over them. Only `contour` needs OpenCV."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from .. import environment
from .colour import colorize, finite_range, limits_of, signed
from .photographs import COMPOSITES, composite, face, faces, masks, sample, samples
from .reading import FORMATS, MAX_PIXELS, batch, centre, crop, load, resize

__all__ = ["COMPOSITES", "FORMATS", "MAX_PIXELS", "animation", "batch", "colorize", "composite", "contour", "crop"]
__all__ += ["face", "faces", "load", "masked", "masks", "overlay", "resize", "sample", "samples", "signed", "tile"]


def overlay(image, heatmap, alpha=0.5, cmap="inferno", limits=None, fade=False):
    """A map laid over its picture: `(1 − alpha)·picture + alpha·colours`, as uint8 of the picture's shape.

    The map is scaled to the picture. If it has other proportions, the network saw only the centred part that `batch`
    cuts out: the map is laid there, and the rest of the picture stays as it is.

    image: a picture as `load` accepts it, or a batch `(B, H, W, 3)`, 0..255.
    heatmap: `(h, w)` of any size, `(B, h, w)` for a batch.
    alpha: 0 (the picture) to 1 (the map).
    cmap, limits: as in `colorize`; each map of a batch has its own scale unless `limits` gives numbers.
    fade: True: `alpha` is that of the strongest values, and falls to 0 with them, so that where the map says nothing
        the picture is neither darkened nor bleached. Of a scale around zero, that is where it is zero.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r}: it goes from 0 (the picture) to 1 (the map).")

    def blend(part, values):
        low, high = limits_of(values, limits)  # of the map itself, before it is scaled up or down
        values = resize(values, part.shape[:2])
        quiet = 0 if low == -high else low
        weight = alpha * np.clip((values - quiet) / (high - quiet), -1, 1)[..., None] if fade else alpha
        colours = colorize(values, cmap, (low, high))
        return np.rint((1 - abs(weight)) * part.astype(np.float32) + abs(weight) * colours)

    return _laid_over(image, heatmap, blend)


def masked(image, heatmap, share=0.2, dim=0.15):
    """Only what excites a map: the picture where the map is strongest, and nearly black elsewhere.

    image, heatmap: as in `overlay`.
    share: of the map's area that is kept, 0 to 1. Equal values are kept together; a constant map keeps all.
    dim: brightness of the rest, 0 to 1.
    """
    if not (0 < share <= 1 and 0 <= dim <= 1):
        raise ValueError(f"share={share!r} and dim={dim!r}: both go from 0 to 1, and share above 0.")

    def keep(part, values):
        kept = resize(np.float32(values >= np.quantile(values, 1 - share)), part.shape[:2])[..., None]  # soft edges
        return np.rint(part * (dim + (1 - dim) * kept))

    return _laid_over(image, heatmap, keep)


def contour(image, heatmap, shares=(0.3, 0.1), colours=((86, 180, 233), (230, 159, 0)), width=2):
    """Outlines around the strongest parts of a map, which leave the picture itself untouched.

    image, heatmap: as in `overlay`.
    shares: of the picture's area that each outline encloses, from 0 to 1.
    colours, width: of the outlines: RGB 0..255 for each, which gets a black edge, and pixels.
    ValueError: as `overlay`; shares outside of 0..1, or more of them than colours.
    ImportError: OpenCV is missing, or the system libraries that it stands on, with how to get them.
    """
    if not all(0 < share < 1 for share in shares) or len(colours) < len(shares):
        raise ValueError(f"shares={shares!r}: each between 0 and 1, and with a colour of its own in `colours`.")

    cv2 = environment.library("cv2", "images.contour draws with it")

    def outline(part, values):
        part, scaled = np.ascontiguousarray(part), resize(values, part.shape[:2])
        for share, colour in zip(shares, colours, strict=False):
            inside = np.uint8(scaled > np.quantile(scaled, 1 - share))
            lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(part, lines, -1, (0, 0, 0), width + 2, cv2.LINE_AA)
            cv2.drawContours(part, lines, -1, colour, width, cv2.LINE_AA)
        return part

    return _laid_over(image, heatmap, outline)


def _laid_over(image, heatmap, draw):
    """Picture in which `draw(part, map)` has redrawn the part that the map covers; for a batch, each with its own."""
    heatmap = np.asarray(heatmap)
    if np.ndim(image) == 4 and heatmap.ndim == 3:
        if len(image) != len(heatmap):
            raise ValueError(f"There are {len(image)} pictures and {len(heatmap)} maps: give one map for each picture.")
        return np.stack([_laid_over(*pair, draw) for pair in zip(image, heatmap, strict=True)])
    if heatmap.ndim != 2 or np.ndim(image) == 4:
        raise ValueError(
            f"A map of shape {heatmap.shape} does not belong to a picture of shape {np.shape(image)}: give (h, w) "
            "with one picture, or (B, h, w) with (B, H, W, 3)."
        )
    finite_range(heatmap, "The map")
    picture = load(image)
    # A map of the whole picture has about so many rows: a coarse one is only roughly of the picture's proportions.
    expected = heatmap.shape[1] * picture.shape[0] / picture.shape[1]
    seen = ... if abs(expected - heatmap.shape[0]) < 1 else centre(picture.shape[:2], heatmap.shape)
    picture[seen] = draw(picture[seen], heatmap.astype(np.float32)).astype(np.uint8)
    return picture


def tile(images, columns=None, gap=2, fill=255):
    """A mosaic, `(rows·(H + gap) − gap, columns·(W + gap) − gap[, C])`, of pictures or maps of one shape; their dtype.

    images: `(N, H, W)` or `(N, H, W, C)`, or a list of such pictures, row by row.
    columns: in a row; None: nearly a square of pictures.
    gap: pixels between neighbours. fill: value of gaps and of places left over (NaN draws as nothing).
    """
    images = [np.asarray(image) for image in images]
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
        raise ValueError(f"A mosaic needs pictures of one shape, (H, W) or (H, W, C); these have {shapes}.")
    height, width, *channels = shapes[0]
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    mosaic = np.full((rows, height + gap, columns, width + gap, *channels), fill, np.result_type(*images))
    for place, image in enumerate(images):
        mosaic[place // columns, :height, place % columns, :width] = image
    mosaic = mosaic.reshape(rows * (height + gap), columns * (width + gap), *channels)
    return mosaic[: rows * (height + gap) - gap, : columns * (width + gap) - gap]


def animation(frames, fps=4, width=None, labels=None):
    """An endless animation, as the bytes of a GIF: `IPython.display.Image(data=…, format="gif")` shows it.

    frames: pictures of one size, as `load` accepts them; fps: so many in a second.
    width: in pixels; the height follows. Small maps are enlarged with their pixels visible.
    labels: a text for each frame, written into its corner, or None.
    """
    frames = [load(frame) for frame in frames]
    if not frames:
        raise ValueError("An animation needs at least one frame.")
    if not 0 < fps <= 50:
        raise ValueError(f"fps={fps!r}: a GIF shows more than 0 and at most 50 frames per second.")
    if width:
        height = max(1, round(frames[0].shape[0] * width / frames[0].shape[1]))
        frames = [resize(frame, (height, width), method="nearest") for frame in frames]
    if labels is not None:
        if len(labels) != len(frames):
            raise ValueError(f"{len(labels)} labels for {len(frames)} frames: give as many, or None.")
        frames = [_labelled(frame, str(label)) for frame, label in zip(frames, labels, strict=True)]
    palette = Image.fromarray(tile(frames, gap=0)).quantize(256)  # one for all, so that still parts do not flicker
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file, options = io.BytesIO(), {"duration": round(1000 / fps), "loop": 0, "optimize": True}
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], **options)
    return file.getvalue()


def _labelled(frame, text):
    """The picture with a text in its lower left corner."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    size = max(10, frame.shape[0] // 14)
    place = (size // 2, frame.shape[0] - 2 * size)
    draw.text(place, text, fill="white", font_size=size, stroke_width=2, stroke_fill="black")
    return np.array(picture)

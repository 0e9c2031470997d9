"""Pictures in, pictures out: read files, cut and stack them, lay maps over them.

Pillow does the work; OpenCV draws outlines.
"""

import difflib
import io
import math
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from . import _data

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no format that starts other programs
MAX_PIXELS = 64_000_000  # above every common camera; decoded it is 192 MB
COMPOSITES = ("koala+panda", "sheep+german_shepherd", "bison+chicken", "scarlet_macaw+lemur", "crocodile+polar_bear")
WHITE = (255, 255, 255, 255)
METHODS = {name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "box", "nearest")}

Image.init()  # Pillow registers WebP and TIFF only on demand, and not at all where formats are listed


# Reading


def load(source, size=None):
    """A picture as `(H, W, 3)` uint8, RGB.

    Reads JPEG, PNG, WebP, GIF (the first frame), BMP, TIFF and PPM. The rotation noted by a camera is applied,
    transparency is laid on white, 16 bits are scaled to 8, grey, palette and CMYK become RGB.

    Args:
        source: a path, the bytes of a file, a PIL image, or an array `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or
            `(H, W, 4)` with values 0..255 (floats are rounded; booleans are black and white).
        size: None, or a side or `(height, width)`: cut and scaled as `crop` does.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, an empty, damaged or oversized file, not a picture, an array of another shape or range.
    """
    if isinstance(source, Image.Image):
        image = _checked(source, "This PIL image")
    elif isinstance(source, bytes | bytearray | memoryview):
        image = _decode(io.BytesIO(source), f"These {len(source)} bytes")
    elif isinstance(source, str | Path):
        path = _existing(source)
        with path.open("rb") as file:
            image = _decode(file, str(source))
    elif hasattr(source, "__array__"):
        image = _to_rgb(_from_array(np.asarray(source)))
    else:
        raise ValueError(f"A picture is a path, bytes, an array or a PIL image; this is {type(source).__name__}.")
    return image if size is None else crop(image, size)


def _existing(source):
    path = Path(source).expanduser()
    if path.is_dir():
        raise ValueError(f"{source} is a folder: give the path of one picture file in it.")
    if not path.exists():
        hint = f' images.sample("{source}") is the bundled photograph.' if str(source) in samples() else ""
        raise FileNotFoundError(f"There is no file {source}.{hint}")
    return path


def _decode(file, label):
    """RGB array of an open file; only its header is read before it is checked."""
    if not file.read(1):
        raise ValueError(f"{label}: empty, so not a picture.")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{label}: {error} Scale it down first.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{label}: not a picture that can be read. Give one of {', '.join(FORMATS)}.") from error
    with image:
        return _checked(image, label)


def _checked(image, label):
    """RGB array of a PIL image of which perhaps only the header was read."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{label}: {image.width} × {image.height} pixels are more than the {MAX_PIXELS // 10**6} million "
            "that are decoded. Scale it down first."
        )
    try:
        return _to_rgb(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"{label}: the picture is damaged or cut off ({error}).") from error


def _from_array(array):
    """PIL image of an array of pixel values."""
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or array.ndim == 3 and array.shape[-1] in (3, 4)) or not array.size:
        raise ValueError(
            f"An array of shape {array.shape} is not one picture: it is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if array.dtype == bool:
        array = array * np.uint8(255)
    if array.dtype != np.uint8:
        low, high = _finite_range(array, "The picture")
        if low < 0 or high > 255:
            raise ValueError(f"Pixel values go from 0 to 255; these go from {low:.4g} to {high:.4g}: rescale them.")
        if high <= 1 and np.any(array % 1):
            raise ValueError("These pixel values go from 0 to 1, not to 255: multiply them by 255.")
        array = np.rint(array).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image):
    """RGB array of any PIL image, upright and on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # The high byte, which is also what Pillow keeps of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _from_array(np.asarray(image))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return np.array(image.convert("RGB"))


def samples():
    """Names of the bundled photographs. Two joined by a plus sign are a composite: see `COMPOSITES` and `masks`."""
    return sorted(_photographs())


def sample(name, size=None):
    """A bundled photograph, or a composite such as `"koala+panda"`, as `load` gives it.

    Raises `ValueError` with the nearest names if there is none.
    """
    if "+" in str(name):
        image, _ = composite(*_pair(name))
        return image if size is None else crop(image, size)
    photographs = _photographs()
    if name not in photographs:
        near = difflib.get_close_matches(str(name), photographs, cutoff=0.4) or sorted(photographs)
        raise ValueError(f"There is no photograph {name!r}; the nearest are {', '.join(near)}.")
    return load(_data.path(f"photos/{photographs[name]}"), size)


def _photographs():
    return {Path(file).stem: file for file in _data.names("photos")}


# Sizes


def crop(image, size):
    """The largest centred part of the shape of `size`, scaled to `size`. What `batch` does to every picture.

    image: `(H, W)` or `(H, W, C)`; size: a side, or `(height, width)`. The dtype stays as in `resize`.
    """
    height, width = _height_width(size)
    return resize(image[_centre(image.shape[:2], (height, width))], (height, width))


def resize(array, size, method=None):
    """Scale a picture or a map to `size`, a side or `(height, width)`. Shrinking averages, so that nothing aliases.

    Args:
        array: `(H, W)` or `(H, W, C)` with any number of channels. uint8 stays uint8, a mask stays a mask (true where
            more than half is covered), all others become float32.
        method: `"bicubic"` (the default for uint8; sharp, can overshoot), `"bilinear"` (the default for all others;
            never leaves the range), `"box"`, or `"nearest"` (shows the grid).
    """
    array, (height, width) = np.asarray(array), _height_width(size)
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"Only (H, W) and (H, W, C) can be scaled; this has shape {array.shape}.")
    if array.dtype == bool:
        return resize(array.astype(np.float32), size, method) > 0.5
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
    method = method or ("bicubic" if array.dtype == np.uint8 else "bilinear")
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}.")

    def scale(layer):
        return np.array(Image.fromarray(layer).resize((width, height), METHODS[method]))

    if array.ndim == 2 or array.dtype == np.uint8 and array.shape[-1] == 3:
        return scale(np.ascontiguousarray(array))
    return np.stack([scale(layer) for layer in np.ascontiguousarray(np.moveaxis(array, -1, 0))], -1)


def batch(*images, size=224):
    """Pictures as the network takes them: `(B, H, W, 3)` float32, RGB, 0..255.

    Args:
        images: anything that `load` reads.
        size: a side or `(height, width)`, cut and scaled by `crop`. None keeps the size that all have in common.
    """
    if not images:
        raise ValueError("A batch needs at least one picture: images.batch(first, second, …).")
    loaded = [load(image, size) for image in images]
    shapes = sorted({image.shape[:2] for image in loaded})
    if len(shapes) > 1:
        raise ValueError(f"The pictures have different sizes, {shapes}: give size=, for instance size=224.")
    return np.stack(loaded).astype(np.float32)


def _height_width(size):
    sides = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(sides) != 2 or any(side != int(side) or side < 1 for side in sides):
        raise ValueError(f"size={size!r}: give one side or (height, width), whole numbers from 1.")
    return int(sides[0]), int(sides[1])


def _centre(shape, target):
    """Slices of the largest centred part of `shape` that has the proportions of `target`, both (height, width)."""
    scale = min(shape[0] / target[0], shape[1] / target[1])
    sides = [max(1, round(side * scale)) for side in target]
    starts = [(full - side) // 2 for full, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


# Maps as pictures


def colorize(values, cmap="inferno", limits=None):
    """Colours of a map: `(…)` numbers → `(…, 3)` uint8.

    Args:
        values: any shape.
        cmap: name of a matplotlib colour map.
        limits: `(low, high)`, the values of the first and the last colour, to put several maps on one scale.
            None: lowest and highest value. `"symmetric"`: ± the largest magnitude, so that zero is the middle colour
            (for signed maps, with a diverging colour map such as `"RdBu_r"`).

    A map without any differences gets the first colour. `ValueError` for NaN or infinity.
    """
    low, high = _limits(values, limits)
    shares = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return matplotlib.colormaps.get_cmap(cmap)(shares, bytes=True)[..., :3]


def signed(pixels, percentile=99.5):
    """Signed pixels `(…, C)`, a projection or a gradient, as uint8 of the same shape: zero is mid-grey.

    percentile: of the magnitudes, that is drawn in full; stronger ones are clipped, so that one pixel does not make
        all others grey.
    """
    pixels = np.asarray(pixels, np.float32)
    _finite_range(pixels, "The projection")
    largest = np.percentile(np.abs(pixels), percentile) or np.abs(pixels).max() or 1.0
    return np.rint(127.5 + 127.5 * np.clip(pixels / largest, -1, 1)).astype(np.uint8)


def _limits(values, limits):
    low, high = _finite_range(values, "The map")
    if limits is None:
        return low, high if high > low else low + 1  # nothing to divide by: everything is at the low end
    if isinstance(limits, str):
        if limits != "symmetric":
            raise ValueError(f'limits={limits!r}: give (low, high), "symmetric" or None.')
        largest = max(abs(low), abs(high)) or 1.0
        return -largest, largest
    if not limits[0] < limits[1]:
        raise ValueError(f"limits={limits!r}: the low end must be below the high end.")
    return limits


def _finite_range(values, label):
    """Lowest and highest value as floats; `label` starts the error for NaN and infinity."""
    values = np.asarray(values)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{label} is empty or has values that are NaN or infinite: there is no scale for them.")
    return float(values.min()), float(values.max())


def overlay(image, heatmap, alpha=0.5, cmap="inferno", limits=None):
    """A map laid over its picture: `(1 − alpha)·picture + alpha·colours`, as uint8 of the picture's shape.

    The map is scaled to the picture. If it has other proportions, the network saw only the centred part that `batch`
    cuts out: the map is laid there, and the rest of the picture stays as it is.

    Args:
        image: a picture as `load` accepts it, or a batch `(B, H, W, 3)`, 0..255.
        heatmap: `(h, w)` of any size, `(B, h, w)` for a batch.
        alpha: 0 (the picture) to 1 (the map).
        cmap, limits: as in `colorize`; each map of a batch has its own scale unless `limits` gives numbers.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r}: it goes from 0 (the picture) to 1 (the map).")

    def blend(part, values):
        scale = _limits(values, limits)  # of the map itself, before it is scaled up or down
        colours = colorize(resize(values, part.shape[:2]), cmap, scale)
        return np.rint((1 - alpha) * part.astype(np.float32) + alpha * colours)

    return _laid_over(image, heatmap, blend)


def masked(image, heatmap, share=0.2, dim=0.15):
    """Only what excites a map: the picture where the map is strongest, and nearly black elsewhere.

    Args:
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

    Args:
        image, heatmap: as in `overlay`.
        shares: of the picture's area that each outline encloses, from 0 to 1.
        colours: RGB 0..255 of each outline, with a black edge.
        width: of the lines, in pixels.
    """
    if not all(0 < share < 1 for share in shares) or len(colours) < len(shares):
        raise ValueError(f"shares={shares!r}: each between 0 and 1, and with a colour of its own in `colours`.")

    import cv2  # only here: on a bare server it lacks system libraries, and nothing else should fail for that

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
    _finite_range(heatmap, "The map")
    picture = load(image)
    seen = _seen(picture.shape[:2], heatmap.shape)
    picture[seen] = draw(picture[seen], heatmap.astype(np.float32)).astype(np.uint8)
    return picture


def _seen(shape, grid):
    """Slices of the part of a picture that a map covers. A coarse grid is only roughly of the picture's proportions."""
    expected = grid[1] * shape[0] / shape[1]
    return (slice(None), slice(None)) if abs(expected - grid[0]) < 1 else _centre(shape, grid)


# Several pictures in one


def tile(images, columns=None, gap=2, fill=255):
    """One mosaic of pictures or maps of the same shape, row by row.

    Args:
        images: `(N, H, W)` or `(N, H, W, C)`, or a list of such pictures.
        columns: in a row; None: nearly a square of pictures.
        gap: pixels between neighbours. fill: value of gaps and of places left over (NaN draws as nothing).

    Returns:
        `(rows·(H + gap) − gap, columns·(W + gap) − gap[, C])` of the same dtype.
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


def composite(first, second, size=224):
    """Two known objects in one picture: the first above, the second below.

    Each half is the centred part of a bundled photograph; most are wide, so halves one above the other lose least.
    With the masks it asks a heatmap "where is the panda?" and knows the answer: the grid pointing game of Böhle,
    Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable Classifications" (2021).

    Args:
        first, second: names of two different bundled photographs.
        size: a side or `(height, width)`.

    Returns:
        `(H, W, 3)` uint8, and a dict: name → bool `(H, W)`, true where that object's half is.
    """
    if first == second:
        raise ValueError(f"A composite has two different objects; both are {first!r}.")
    height, width = _height_width(size)
    if height < 2:
        raise ValueError(f"size={size!r}: a composite has two halves, so at least two rows.")
    middle = height // 2
    image = np.concatenate([sample(first, (middle, width)), sample(second, (height - middle, width))])
    upper = np.zeros((height, width), bool)
    upper[:middle] = True
    return image, {first: upper, second: ~upper}


def masks(name, size=224):
    """Where each object of a composite is: `masks("koala+panda")["koala"]` is bool `(H, W)`.

    size: that of the picture; `sample` gives composites of 224 × 224.
    """
    _, found = composite(*_pair(name), size=size)
    return found


def _pair(name):
    pair = str(name).split("+")
    if len(pair) != 2:
        raise ValueError(f"{name!r} is not a composite: join two photographs by a plus sign, as in {COMPOSITES[0]!r}.")
    return pair


def animation(frames, fps=4, width=None, labels=None):
    """An endless animation, as the bytes of a GIF: `IPython.display.Image(data=…, format="gif")` shows it.

    All frames share one palette of 256 colours, so that still parts do not flicker.

    Args:
        frames: pictures of one size, as `load` accepts them.
        fps: frames per second.
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
    palette = Image.fromarray(tile(frames, gap=0)).quantize(256)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=True
    )
    return file.getvalue()


def _labelled(frame, text):
    """The picture with a text in its lower left corner."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    size = max(10, frame.shape[0] // 14)
    place = (size // 2, frame.shape[0] - 2 * size)
    draw.text(place, text, fill="white", font_size=size, stroke_width=2, stroke_fill="black")
    return np.array(picture)

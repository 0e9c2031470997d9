"""Picture files and arrays, read, cut and scaled. Pillow does the work. Public in `images`."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .. import checks, data
from .colour import finite_range

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no format that starts other programs
MAX_PIXELS = 64_000_000  # above every common camera; decoded it is 192 MB
METHODS = {name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "box", "nearest")}

Image.init()  # Pillow registers WebP and TIFF only on demand, and not at all where formats are listed


def load(source, size=None):
    """A picture as `(H, W, 3)` uint8, RGB.

    Reads JPEG, PNG, WebP, GIF (the first frame), BMP, TIFF and PPM. The rotation noted by a camera is applied,
    transparency is laid on white, 16 bits are scaled to 8, grey, palette and CMYK become RGB.

    source: a path, the bytes of a file, a PIL image, or an array `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)` with
        values 0..255 (floats are rounded; booleans are black and white).
    size: None, or a side or `(height, width)`: cut and scaled as `crop` does.
    FileNotFoundError: no such file.
    ValueError: a folder, an empty, damaged or oversized file, not a picture, an array of another shape or range.
    """
    if isinstance(source, Image.Image):
        image = _checked(source, "This PIL image")
    elif isinstance(source, bytes | bytearray | memoryview):
        image = _decode(io.BytesIO(source), f"These {len(source)} bytes")
    elif isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_dir():
            raise ValueError(f"{source} is a folder: give the path of one picture file in it.")
        if not path.exists():
            hint = f' images.sample("{source}") is the bundled photograph.' if str(source) in photographs() else ""
            raise FileNotFoundError(f"There is no file {source}.{hint}")
        with path.open("rb") as file:
            image = _decode(file, str(source))
    elif hasattr(source, "__array__"):
        image = _to_rgb(_from_array(np.asarray(source)))
    else:
        raise ValueError(f"A picture is a path, bytes, an array or a PIL image; this is {type(source).__name__}.")
    return image if size is None else crop(image, size)


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
        size, most = f"{image.width} × {image.height} pixels", f"{MAX_PIXELS // 10**6} million"
        raise ValueError(f"{label}: {size} are more than the {most} that are decoded. Scale it down first.")
    try:
        return _to_rgb(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"{label}: the picture is damaged or cut off ({error}).") from error


def _from_array(array):
    """PIL image of an array of pixel values."""
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if not (array.ndim == 2 or array.ndim == 3 and array.shape[-1] in (3, 4)) or not array.size:
        raise ValueError(f"An array of shape {array.shape} is not one picture: give (H, W), or (H, W, 1, 3 or 4).")
    if array.dtype == bool:
        array = array * np.uint8(255)
    if array.dtype != np.uint8:
        low, high = finite_range(array, "The picture")
        if low < 0 or high > 255:
            raise ValueError(f"Pixel values go from 0 to 255; these go from {low:.4g} to {high:.4g}: rescale them.")
        refuse_shares(array)
        array = np.rint(array).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def refuse_shares(pixels, how=""):
    """Raise a `ValueError` if these pixels go from 0 to 1, not to 255. Nothing but zeros and ones may mean either."""
    if np.max(pixels) <= 1 and np.any(np.mod(pixels, 1)):
        raise ValueError(f"These pixel values go from 0 to 1, not to 255: multiply them by 255. {how}".rstrip())


def _to_rgb(image):
    """RGB array of any PIL image, upright and on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # The high byte, which is also what Pillow keeps of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _from_array(np.asarray(image))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def photographs():
    """The bundled photographs: name → name of the file."""
    return {Path(file).stem: file for file in data.names("photos")}


def crop(image, size):
    """The largest centred part of the shape of `size`, scaled to `size`, a side or `(height, width)`, by `resize`."""
    height, width = checks.pair(size, "size")
    return resize(image[centre(image.shape[:2], (height, width))], (height, width))


def resize(array, size, method=None):
    """Scale a picture or a map to `size`, a side or `(height, width)`. Shrinking averages, so that nothing aliases.

    array: `(H, W)` or `(H, W, C)` with any number of channels. uint8 stays uint8, a mask stays a mask (true where more
        than half is covered), all others become float32.
    method: `"bicubic"` (the default for uint8; sharp, can overshoot), `"bilinear"` (the default for all others; never
        leaves the range), `"box"`, or `"nearest"` (shows the grid).
    """
    array, (height, width) = np.asarray(array), checks.pair(size, "size")
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"Only (H, W) and (H, W, C) can be scaled; this has shape {array.shape}.")
    if array.dtype == bool:
        return resize(array.astype(np.float32), size, method) > 0.5
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
    method = checks.choose(method or ("bicubic" if array.dtype == np.uint8 else "bilinear"), METHODS, "method")

    def scale(layer):
        return np.array(Image.fromarray(layer).resize((width, height), METHODS[method]))

    if array.ndim == 2 or array.dtype == np.uint8 and array.shape[-1] == 3:
        return scale(np.ascontiguousarray(array))
    return np.stack([scale(layer) for layer in np.ascontiguousarray(np.moveaxis(array, -1, 0))], -1)


def batch(*images, size=224):
    """Pictures as the network takes them: `(B, H, W, 3)` float32, RGB, 0..255.

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


def centre(shape, target):
    """Slices of the largest centred part of `shape` that has the proportions of `target`, both (height, width)."""
    scale = min(shape[0] / target[0], shape[1] / target[1])
    sides = [max(1, round(side * scale)) for side in target]
    starts = [(full - side) // 2 for full, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))

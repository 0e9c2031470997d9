"""What the explorers compute with, free of widgets: pictures for a network, its activations, a bounded memory."""

import io
import itertools
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
from PIL import ExifTags, Image

from .. import submodels
from ..features import receptive
from ..pictures import digits, images
from ..submodels import engine
from ..submodels.graph import trace

FREE_SIZE = 224  # side of the pictures for a network that takes any size
LARGEST_FILE = 50_000_000  # bytes of a picture that somebody brings along; it stays in memory while it is decoded
CACHE_LIMIT = 256_000_000  # bytes
MOST = 200  # pictures of a folder, all of which stay in memory
ORIENTATION = ExifTags.Base.Orientation  # above 4 the picture lies on its side
FIRST = "koala"  # the photograph that most of the notebooks begin with


class Cache:
    """Results by key. Together their arrays hold at most `limit` bytes: those that were not used for longest go."""

    def __init__(self, limit=CACHE_LIMIT):
        self.limit, self.used, self._kept = limit, 0, OrderedDict()

    def __contains__(self, key):
        return key in self._kept

    def get(self, key, build):
        """What is kept under `key`; else `build()`, which is kept from now on."""
        if key not in self:
            value = build()
            self.put(key, value)
            return value
        self._kept.move_to_end(key)
        return self._kept[key]

    def peek(self, key):
        """What is kept under `key`, or None."""
        return self.get(key, None) if key in self else None

    def put(self, key, value):
        """Keep `value`, an array or a structure of arrays, unless it is larger than the limit by itself."""
        if key in self._kept:
            self.used -= _bytes(self._kept.pop(key))
        size = _bytes(value)
        if size > self.limit:
            return
        self._kept[key] = value
        self.used += size
        while self.used > self.limit:
            self.used -= _bytes(self._kept.popitem(last=False)[1])


def _bytes(value):
    return sum(getattr(leaf, "nbytes", 0) for leaf in keras.tree.flatten(value))


class Gallery:
    """Pictures by name, each as a network takes it: `gallery[name]` is `(H, W, C)` float32.

    model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
    pictures: None for the bundled photographs (for a network of 28 × 28 × 1 the first of each bundled digit); a folder;
        a dict name → picture, a list of pictures, or one picture. A picture is the name of a bundled photograph,
        anything that `images.load` reads, or an array of the network's own shape, as it is.
    size: side of the pictures for a network that takes any size.
    ValueError: a network without such an input, or of other than 1 or 3 channels without `pictures` of its shape.
    """

    def __init__(self, model, pictures=None, size=FREE_SIZE):
        trace(model)  # first, since it says best what is wrong with a model that is no graph
        shape = model.inputs[0].shape[1:]
        if len(model.inputs) != 1 or len(shape) != 3:
            raise ValueError(f"Model {model.name!r} does not take one picture (height × width × channels).")
        self.shape = (shape[0] or size, shape[1] or size, shape[2])
        self._model, self._is_for_digits = model, self.shape == (28, 28, 1)
        self._pictures = {}
        for name, picture in self._chosen(pictures):
            self._pictures[self._free(name)] = self._as_input(picture)
        if not self._pictures:
            raise ValueError("pictures is empty: give at least one picture.")

    def _chosen(self, pictures):
        """`(name, picture)` of each."""
        if pictures is None and self._is_for_digits:
            drawn, labels = digits.load()[1]
            return [(f"digit {label}", drawn[np.argmax(labels == label)]) for label in range(10)]
        if pictures is None:
            pictures = images.samples()
        elif isinstance(pictures, str | Path) and Path(pictures).expanduser().is_dir():
            pictures = _files(Path(pictures).expanduser())
        elif isinstance(pictures, str | Path | bytes | Image.Image) or getattr(pictures, "ndim", 4) < 4:
            pictures = [pictures]
        if isinstance(pictures, dict):
            return [(str(name), picture) for name, picture in pictures.items()]
        return [
            (Path(picture).stem.replace("_", " ") if isinstance(picture, str | Path) else f"picture {number}", picture)
            for number, picture in enumerate(pictures, 1)
        ]

    def _free(self, name):
        """The name, or where another picture has it the same with a number."""
        others = (f"{name} ({number})" for number in itertools.count(2))
        return next(free for free in itertools.chain([name], others) if free not in self._pictures)

    def _as_input(self, source):
        """A picture `(H, W, C)` float32 of the shape that the network takes, cut like `images.batch` does."""
        if isinstance(source, np.ndarray) and source.shape == self.shape:
            return engine.as_batch(self._model, source)[0][0]
        if self.shape[2] not in (1, 3):
            raise ValueError(f"This network takes {self.shape[2]} channels: give `pictures` of shape {self.shape}.")
        is_sample = isinstance(source, str) and source in images.samples()
        picture = images.load(images.sample(source) if is_sample else source, self.shape[:2])
        if self.shape[2] == 1:
            picture = np.array(Image.fromarray(picture).convert("L"))[..., None]
            if self._is_for_digits and np.median(picture) > 127:  # the bundled digits are bright ink on dark paper
                picture = 255 - picture
        return picture.astype(np.float32)

    @property
    def names(self):
        """The names of all pictures, in order."""
        return list(self._pictures)

    def first(self, wanted=FIRST):
        """The name of the picture to begin with: the bundled one that is wanted, or the first."""
        return wanted if wanted in self._pictures else self.names[0]

    def __getitem__(self, name):
        return self._pictures[name]

    def shown(self, name):
        """The picture as one can look at it: `(H, W, 3)` uint8. Values that are not 0..255 are stretched to it."""
        return as_pixels(self._pictures[name])

    def add(self, file_name, content):
        """Take in the bytes of a file: what it is called, and a sentence on what was changed in it, or "".

        `ValueError` for what is too large, not a picture, damaged or empty: in words, beginning with the file's name.
        """
        size, most = (round(count / 1e6) for count in (len(content), LARGEST_FILE))
        if len(content) >= LARGEST_FILE:
            raise ValueError(f"{file_name} has {size} MB; files below {most} MB are read. Scale it down first.")
        try:
            picture = self._as_input(bytes(content))
        except ValueError as error:
            raise ValueError(f"{file_name} was not used. {error}") from error
        name = self._free(file_name)
        self._pictures[name] = picture
        return name, self._note(content)

    def _note(self, content):
        """What was changed in a picture file when it was read, in words, or ""."""
        with Image.open(io.BytesIO(content), formats=images.FORMATS) as file:
            notes, (width, height) = [], file.size
            if getattr(file, "is_animated", False):
                notes.append(f"It is animated ({file.n_frames} frames): the first frame is used.")
            if file.mode == "CMYK":
                notes.append("Its printing colours (CMYK) were turned into RGB: they can look a little different.")
            if file.getexif().get(ORIENTATION, 1) > 4:
                width, height = height, width
        rows, columns, _ = self.shape
        if not 0.99 < width * rows / (height * columns) < 1.01:
            part = "square" if rows == columns else "part"
            notes.append(f"The middle {part} is used; what lies beside it is cut off.")
        return " ".join(notes)


def _files(folder):
    """The picture files in a folder, by name."""
    suffixes = {suffix for suffix, format in Image.registered_extensions().items() if format in images.FORMATS}
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not 0 < len(found) <= MOST:
        raise ValueError(f"{folder} holds {len(found)} picture files; give one with 1 to {MOST}, or a list of some.")
    return found


def as_pixels(picture):
    """A network's input `(H, W, C)` as `(H, W, 3)` uint8, from its black to its white."""
    low, high = black_and_white(picture)
    picture = np.rint((np.asarray(picture, np.float32) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return picture if picture.shape[2] == 3 else picture[..., :1].repeat(3, axis=2)


def black_and_white(picture):
    """The values of black and white in a network's input: 0 and 255, or the ends of another range."""
    low, high = float(picture.min()), float(picture.max())
    return (low, high) if low < 0 or high > 255 or 0 < high <= 1 else (0.0, 255.0)


class Activations:
    """The maps of all spatial layers, for the pictures of a gallery: computed once, as long as the cache keeps them."""

    def __init__(self, model, gallery, cache):
        self.model, self.gallery, self.cache = model, gallery, cache
        reach = receptive.reach(model, gallery.shape[:2])
        self.shapes = {name: tuple(reach.shape(name)[1:]) for name in submodels.layer_names(model, "spatial")}
        total = 4 * sum(np.prod(shape) for shape in self.shapes.values())
        self._all_fit = total <= cache.limit / 2  # one pass then serves every layer, and two pictures fit

    def __getitem__(self, key):
        """Float32 `(h, w, c)` for the key `(picture, layer)`, both by name."""
        picture, layer = key
        return self.cache.get((picture, layer), lambda: self._compute(picture, layer))

    def _compute(self, picture, layer):
        layers = tuple(self.shapes) if self._all_fit else (layer,)
        maps = engine.run(submodels.activations(self.model, layers), self.gallery[picture][None])
        for name in layers:
            self.cache.put((picture, name), maps[name][0])
        return maps[layer][0]

"""Run a network over many inputs: compiled once, in passes of one size, with memory bounded by the batch."""

import collections
import concurrent.futures
import contextlib
import contextvars
import itertools
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from .. import checks
from .graph import is_open, trace
from .kinds import channels_first
from .memory import cached

_watcher = contextvars.ContextVar("watcher", default=None)  # each thread has its own


@contextlib.contextmanager
def watched(tell):
    """Within it, `tell(rows)` is called after each pass of `stream` and `run`, with the number of its rows.

    To count what something costs, to show how far it is, or to end it: what `tell` raises comes out of it.
    """
    token = _watcher.set(tell)
    try:
        yield
    finally:
        _watcher.reset(token)


def compiled(model):
    """Return `model(x, training=False)` as a `tf.function`, compiled once for the model.

    The batch axis of its signature is free, so that a batch of 1 and one of 33 share one trace.

    Args:
        model: a `keras.Model`; a subclassed one, which has no symbolic inputs, is retraced where shapes differ.

    Returns:
        A function of the model's inputs, one argument for each, to the model's output structure.
    """

    def build():
        symbolic = getattr(model, "inputs", None)
        structure = getattr(model, "input", None) if is_open(model) else None

        def forward(*inputs):
            if isinstance(structure, dict):
                return model(keras.tree.pack_sequence_as(structure, inputs), training=False)
            return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

        if not symbolic:
            return tf.function(forward, reduce_retracing=True)
        return tf.function(forward, input_signature=[tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in symbolic])

    return cached(model, "compiled", build)


def as_batch(model, images):
    """Check pictures against what the model takes, and give them a batch axis.

    Args:
        model: a `keras.Model` with one input.
        images: `(B, H, W, C)`, or one picture `(H, W, C)`; any numeric type, in the units of the model's input.

    Returns:
        `(batch, single)`: float32 `(B, H, W, C)`, and whether one picture without a batch axis was given.

    Raises:
        ValueError: a model without a graph or of another kind of input; not a picture, a size that the model does not
            take, no picture at all, NaN or infinite pixels.
    """
    wanted = picture_shape(model)
    if isinstance(images, (str, Path)):
        raise ValueError(f"images is {str(images)!r}: give pixels, images.batch({str(images)!r}), not the path.")
    if isinstance(images, tf.data.Dataset):
        raise ValueError("images is a tf.data.Dataset: give one batch of it, next(iter(dataset)), its pictures alone.")
    try:
        batch = np.asarray(images, dtype="float32")
    except (TypeError, ValueError):
        shapes = sorted({np.shape(image) for image in images}) if isinstance(images, (list, tuple)) else "unknown"
        raise ValueError(
            f"images is a {type(images).__name__} with parts of shapes {shapes}, which is no array of numbers: give "
            "pictures of one size, (B, H, W, C), as images.batch makes them."
        ) from None
    greys = batch.ndim == 3 and wanted[2] == 1 and _fits(batch.shape[1:], wanted[:2])  # (B, H, W)
    single = batch.ndim == 3 and (not greys or _fits(batch.shape, wanted))
    if single:
        batch = batch[None]
    shape = " × ".join("any" if want is None else str(want) for want in wanted)
    if batch.ndim != 4:
        how = " A picture of one channel has that axis too: images[..., None]." if batch.ndim in (2, 3) else ""
        raise ValueError(
            f"images has shape {np.shape(images)}; give (B, H, W, C), or (H, W, C) for one picture, and model "
            f"{model.name!r} takes {shape}.{how}"
        )
    if len(batch) == 0:
        raise ValueError("images is empty: give at least one picture.")
    if not _fits(batch.shape[1:], wanted):
        raise ValueError(
            f"Model {model.name!r} takes pictures of {shape} (height × width × channels), and these are "
            f"{' × '.join(map(str, batch.shape[1:]))}. Resize them, images.batch(picture, size=(height, width)), or "
            "build the network for another size: models.load(name, size=(height, width))."
        )
    if not np.isfinite(batch).all():
        raise ValueError("images has NaN or infinite pixels: nothing computed from them would mean anything.")
    return batch, single


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(w in (None, h) for w, h in zip(wanted, shape, strict=True))


def picture_shape(model):
    """(height, width, channels) of the one picture that a model takes, None where they are free.

    Raises:
        ValueError: a model without a graph, of several inputs, of signals or volumes, or with its channels first.
    """
    return cached(model, "picture shape", lambda: _picture_shape(trace(model)))


def _picture_shape(graph):
    inputs = keras.tree.flatten(graph.inputs)
    if len(inputs) != 1:
        raise ValueError(
            f"Model {graph.name!r} takes {len(inputs)} inputs, {[tuple(x.shape) for x in inputs]}; this needs a model "
            "of one picture. Hold the others fixed: picture = keras.Input((height, width, channels)); "
            "keras.Model(picture, model([picture, other])), other being a constant of shape (1, …)."
        )
    shape = tuple(inputs[0].shape[1:])
    if len(shape) != 3:
        what = {2: "signals (time × channels)", 4: "volumes or films"}.get(len(shape), "no pictures")
        raise ValueError(
            f"Model {graph.name!r} takes inputs of shape (B, {', '.join(map(str, shape))}): {what}. This needs "
            "pictures, (B, height, width, channels); submodels.activations shows the layers of any network."
        )
    if id(inputs[0]) in channels_first(graph):
        raise ValueError(
            f"Model {graph.name!r} takes pictures with their channels first, {shape}. Rebuild it with "
            "data_format='channels_last' (its kernels stay as they are); or, for what looks at pixels alone: "
            "keras.Sequential([keras.Input((height, width, channels)), keras.layers.Permute((3, 1, 2)), model])."
        )
    return shape


def stream(function, *inputs, batch=16, progress=False, label=""):
    """Run a function over many inputs and yield its outputs pass by pass, as numpy, in the order of the inputs.

    A batch is computed as two passes side by side, each of half its rows, because one alone leaves the processor idle
    for a tenth of the time; a GPU, and a batch of one row, get one pass at a time. Memory is bounded by the batch.
    Passes differ by one row at most, so that few sizes occur; of inputs without a length the last one may be smaller.

    Args:
        function: a `keras.Model`, compiled through the cache, or a callable of batched tensors, for which each row
            stands for itself. It is called in other threads, unless one pass is all.
        *inputs: one or more inputs that are walked together: arrays with the same first axis, or iterables of rows.
        batch: rows that are computed at a time.
        progress: show a bar.
        label: text in front of the bar.

    Yields:
        The output structure of `function` as numpy arrays.

    Raises:
        ValueError: inputs of different length, no input, or a batch below 1.
    """
    batch = checks.whole(batch, "batch")
    if not inputs:
        raise ValueError("There is nothing to run over: give at least one input.")
    lengths = {len(x) for x in inputs if hasattr(x, "__len__")}
    if len(lengths) > 1:
        raise ValueError(f"The inputs have different lengths: {sorted(lengths)}.")
    dtypes = [None] * len(inputs)
    if isinstance(function, keras.Model):
        symbolic = getattr(function, "inputs", None)
        dtypes = [x.dtype for x in symbolic] if symbolic else [keras.backend.floatx()] * len(inputs)
        function = compiled(function)
    total = lengths.pop() if lengths else None
    lanes = 1 if batch == 1 or tf.config.list_physical_devices("GPU") else 2
    passes = _passes(inputs, dtypes, _sizes(total, batch // lanes, lanes))

    def evaluated(columns):
        return keras.tree.map_structure(_plain, function(*map(tf.constant, columns)))

    with tqdm(total=total, desc=label, disable=not progress, leave=False) as bar:
        for rows, outputs in _side_by_side(evaluated, passes, lanes):
            if tell := _watcher.get():
                tell(rows)
            yield outputs
            bar.update(rows)


def _plain(values):
    """As numpy; halves, of mixed precision, become float32, in which sums neither overflow nor lose what is small."""
    return np.asarray(tf.cast(values, "float32") if values.dtype in (tf.float16, tf.bfloat16) else values)


def _sizes(total, most, lanes):
    """How many rows each pass gets, none more than `most`: as many passes in each lane, as equal as can be."""
    count = math.ceil((total or 0) / most)
    if count > 1:
        count = lanes * math.ceil(count / lanes)
    equal = [total // count + (index < total % count) for index in range(count)]
    return itertools.chain(equal, itertools.repeat(most))  # also for inputs that are longer than they said


def _passes(inputs, dtypes, sizes):
    """The inputs of pass after pass: `(rows, [array of each input])`."""
    rows = zip(*inputs, strict=True)
    for size in sizes:
        chunk = list(itertools.islice(rows, size))
        if not chunk:
            return
        columns = map(np.stack, zip(*chunk, strict=True))
        yield len(chunk), [c.astype(dtype or c.dtype, copy=False) for c, dtype in zip(columns, dtypes, strict=True)]


def _side_by_side(function, passes, lanes):
    """`(rows, function(columns))` of all passes, in order, with as many under way at a time as there are lanes."""
    passes = iter(passes)
    begun = list(itertools.islice(passes, 2))
    if len(begun) < 2:  # one thread is enough, and that is this one
        yield from ((rows, function(columns)) for rows, columns in begun)
        return
    passes, waiting = itertools.chain(begun, passes), collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(lanes)
    try:
        while True:
            for rows, columns in itertools.islice(passes, lanes + 1 - len(waiting)):  # one more takes over at once
                waiting.append((rows, pool.submit(contextvars.copy_context().run, function, columns)))
            if not waiting:
                return
            rows, answer = waiting.popleft()
            yield rows, answer.result()
    finally:
        pool.shutdown(cancel_futures=True)


class Counted:
    """An iterable that is made on the way and whose length is known, for `stream`."""

    def __init__(self, rows, length):
        self.rows, self.length = rows, length

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return self.length


def run(function, *inputs, batch=16, progress=False, label=""):
    """Run a function over many inputs and return all its outputs, concatenated, as numpy. See `stream`.

    Returns:
        The output structure of `function` with arrays `(N, …)`.
    """
    parts = list(stream(function, *inputs, batch=batch, progress=progress, label=label))
    if not parts:
        raise ValueError("There is nothing to run over: the input is empty.")
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

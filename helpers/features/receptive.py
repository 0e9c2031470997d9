"""How far the units of a network can see: by arithmetic through its graph, and by measurement.

This is the engine room of `units.receptive_field`. The two spatial axes never mix, so each goes by itself, backwards
from the units of a layer to the picture, in two ways. As *ends*, `(2, units)`: the first and the last row (or column)
that each unit would see of some tensor if the picture went on; nothing at all is (inf, -inf), which survives the
arithmetic. As *rows*, `(rows, units)` of booleans: which of the rows that are there each unit sees, since it sees none
between the taps of a dilated window.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers as kl
from scipy import sparse

from .. import checks
from ..submodels import engine
from ..submodels.graph import trace
from ..submodels.kinds import CONVOLUTIONS

POOLINGS = (kl.MaxPooling2D, kl.AveragePooling2D)
FAR, APART = 1e6 + np.arange(64), 80640  # units far outside, and how far from them others: a multiple of all strides


class Fields(NamedTuple):
    """The receptive fields of all units of a layer. Each pair holds the vertical and the horizontal axis."""

    reach: tuple  # two float arrays (units, 2): first and last row, as if the picture went on; inf if there is none
    inside: tuple  # the same, within the picture and every map on the way
    stride: tuple  # pixels from the field of one unit to the next


class Window(NamedTuple):
    """Which rows of its input an operation needs for a row of its output."""

    taps: Callable  # rows (n,) to the rows that they need (n, k), NaN where there is none
    gap: int = 1  # of so many rows next to each other, at least one needs something


SAME = Window(lambda rows: rows[:, None])


class Reach:
    """What the operations of a `graph`, from `graph.trace`, can see of its pictures `(B, H, W, C)`, of this shape."""

    def __init__(self, graph, shape):
        tensors = [x for call in graph.calls for x in keras.tree.flatten(call.outputs)]
        given = keras.tree.pack_sequence_as(graph.inputs, [shape])
        shapes = keras.Function(graph.inputs, tensors).compute_output_shape(given)
        self.graph, self.picture = graph, keras.tree.flatten(graph.inputs)[0]
        self.shapes = {id(self.picture): shape, **dict(zip(map(id, tensors), shapes, strict=True))}
        self._tried, self._fields = {}, {}

    def shape(self, layer):
        return self.shapes[id(self.graph.single(layer))]

    def fields(self, layer):
        """The `Fields` of a layer, computed once."""
        layer = self.graph.named(layer)
        if layer not in self._fields:
            target = self.graph.single(layer)
            reach, inside, stride = zip(*(self._along(target, axis) for axis in (1, 2)), strict=True)
            self._fields[layer] = Fields(reach, inside, stride)
        return self._fields[layer]

    def _along(self, target, axis):
        shape, seen = self.shapes[id(target)], self.shapes[id(self.picture)][axis]
        count = shape[axis] if len(shape) == 4 else 0
        # Units far outside tell the stride by the last row that they see: out there, branches that see the whole
        # picture play no part. (One of several next to each other is enough: between strides, some see nothing.)
        units = np.array([*range(count), *FAR, *(FAR + APART)])
        ends = self._backwards(target, axis, np.stack([units, units]) if count else None, _ends, _all_ends)
        rows = self._backwards(target, axis, np.eye(count, dtype=bool) if count else None, _rows, _all_rows)
        numbers = np.arange(seen)[:, None]
        first, last = np.where(rows, numbers, np.inf).min(0), np.where(rows, numbers, -np.inf).max(0)
        near, far = ends[1, -2 * len(FAR) : -len(FAR)], ends[1, -len(FAR) :]
        there = np.isfinite(near) & bool(count)
        stride = float((far[there] - near[there])[0]) / APART if there.any() else 0.0
        inside = np.stack([first, last], -1)
        return ends.T[: count or 1], inside, int(stride) if stride.is_integer() else stride

    def _backwards(self, target, axis, start, through, everything):
        """What is seen of the picture by the units that are `start` on `target`.

        through: function of what is seen of an operation's output, its `Window`, and the lengths of input and output,
            to what is seen of its input; everything: function of that and the input's length, where all of it is seen.
        """
        found = {id(target): start}
        for call in reversed(self.graph.calls):
            for output in keras.tree.flatten(call.outputs):
                if id(output) not in found:
                    continue
                for tensor in call.inputs:
                    seen, shape = found[id(output)], self.shapes[id(tensor)]
                    window = None if seen is None else self._window(call, tensor, output, axis)
                    if len(shape) != 4:
                        seen = None  # of a tensor without spatial axes everything is seen
                    elif window is None:
                        seen = everything(seen, shape[axis])
                    elif window is not SAME:
                        seen = through(seen, window, shape[axis], self.shapes[id(output)][axis])
                    found[id(tensor)] = _joined(found.get(id(tensor), seen), seen)
        seen, units = found[id(self.picture)], 1 if start is None else start.shape[1]
        seen = everything(None, self.shapes[id(self.picture)][axis]) if seen is None else seen
        return np.broadcast_to(seen, (len(seen), units))

    def _window(self, call, tensor, output, axis):
        """The `Window` from `tensor` to `output` of a call along an axis; None if each row needs everything."""
        shape, made, operation = self.shapes[id(tensor)], self.shapes[id(output)], call.operation
        if len(shape) != 4 or len(made) != 4:
            return None
        before, after = shape[axis], made[axis]
        if getattr(operation, "data_format", None) != "channels_first":
            window = _known(operation, axis - 1, before, after)
            own = type(operation).__module__.startswith("keras.")
            if window and (own or self._is_confined(call, axis, window)):
                return window
        if before == 1 or after == 1 or isinstance(operation, kl.GroupNormalization):
            return None  # broadcast, summed over, or normalised over the map
        if before == after and self._is_confined(call, axis, SAME):
            return SAME
        what, how = f"{type(operation).__name__} {operation.name!r}", "units.receptive_field(…, method='gradient')"
        raise ValueError(f"How far {what} reaches is not known. Measure it: {how}.")

    def _is_confined(self, call, axis, window):
        """Whether the middle row of an output comes from the rows of the inputs under its window, all of it, alone.

        This is tried out, not looked up, which covers whatever a reader writes: these rows stay, all others change, and
        the output must not; then the outermost ones change, and it must.
        """
        key = id(call.operation), axis, window is SAME
        if key not in self._tried:
            draw = np.random.default_rng(0)
            shapes = [(1, *self.shapes[id(x)][1:]) for x in call.inputs]
            values, others = ([draw.uniform(-3, 3, shape) for shape in shapes] for _ in range(2))
            middle = self.shapes[id(keras.tree.flatten(call.outputs)[0])][axis] // 2
            kept = window.taps(np.array([middle]))[0]
            kept = kept[(kept >= 0) & (kept < values[0].shape[axis])] if window is not SAME else kept
            expected = _answers(call, values, middle, axis)
            alone = _answers(call, _mixed(values, others, kept, axis), middle, axis)
            outermost = [] if window is SAME else [*kept[:1], *kept[-1:]]
            changes = [_answers(call, _mixed(others, values, [row], axis), middle, axis) for row in outermost]
            self._tried[key] = _alike(alone, expected) and not any(_alike(change, expected) for change in changes)
        return self._tried[key]

    def measured_box(self, layer, position):
        """The box of the pixels with a non-zero gradient, in a twin of the network where none can vanish by chance."""
        shape = self.shapes[id(self.picture)]
        picture = tf.constant(np.random.default_rng(0).uniform(0.5, 1, (1, *shape[1:])), "float64")
        with tf.GradientTape() as tape:
            tape.watch(picture)
            output = self._run_twin(self.graph.tensor(layer), picture)
            unit = tf.reduce_sum(output if position is None else output[:, position[0], position[1]])
        gradient = tape.gradient(unit, picture, unconnected_gradients="zero")[0].numpy()
        seen = (gradient != 0).any(axis=-1)
        rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        return box(rows[[0, -1]], columns[[0, -1]]) if len(rows) else (0, 0, 0, 0)

    def _run_twin(self, target, picture):
        """The value of `target`, each operation exchanged for one with the same connections and positive weights."""
        values, twins = {id(self.picture): picture}, {}
        for call in self.graph.calls:
            if id(target) in values:
                break
            arguments = [values[id(x)] for x in call.inputs]
            if type(call.operation).__name__ == "Multiply":  # products of products of gates would underflow
                results = sum(arguments[1:], arguments[0])
            elif self._is_elementwise(call):
                results = arguments[0]
            else:
                results = call.apply(arguments, twins.setdefault(id(call.operation), _twin(call.operation)))
            values.update(zip(map(id, keras.tree.flatten(call.outputs)), keras.tree.flatten(results), strict=True))
        return values[id(target)]

    def _is_elementwise(self, call):
        shapes = [self.shapes[id(x)] for x in (*call.inputs, *keras.tree.flatten(call.outputs))]
        same = len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0] == shapes[1]
        return same and all(self._is_confined(call, axis, SAME) for axis in (1, 2))


def reach(model, size=None):
    """The `Reach` of a network for pictures of this size, (height, width), or else of its own; made once.
    ValueError: a network of another kind, one of free size without `size`, or a size that it does not take.
    """
    *own, channels = engine.picture_shape(model)
    if size is None and None in own:
        raise ValueError(f"{model.name!r} takes pictures of any size: say which, size=(height, width).")
    size = tuple(own) if size is None else checks.pair(size, "size")
    if any(have not in (None, want) for have, want in zip(own, size, strict=True)):
        raise ValueError(f"{model.name!r} takes pictures of {own[0]} × {own[1]} pixels, and size is {size}.")
    return engine.cached(model, ("reach", size), lambda: Reach(trace(model), (None, *size, channels)))


def box(rows, columns):
    """(top, left, bottom, right), ends excluded, of the first and last row and column; zeros if there are none."""
    if not np.isfinite([*rows, *columns]).all():
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[1]) + 1, int(columns[1]) + 1


def _known(operation, spatial, before, after):
    """The `Window` of a layer with a geometry of its own along an axis, or None."""
    if isinstance(operation, (*CONVOLUTIONS, *POOLINGS, kl.Conv2DTranspose)):
        size = operation.pool_size if isinstance(operation, POOLINGS) else operation.kernel_size
        dilation, stride = getattr(operation, "dilation_rate", (1, 1))[spatial], operation.strides[spatial]
        offsets = np.arange(size[spatial]) * dilation
        transposed = isinstance(operation, kl.Conv2DTranspose)
        if transposed and (operation.output_padding is not None or dilation > 1 and stride > 1):
            return None
        large, small = (after, before) if transposed else (before, after)
        # What "same" adds before the first row; an odd row out comes after the last, as TensorFlow has it.
        missing = max((small - 1) * stride + offsets[-1] + 1 - large, 0) if operation.padding == "same" else 0
        offsets = offsets - missing // 2
        if not transposed:
            return Window(lambda rows: rows[:, None] * stride + offsets)

        def spread(rows):
            sources = (rows[:, None] - offsets) / stride
            return np.where(sources == np.floor(sources), sources, np.nan)

        return Window(spread, stride)
    if isinstance(operation, (kl.ZeroPadding2D, kl.Cropping2D)):
        cropped = isinstance(operation, kl.Cropping2D)
        shift = operation.cropping[spatial][0] if cropped else -operation.padding[spatial][0]
        return Window(lambda rows: rows[:, None] + shift)
    odd = ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")
    if isinstance(operation, (kl.UpSampling2D, kl.Resizing)) and not any(getattr(operation, n, 0) for n in odd):
        ratio = before / after  # rows of the input to one of the output, the borders aligned
        if operation.interpolation == "nearest":
            return Window(lambda rows: np.floor((rows[:, None] + 0.5) * ratio))
        if operation.interpolation == "bilinear":
            half = np.array([1e-9, -1e-9])  # one row, not two, where the middle of a row is met
            return Window(lambda rows: np.floor((rows[:, None] + 0.5) * ratio - 0.5 + half + [0, 1 - 2e-9]))
    return None


def _ends(seen, window, length, made):
    first, last = seen
    outer = [row for step in range(window.gap) for row in (first + step, last - step)]
    needed = np.concatenate([window.taps(np.clip(row, first, last)) for row in outer], axis=1)
    there = np.isfinite(needed)
    return np.stack([np.where(there, needed, np.inf).min(1), np.where(there, needed, -np.inf).max(1)])


def _all_ends(seen, length):
    return np.array([[0.0], [length - 1.0]]) + np.zeros(1 if seen is None else seen.shape[1])


def _rows(seen, window, length, made):
    needed = window.taps(np.arange(made))
    row, tap = np.nonzero((needed >= 0) & (needed < length))
    column = needed[row, tap].astype(int)
    return sparse.csr_matrix((np.ones(len(row), bool), (column, row)), (length, made)) @ seen


def _all_rows(seen, length):
    return np.ones((length, 1), bool) & (True if seen is None else seen.any(0))


def _joined(one, other):
    """The union of what is seen along two branches."""
    if one is None or other is None:
        return None
    if one.dtype == bool:
        return one | other
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


def _answers(call, inputs, row, axis):
    """One row of what a call makes of these arrays in place of its inputs; all of what has no rows."""
    tensors = [tf.cast(value, x.dtype) for value, x in zip(inputs, call.inputs, strict=True)]
    outputs = [np.asarray(y, "float32") for y in keras.tree.flatten(call.apply(tensors))]
    return [y.take(row, axis) if y.ndim == 4 else y for y in outputs]


def _alike(one, other):
    return all(np.allclose(*pair, 1e-4, 1e-5) for pair in zip(one, other, strict=True))


def _mixed(values, others, kept, axis):
    """Others with these rows of the values; the values where there are no rows to change."""
    mixed = []
    for value, other in zip(values, others, strict=True):
        if value.ndim == 4 and value.shape[axis] > 1:
            rows = np.isin(np.arange(value.shape[axis]), kept)
            value = np.where(np.expand_dims(rows, [n for n in range(4) if n != axis]), value, other)
        mixed.append(value)
    return mixed


def _twin(operation):
    """The same connections in double precision, with positive kernels, no activation, average in place of maximum."""
    if not isinstance(operation, kl.Layer):
        return operation
    config = {**operation.get_config(), "dtype": "float64"}
    config |= {"activation": "linear"} if "activation" in config else {}
    if config.get("groups", 1) > 1 and isinstance(operation, kl.Conv2D):
        config["groups"] = 1  # the same rows and columns; grouped convolutions go through a slow compiler
    for key in config:
        if key.endswith("initializer") and not key.startswith(("bias", "beta", "gamma", "moving")):
            config[key] = _positive
    averages = {kl.MaxPooling2D: kl.AveragePooling2D, kl.GlobalMaxPooling2D: kl.GlobalAveragePooling2D}
    try:
        return averages.get(type(operation), type(operation)).from_config(config)
    except Exception as error:  # whatever a reader's own class raises there
        what = f"{type(operation).__name__} {operation.name!r}"
        raise ValueError(f"{what} cannot be measured: its get_config() does not build it again. {error}") from error


def _positive(shape, dtype=None):
    """Positive kernels that keep the size of what goes through them."""
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape) / max(np.prod(shape[:-1]), 1)
    return tf.constant(values, dtype)

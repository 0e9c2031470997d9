"""How far the units of a network can see: by arithmetic through its graph, and by measurement.

This is the engine room of `units.receptive_field`. The two spatial axes never mix, so each goes by itself. A *span* is
a pair of float arrays (first, last): for each of many units the first and last row (or column) that it sees of some
tensor. Nothing at all is (inf, -inf), which survives the arithmetic. None is the span of a tensor without spatial
axes, of which everything is seen.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers as kl

from ..submodels import engine
from ..submodels.graph import trace


class Fields(NamedTuple):
    """The receptive fields of all units of a layer. Each pair holds the vertical and the horizontal axis."""

    reach: tuple  # two float arrays (units, 2): first and last row, as if the picture went on; inf if there is none
    inside: tuple  # the same, within the picture and every map on the way
    stride: tuple  # pixels from the field of one unit to the next


class Reach:
    """A network laid out flat, for pictures of one size, and what its operations can see.

    Args:
        graph: from `graph.trace`, with one input `(B, H, W, C)`.
        shape: (batch, height, width, channels) of the pictures.
    """

    def __init__(self, graph, shape):
        tensors = [x for call in graph.calls for x in keras.tree.flatten(call.outputs)]
        shapes = keras.Function(graph.inputs, tensors).compute_output_shape(shape)
        self.graph = graph
        self.shapes = {id(graph.inputs): shape, **dict(zip(map(id, tensors), shapes, strict=True))}
        self._tried, self._fields = {}, {}

    def shape(self, layer):
        return self.shapes[id(self.graph.tensor(layer))]

    def fields(self, layer):
        """The `Fields` of a layer, computed once."""
        if layer not in self._fields:
            target = self.graph.tensor(layer)
            reach, inside, stride = zip(*(self._along(target, axis) for axis in (1, 2)), strict=True)
            self._fields[layer] = Fields(reach, inside, stride)
        return self._fields[layer]

    def _along(self, target, axis):
        shape = self.shapes[id(target)]
        start, count = None, None
        if len(shape) == 4:
            # Two units far outside tell the stride by the last row that they see: out there, branches that see the
            # whole picture play no part.
            count = shape[axis]
            units = np.array([*range(count), 1e6, 1e6 + 64])
            start = (units, units)
        reach, inside = (self._backwards(target, axis, start, clip) for clip in (False, True))
        stride = 0.0 if count is None else float(reach[-1, 1] - reach[-2, 1]) / 64
        return reach[:count], inside[:count], int(stride) if stride.is_integer() else stride

    def _backwards(self, target, axis, start, clip):
        """(units, 2): the span on the input of units with span `start` on `target`; `clip` keeps within every map."""
        spans = {id(target): start}
        for call in reversed(self.graph.calls):
            for output in keras.tree.flatten(call.outputs):
                if id(output) not in spans:
                    continue
                for tensor in call.inputs:
                    span = self._step_back(call, tensor, output, axis, spans[id(output)])
                    if clip and span is not None:
                        last_row = self.shapes[id(tensor)][axis] - 1
                        span = _nonempty(np.maximum(span[0], 0), np.minimum(span[1], last_row))
                    spans[id(tensor)] = _union(spans.get(id(tensor), span), span)
        source = self.graph.inputs
        span = spans[id(source)] or _all_of(self.shapes[id(source)][axis])
        units = 1 if start is None else len(start[0])
        return np.stack([np.broadcast_to(end, units) for end in span], axis=-1)

    def _step_back(self, call, tensor, output, axis, span):
        """The span on an input `tensor` of an operation whose `output` is needed on `span`."""
        shape, made = self.shapes[id(tensor)], self.shapes[id(output)]
        if len(shape) != 4:
            return None
        if span is None or len(made) != 4:
            return _all_of(shape[axis])
        before, after = shape[axis], made[axis]
        operation, spatial = call.operation, axis - 1
        if isinstance(operation, (kl.Conv2D, kl.DepthwiseConv2D, kl.SeparableConv2D)) or _is_pooling(operation):
            kernel, stride = _window(operation, spatial)
            padding = _padding_before(operation, kernel, stride, large=before, small=after)
            return span[0] * stride - padding, span[1] * stride - padding + kernel - 1
        if _is_known_transposed(operation, spatial):
            kernel, stride = _window(operation, spatial)
            padding = _padding_before(operation, kernel, stride, large=after, small=before)
            return _nonempty(np.ceil((span[0] + padding - kernel + 1) / stride), np.floor((span[1] + padding) / stride))
        if isinstance(operation, kl.ZeroPadding2D):
            return tuple(row - operation.padding[spatial][0] for row in span)
        if isinstance(operation, kl.Cropping2D):
            return tuple(row + operation.cropping[spatial][0] for row in span)
        if isinstance(operation, kl.UpSampling2D) or _is_plain_resizing(operation):
            return _resized(operation, span, before / after)
        if before == 1 or after == 1 or isinstance(operation, kl.GroupNormalization):
            return _all_of(before)  # broadcast, summed over, or normalised over the map
        if before == after and self._row_by_row(call)[spatial]:
            return span
        raise _unknown(operation)

    def _row_by_row(self, call):
        """For each axis whether an output row comes from the same row of the inputs alone.

        This is tried out, not looked up: activations, normalisation, sums of branches, preprocessing, and whatever a
        reader writes are then all covered. One row stays, all others change, and that row of the output must not.
        """
        if id(call.operation) not in self._tried:
            draw = np.random.default_rng(0)
            values, others = (
                [draw.uniform(-3, 3, (1, *self.shapes[id(x)][1:])) for x in call.inputs] for _ in range(2)
            )
            expected = _answers(call, values)
            answers = []
            for axis in (1, 2):
                mixed = [_mixed(value, other, axis) for value, other in zip(values, others, strict=True)]
                pairs = zip(expected, _answers(call, mixed), strict=True)
                answers.append(all(np.allclose(*(_middle(y, axis) for y in pair), 1e-4, 1e-5) for pair in pairs))
            self._tried[id(call.operation)] = tuple(answers)
        return self._tried[id(call.operation)]

    def measured_box(self, layer, position):
        """The box of the pixels with a non-zero gradient, in a twin of the network where none can vanish by chance."""
        shape = self.shapes[id(self.graph.inputs)]
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
        values, twins = {id(self.graph.inputs): picture}, {}
        for call in self.graph.calls:
            if id(target) in values:
                break
            arguments = [values[id(x)] for x in call.inputs]
            if type(call.operation).__name__ == "Multiply":  # products of products of gates would underflow
                results = sum(arguments[1:], arguments[0])
            elif self._is_elementwise(call):
                results = arguments[0]
            else:
                twin = twins.setdefault(id(call.operation), _twin(call.operation))
                results = _applied(twin, call, values)
            values.update(zip(map(id, keras.tree.flatten(call.outputs)), keras.tree.flatten(results), strict=True))
        return values[id(target)]

    def _is_elementwise(self, call):
        shapes = [self.shapes[id(x)] for x in (*call.inputs, *keras.tree.flatten(call.outputs))]
        return len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0] == shapes[1] and all(self._row_by_row(call))


def reach(model, size=None):
    """The `Reach` of a network for pictures of this size, made once.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
        size: (height, width); None for the model's own.

    Raises:
        ValueError: a network of another kind, one of free size without `size`, or a size that it does not take.
    """
    graph = trace(model)
    if not keras.backend.is_keras_tensor(graph.inputs) or len(graph.inputs.shape) != 4:
        raise ValueError(f"Receptive fields need a network with one input (B, H, W, C), which {model.name!r} is not.")
    engine.picture_shape(model)
    batch, *own, channels = graph.inputs.shape
    if size is None and None in own:
        raise ValueError(f"{model.name!r} takes pictures of any size: say which, size=(height, width).")
    size = tuple(own if size is None else size)
    if any(have not in (None, want) for have, want in zip(own, size, strict=True)):
        raise ValueError(f"{model.name!r} takes pictures of {own[0]} × {own[1]} pixels, and size is {size}.")
    return engine.cached(model, ("reach", id(graph), size), lambda: Reach(graph, (batch, *size, channels)))


def box(rows, columns):
    """(top, left, bottom, right), ends excluded, of the first and last row and column; zeros if there are none."""
    if not np.isfinite([*rows, *columns]).all():
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[1]) + 1, int(columns[1]) + 1


def _is_pooling(operation):
    return isinstance(operation, (kl.MaxPooling2D, kl.AveragePooling2D))


def _is_known_transposed(operation, spatial):
    if not isinstance(operation, kl.Conv2DTranspose) or operation.output_padding is not None:
        return False
    return operation.dilation_rate[spatial] == 1 or operation.strides[spatial] == 1


def _is_plain_resizing(operation):
    odd = ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")
    return isinstance(operation, kl.Resizing) and not any(getattr(operation, name, False) for name in odd)


def _window(operation, spatial):
    """Rows from first to last under the kernel, and its step."""
    if _is_pooling(operation):
        return operation.pool_size[spatial], operation.strides[spatial]
    return (operation.kernel_size[spatial] - 1) * operation.dilation_rate[spatial] + 1, operation.strides[spatial]


def _padding_before(operation, kernel, stride, large, small):
    """Rows that `"same"` adds before the first; an odd one out comes after the last, as TensorFlow has it."""
    return max((small - 1) * stride + kernel - large, 0) // 2 if operation.padding == "same" else 0


def _resized(operation, span, ratio):
    """Enlarging or shrinking: `ratio` rows of the input to one of the output, the borders aligned."""
    if operation.interpolation == "nearest":
        return tuple(np.floor((row + 0.5) * ratio) for row in span)
    if operation.interpolation == "bilinear":
        first, last = ((row + 0.5) * ratio - 0.5 for row in span)
        return np.floor(first + 1e-9), np.ceil(last - 1e-9)
    raise _unknown(operation)


def _unknown(operation):
    return ValueError(
        f"How far {type(operation).__name__} {operation.name!r} reaches is not known. Measure it: "
        "receptive_field(…, method='gradient')."
    )


def _all_of(length):
    return np.zeros(1), np.full(1, length - 1.0)


def _nonempty(first, last):
    return np.where(first > last, np.inf, first), np.where(first > last, -np.inf, last)


def _union(one, other):
    return None if one is None or other is None else (np.minimum(one[0], other[0]), np.maximum(one[1], other[1]))


def _applied(operation, call, values):
    """The operation on the arguments of a call, symbolic tensors replaced by `values`, a table by id."""
    args, kwargs = keras.tree.map_structure(lambda x: values.get(id(x), x), (call.args, call.kwargs))
    return operation(*args, **kwargs)


def _answers(call, inputs):
    """What a call's own operation makes of these arrays in place of its inputs."""
    tensors = {id(x): tf.constant(value, x.dtype) for value, x in zip(inputs, call.inputs, strict=True)}
    return [np.asarray(y) for y in keras.tree.flatten(_applied(call.operation, call, tensors))]


def _middle(array, axis):
    return array.take(array.shape[axis] // 2, axis) if array.ndim == 4 else array


def _mixed(value, other, axis):
    """`other` with the middle row of `value`; `value` where there are no rows to change."""
    if value.ndim != 4 or value.shape[axis] == 1:
        return value
    is_middle = np.arange(value.shape[axis]) == value.shape[axis] // 2
    return np.where(np.expand_dims(is_middle, [n for n in range(4) if n != axis]), value, other)


def _twin(operation):
    """The same connections in double precision, with positive kernels, no activation, average in place of maximum."""
    if not isinstance(operation, kl.Layer):
        return operation
    config = {**operation.get_config(), "dtype": "float64"}
    if "activation" in config:
        config["activation"] = "linear"
    if config.get("groups", 1) > 1 and isinstance(operation, kl.Conv2D):
        config["groups"] = 1  # the same rows and columns; grouped convolutions go through a slow compiler
    for key in config:
        if key.endswith("initializer") and not key.startswith(("bias", "beta", "gamma", "moving")):
            config[key] = _positive
    averages = {kl.MaxPooling2D: kl.AveragePooling2D, kl.GlobalMaxPooling2D: kl.GlobalAveragePooling2D}
    return averages.get(type(operation), type(operation)).from_config(config)


def _positive(shape, dtype=None):
    """Positive kernels that keep the size of what goes through them."""
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape) / max(np.prod(shape[:-1]), 1)
    return tf.constant(values, dtype)

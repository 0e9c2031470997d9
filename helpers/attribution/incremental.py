"""Occlusion that computes only what a window changes: a cone of features below it, which widens from layer to layer.

Nakandala, Kumar and Papakonstantinou, "Incremental and Approximate Inference for Faster Occlusion-based Deep CNN
Explanations" (Krypton, SIGMOD 2019). The layers of the clean picture are computed once. Then, for each window, the
network goes on in stages from one cut to the next: a stage pastes what the window has changed into a crop of the clean
layer, and runs on that alone. After the last one the changed part is pasted into the whole map, and the rest runs.

Where a crop ends and the map goes on, a convolution sees padding. So the crop is larger than what is taken from it, by
what a unit sees (`receptive` knows). Crops start at whole strides and have the size of the map modulo the stride, so
that the uneven padding of `"same"` falls as it does on the map. All crops of a stage have one size.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..features import receptive
from ..submodels.graph import trace
from ..submodels.memory import cached
from ..submodels.taps import bottlenecks, is_spatial
from . import shared

ELEMENT = 100  # so many multiplications take as long as writing one number and reading it again; the order matters
SMALL = 2e10  # plain occlusion of fewer multiplications takes less time than the setting up
GAIN = 1.3  # below this it is not worth the setting up
TOLERANCE = 1e-4  # largest difference from the whole map, as a share of its largest value


class Cut(NamedTuple):
    """A tensor on which all that follows depends alone. Unit u along an axis sees rows from u·jump + first, `reach`."""

    name: str
    after: int  # number of calls that are done when it is known
    tensor: object
    shape: tuple  # (height, width, channels)
    axes: tuple  # for each axis (jump, first, reach)


class Stage(NamedTuple):
    """From one cut to the next, or from the last one to the end."""

    source: Cut
    target: Cut | None
    changed: tuple  # number of rows and columns that come in changed
    crop: tuple  # height and width; at the last cut those of the whole map
    corners: tuple  # for each axis (windows,): first row of the crop


class Plan(NamedTuple):
    """How to resume for a set of windows."""

    stages: list
    rows: np.ndarray  # (1 + windows, 2, …) int32, what `changed_maps` needs to know of each window; the first is none
    gain: float  # estimated cost of plain occlusion, as a multiple of this

    @property
    def key(self):
        """What a compiled function depends on: all but where the windows are, which comes with the rows."""
        return tuple((stage.source.name, stage.changed, stage.crop) for stage in self.stages)


def plan(task, tops, lefts, patch, layer="auto"):
    """The `Plan` for windows of the size `patch` at these rows and columns, or None if plain occlusion is as good.

    `layer` is where the rest of the network is resumed, or "auto"; one where that is not possible is refused.
    """
    size = task.images.shape[1:3]
    key, latest = (size, patch, tuple(tops), tuple(lefts), layer), cached(task.model, "plan", dict)
    if latest.get("key") != key:
        latest.update(key=key, plan=_plan(task, size, (tops, lefts), patch, layer))
    return latest["plan"]


def _plan(task, size, starts, patch, layer):
    cuts, costs = cached(task.model, ("cuts", size), lambda: _cuts(task.model, size))
    if layer == "auto" and costs[-1] * len(starts[0]) * len(starts[1]) < SMALL:
        return None
    if layer != "auto":
        index = trace(task.model).index(layer) + 1
        cuts = [cut for cut in cuts if cut.after <= index]
        if cuts[-1].after != index:
            possible = ", ".join(repr(cut.name) for cut in cuts[1:]) or "none"
            raise ValueError(
                f"The network cannot be resumed at {layer!r}: either a path goes around it, or it is not known what "
                f"its units see. Before it, these are possible: {possible}. resume='auto' chooses, None never does."
            )
    stages, cost = _cheapest(cuts, costs, starts, patch, to_the_last=layer != "auto")
    if layer == "auto" and cost * GAIN > costs[-1]:
        return None
    found = Plan(stages, _rows(stages, starts, patch), costs[-1] / cost)
    exact = _is_exact(task, found)
    if layer != "auto" and not exact:
        raise ValueError(f"Resumed at {layer!r}, the network does not compute what it does on the whole picture.")
    return found if exact else None


def _cuts(model, size):
    """All cuts, the picture first, and the cost of all calls up to each position, `(calls + 1,)`."""
    graph, network = trace(model), receptive.reach(model, size)
    shapes = network.shapes
    found = [Cut("the picture", 0, graph.inputs, shapes[id(graph.inputs)][1:], ((1, 0, 1), (1, 0, 1)))]
    for index in bottlenecks(graph):
        call = graph.calls[index]
        axes = _axes(network, call)
        if axes is None:
            break
        found.append(Cut(call.name, index + 1, call.outputs, shapes[id(call.outputs)][1:], axes))
    costs = [0]
    for call in graph.calls:
        shape = shapes[id(keras.tree.flatten(call.outputs)[0])][1:]
        weights = sum(math.prod(w.shape) for w in getattr(call.operation, "weights", ()) if len(w.shape) > 1)
        costs.append(costs[-1] + weights * math.prod(shape[:-1]) + ELEMENT * math.prod(shape))
    return found, costs


def _axes(network, call):
    """For each axis (jump, first, reach) as ints, if that is what the units of a layer see; else None."""
    if not is_spatial(call.outputs):
        return None
    try:
        fields, axes = network.fields(call.name), []
    except ValueError:  # it is not known how far an operation reaches
        return None
    for reach, jump in zip(fields.reach, fields.stride, strict=True):
        steady = (reach == reach[0] + np.arange(len(reach))[:, None] * jump).all()
        if jump < 1 or jump != int(jump) or not np.isfinite(reach).all() or not steady:
            return None
        axes.append((int(jump), int(reach[0, 0]), int(reach[0, 1] - reach[0, 0] + 1)))
    return tuple(axes)


def _changed(cut, axis, starts, patch):
    """(first rows, how many) of a map that the windows may change, along one axis: the units that see a part of one."""
    (jump, first, reach), length = cut.axes[axis], cut.shape[axis]
    low = np.maximum(-((first + reach - 1 - starts) // jump), 0)
    high = np.minimum((starts + patch - 1 - first) // jump, length - 1)
    count = max(int((high - low).max()) + 1, 1)
    return np.clip(low, 0, length - count), count


def _crop(source, target, axis, starts, count):
    """(corners, size) of crops of `source` that give so many rows of `target`, from `starts`, exactly; or None."""
    (jump, first, reach), (far_jump, far_first, far_reach) = source.axes[axis], target.axes[axis]
    step, length = far_jump // jump, source.shape[axis]
    if far_jump % jump or (far_first - first) % jump or (far_reach - reach) % jump:
        return None
    before, seen = (far_first - first) // jump, (far_reach - reach) // jump + 1
    low = np.maximum(starts * step + before, 0) // step * step
    high = np.minimum((starts + count - 1) * step + before + seen, length)
    size = int((high - low).max())
    size = min(size + (length - size) % step, length)
    return np.minimum(low, length - size), size


def _cheapest(cuts, costs, starts, patch, to_the_last):
    """The cheapest chain of stages from the picture to the end, and the cost of a pass."""
    changed = [[_changed(cut, axis, starts[axis], patch[axis]) for axis in (0, 1)] for cut in cuts]
    counts = [tuple(count for _, count in axes) for axes in changed]
    best, chains = [0.0], [[]]
    for far in range(1, len(cuts)):
        options = []
        for near in range(far):
            source, target = cuts[near], cuts[far]
            crops = [_crop(source, target, axis, *changed[far][axis]) for axis in (0, 1)]
            if None in crops:
                continue
            corners, crop = zip(*crops, strict=True)
            share = math.prod(crop) / math.prod(source.shape[:2])
            work = costs[target.after] - costs[source.after] + 2 * ELEMENT * math.prod(source.shape)
            stage = Stage(source, target, counts[near], crop, corners)
            options.append((best[near] + share * work, [*chains[near], stage]))
        cost, chain = min(options, key=lambda option: option[0], default=(np.inf, []))
        best.append(cost)
        chains.append(chain)
    rest = [2 * ELEMENT * math.prod(cut.shape) + costs[-1] - costs[cut.after] for cut in cuts]
    total = [np.inf, *np.add(best, rest)[1:]]  # nothing is gained at the picture itself
    chosen = len(cuts) - 1 if to_the_last else int(np.argmin(total))
    last = Stage(cuts[chosen], None, counts[chosen], cuts[chosen].shape[:2], [0 * own for own in starts])
    return [*chains[chosen], last], total[chosen]


def _rows(stages, starts, patch):
    """For each window and axis: the corner of the crop of each stage, where what changed begins, and is valid from."""
    axes = []
    for axis in (0, 1):
        valid = [_changed(stage.source, axis, starts[axis], patch[axis])[0] for stage in stages]
        corners, steps = [stage.corners[axis] for stage in stages], [stage.source.axes[axis][0] for stage in stages]
        origins = [corner // (far // near) for corner, near, far in zip(corners, steps, steps[1:], strict=False)]
        axes.append(np.stack([*corners, starts[axis], *origins, *valid]))
    tops, lefts = np.indices([len(own) for own in starts]).reshape(2, -1)
    rows = np.stack([axes[0][:, tops], axes[1][:, lefts]]).transpose(2, 0, 1)
    nothing = rows[:1].copy()
    nothing[:, :, 2 * len(stages) :] = 10**6  # valid from far outside: nothing is pasted
    return np.concatenate([nothing, rows]).astype("int32")


def clean(task, found):
    """Compiled: one picture `(H, W, C)` → its maps at all cuts of a plan, the picture first, each `(h, w, c)`."""
    cuts = [stage.source for stage in found.stages[1:]]
    names = tuple(cut.name for cut in cuts)
    network = cached(task.model, ("cuts", names), lambda: trace(task.model).model([cut.tensor for cut in cuts]))

    def forward(picture):
        return [picture, *(maps[0] for maps in keras.tree.flatten(network(picture[None], training=False)))]

    return shared.compiled(task, ("clean", names), forward)


def passes(task, name, found, also=()):
    """As `masking.passes`, with the rows of a plan, and the maps from `clean` as constants."""
    task, graph = task.shell, trace(task.model)

    def forward(picture, fill, target, maps, rows):
        outputs = run(graph, found.stages[-1].source, changed_maps(graph, found, maps, fill, rows))
        return [task.score(outputs, tf.repeat(target, tf.shape(rows)[0])), *(more(outputs) for more in also)]

    return shared.compiled(task, name, forward)


def changed_maps(graph, found, maps, fill, rows):
    """The whole maps at the last cut of a plan, `(n, h, w, c)`, for n windows: `rows`, `(n, 2, …)`, some of the plan's.

    `maps` are from `clean`, and `fill`, `(H, W, C)`, is what the windows show.
    """
    corners, origins, valid = tf.split(tf.transpose(rows, (2, 0, 1)), 3)  # (stages, n, 2) each
    down, across = _places(origins[0], found.stages[0].changed)
    part = tf.gather(tf.reshape(fill, (-1, fill.shape[-1])), down[:, :, None] * fill.shape[1] + across[:, None])
    for number, stage in enumerate(found.stages):
        at = origins[number], valid[number], stage.changed
        part = _pasted(maps[number], part, *at, corners[number], stage.crop)
        if stage.target:
            part = run(graph, stage.source, part, stage.target)
    return part


def run(graph, source, maps, target=None):
    """What a network makes of other maps at a cut: its outputs, or the maps at a later cut."""
    values = graph.values({id(source.tensor): maps}, graph.calls[source.after : target.after if target else None])
    return keras.tree.map_structure(lambda x: values[id(x)], target.tensor if target else graph.outputs)


def _places(corners, size):
    """Rows `(n, height)` and columns `(n, width)` of boxes of one size."""
    return [corners[:, axis, None] + tf.range(size[axis]) for axis in (0, 1)]


def _pasted(whole, parts, origins, valid, count, corners, size):
    """Crops `(n, *size, c)` of a map `(h, w, c)` into which parts `(n, a, b, c)` are pasted, as far as they are valid.

    Places on the map are the `corners` of the crops, the `origins` of the parts, and where these are `valid` from.
    """
    height, width, channels = whole.shape
    places, limits, inside, within = _places(corners, size), parts.shape[1:3], [], []
    for axis, place in enumerate(places):
        inside.append((place >= valid[:, axis, None]) & (place < valid[:, axis, None] + count[axis]))
        within.append(tf.clip_by_value(place - origins[:, axis, None], 0, limits[axis] - 1))
    rows = within[0] + tf.range(tf.shape(parts)[0])[:, None] * limits[0]
    in_parts = height * width + rows[:, :, None] * limits[1] + within[1][:, None]
    in_whole = places[0][:, :, None] * width + places[1][:, None]
    both = tf.concat([tf.reshape(whole, (-1, channels)), tf.reshape(parts, (-1, channels))], 0)
    crops = tf.gather(both, tf.where(inside[0][:, :, None] & inside[1][:, None], in_parts, in_whole))
    return tf.ensure_shape(crops, (None, *size, channels))


def _is_exact(task, found):
    """Whether windows that show what is there anyway leave the maps at the last cut as they are."""
    pictures, graph = task.images, trace(task.model)
    random = np.random.default_rng(0).uniform(pictures.min(), pictures.max() + 1, pictures.shape[1:])
    picture = tf.constant(random, "float32")
    maps = clean(task, found)(picture)
    sample = found.rows[np.unique(np.linspace(1, len(found.rows) - 1, 16).astype(int))]
    try:
        again = tf.function(lambda *given: changed_maps(graph, found, *given), autograph=False)(maps, picture, sample)
    except (ValueError, tf.errors.InvalidArgumentError):  # an operation that takes maps of one size only
        return False
    return float(tf.reduce_max(tf.abs(again - maps[-1]))) <= TOLERANCE * float(tf.reduce_max(tf.abs(maps[-1])))

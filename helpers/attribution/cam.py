"""Class activation maps: where in the picture a layer found what speaks for a class.

Every map is a sum over the channels k of a layer. With A_k the `(h, w)` map of a channel, y the score that is explained
and g_k = ∂y/∂A_k its gradient, L = Σ_k w_k · A_k, and the methods differ in the weights w_k only. The map has the grid
of the layer; enlarged to the size of the picture it is smooth, but no finer.
"""

import keras
import numpy as np
import tensorflow as tf

from .. import checks, submodels
from ..submodels import engine, taps
from ..submodels.graph import trace
from ..submodels.kinds import is_function, is_idle
from . import masking, shared
from .gradients import guided_backprop
from .targets import AGAINST, classes, only


def cam(model, images, target=None, *, layer=None, upsample=True, rectify=False, batch=16):
    """Which places add to the logit of a class, and by how much? (Zhou et al. 2016, arXiv:1512.04150)

    After global average pooling and one Dense layer with kernel W the logit of class c is the mean over all places of
    L = Σ_k W[k, c] · A_k, plus the bias. Softmax or another function at the very end changes nothing in the map.

    Args:
        model, images, layer, upsample, rectify, batch: as for `grad_cam`.
        target: None, an int, or one int for each picture.

    Returns, raises: as `grad_cam`; signed, in units of the logit: the mean of the layer's own grid is logit − bias.
        Refused is another head, with the layer that is in the way, and a function, which has no class, as target.
    """
    if callable(target):
        raise ValueError("CAM reads the weights of one class; for a function as target use cam.grad_cam.")
    task = _prepare(model, images, target, layer, resolve=True)
    kernels = {name: class_weights(task.model, name) for name in task.layers}

    def draw(row, name, maps):
        weights = kernels[name][:, max(task.targets[row], 0)]
        return maps @ (-weights if task.targets[row] == AGAINST else weights)

    return _answer(task, _by_picture(task, draw, batch), upsample, rectify)


def grad_cam(model, images, target=None, *, layer=None, upsample=True, rectify=True, batch=16):
    """Which places speak for a class, in any network? (Selvaraju et al. 2017, arXiv:1610.02391)

    w_k = mean of g_k over all places: how fast the score grows if the channel is turned up everywhere. One forward
    pass, and a backward pass down to the layer. If the head is global pooling and Dense: CAM by the number of places.

    Args:
        model, images, target: as for all methods (`shared.prepare`); a score in front of a final softmax is explained
            by `submodels.logits(model)`.
        layer: a layer with output `(B, h, w, K)`, by name, place or itself; None for the last one after a kernel that
            has more than one place. A list fuses several: each map is enlarged and divided by its own largest
            magnitude, then their mean is taken, so that the result is at most 1.
        upsample: True for maps at the size of the picture (bilinear), False for the layer's own grid.
        rectify: True keeps what speaks for the score and sets the rest to zero, False keeps the sign.
        batch: pictures computed at a time.

    Returns:
        float32 `(B, H, W)`, or `(H, W)` for one picture; with `upsample=False` `(B, h, w)`. Not normalised.

    Raises:
        ValueError: no such layer, or one without spatial axes; a network without a spatial layer; no layer at all;
            `upsample=False` with layers of different grids; a wrong target or wrong pictures (`shared.prepare`).
    """
    return _by_gradient(_averaged, model, images, target, layer, upsample, rectify, batch)


def grad_cam_plus_plus(model, images, target=None, *, layer=None, upsample=True, rectify=True, batch=16):
    """Which places speak for a class, if it is there several times? (Chattopadhay et al. 2018, arXiv:1710.11063)

    w_k = Σ α_k · ReLU(g_k) with α_k = g_k² / (2 g_k² + S_k g_k³) and S_k = Σ A_k over all places. That is the paper's
    formula for a score exp(y), but for the factor exp(y) that all channels have in common. It is made for maps that are
    not negative, as after a ReLU; with S_k below zero α_k can be anything. Args, returns, raises: as `grad_cam`.
    """

    def formula(maps, slopes):
        # α is written as 1 / (2 + S·g): g² and g³ of a small gradient are below what float32 can hold.
        alpha = tf.math.divide_no_nan(1.0, 2.0 + tf.reduce_sum(maps, (1, 2), keepdims=True) * slopes)
        return tf.einsum("bhwk,bk->bhw", maps, tf.reduce_sum(alpha * tf.nn.relu(slopes), (1, 2)))

    return _by_gradient(formula, model, images, target, layer, upsample, rectify, batch)


def layer_cam(model, images, target=None, *, layer=None, upsample=True, rectify=True, batch=16):
    """Which places speak for a class, in early layers too? (Jiang et al. 2021, LayerCAM)

    Each place has a weight of its own, w_k[i, j] = ReLU(g_k[i, j]), so that the fine grid of an early layer is used.
    Args, returns, raises: as `grad_cam`.
    """

    def formula(maps, slopes):
        return tf.reduce_sum(tf.nn.relu(slopes) * maps, -1)

    return _by_gradient(formula, model, images, target, layer, upsample, rectify, batch)


def hires_cam(model, images, target=None, *, layer=None, upsample=True, rectify=False, batch=16):
    """Which places did the network use for a class? (Draelos and Carin 2020, arXiv:2011.08891)

    L = Σ_k g_k · A_k, each place with its own gradient: what the layer at this place adds to the score. If what comes
    after the layer is linear, the map on the layer's own grid sums to score − bias, and it is zero wherever nothing was
    used, which Grad-CAM does not promise. Args, returns, raises: as `grad_cam`; signed, in units of the score.
    """

    def formula(maps, slopes):
        return tf.reduce_sum(slopes * maps, -1)

    return _by_gradient(formula, model, images, target, layer, upsample, rectify, batch)


def xgrad_cam(model, images, target=None, *, layer=None, upsample=True, rectify=True, batch=16):
    """Grad-CAM with weights that share the score out among the channels. (Fu et al. 2020, arXiv:2008.02312)

    w_k = Σ A_k · g_k / Σ A_k: the gradient is averaged where the channel is active. The signed map sums as HiRes-CAM's.
    Args, returns, raises: as `grad_cam`. A channel whose sum is zero gets no weight.
    """

    def formula(maps, slopes):
        weights = tf.math.divide_no_nan(tf.reduce_sum(maps * slopes, (1, 2)), tf.reduce_sum(maps, (1, 2)))
        return tf.einsum("bhwk,bk->bhw", maps, weights)

    return _by_gradient(formula, model, images, target, layer, upsample, rectify, batch)


def finer_cam(
    model, images, target=None, *, layer=None, upsample=True, rectify=True, compare=None, gamma=0.6, batch=16
):
    """What tells a class from those that look like it? (Zhang et al. 2025, arXiv:2501.11309)

    Grad-CAM of the score y_c − γ · mean of y_d over the classes d that it is compared with: what they have in
    common cancels out. γ = 0 is Grad-CAM. The scores should be logits.

    Args:
        model, images, layer, upsample, rectify, batch: as for `grad_cam`.
        target: None, an int, or one int for each picture.
        compare: how many classes: those whose scores are nearest to y_c, in each picture its own. Or a list of classes.
            None for 3, or for all others where there are fewer.
        gamma: strength of the comparison, 0 or more.

    Returns, raises: as `grad_cam`. Refused is a function as target, a network with one output, and `compare` below 1,
        too large, not classes, or with the target among them.
    """
    if callable(target):
        raise ValueError("Finer-CAM compares classes, and a function has none: use cam.grad_cam with this function.")
    gamma = checks.real(gamma, "gamma", least=0)
    task = _prepare(model, images, target, layer, resolve=np.ndim(compare) > 0)
    count, listed = _rivals(model, compare, task.targets)
    # What is compared, and how strongly, travels with each picture: one compiled function serves them all.
    rows = np.c_[task.targets, np.tile(np.r_[gamma, count, listed], (len(task.images), 1))].astype("float32")
    task = task._replace(score=_apart, key=_apart, targets=rows)
    return _answer(task, _maps(task, "finer_cam", _averaged, batch), upsample, rectify)


def _rivals(model, compare, targets):
    """How many classes are compared, and which ones, `(classes,)` 0 or 1; none for those that come nearest."""
    classes = model.outputs[0].shape[-1]
    if classes == 1:
        raise ValueError(f"Finer-CAM compares classes, and {model.name!r} has one output: use cam.grad_cam.")
    rivals = np.array(min(3, classes - 1) if compare is None else compare, ndmin=1)
    if rivals.dtype.kind not in "iu" or rivals.ndim > 1 or not rivals.size:
        raise ValueError(f"compare={compare!r}: give a number of classes, or a list of classes.")
    if np.ndim(compare) == 0 and not 1 <= rivals[0] < classes:
        raise ValueError(f"compare={compare!r}: besides the target there are {classes - 1} classes.")
    if np.ndim(compare) == 0:
        return rivals[0], np.zeros(classes)
    if not (0 <= rivals.min() and rivals.max() < classes):
        raise ValueError(f"compare={compare!r}: model {model.name!r} has {classes} outputs, 0 to {classes - 1}.")
    if np.isin(targets, rivals).any():
        raise ValueError(f"compare={compare!r} has the target itself: a class cannot be told from itself.")
    return 0, np.isin(np.arange(classes), rivals)


def _apart(outputs, rows):
    """The score that Finer-CAM explains; rows are (target or `OWN`, γ, *what `_rivals` gives)."""
    outputs = tf.cast(only(outputs), "float32")
    targets = classes(outputs, tf.cast(rows[:, 0], "int32"))
    own = tf.gather(outputs, targets, batch_dims=1)
    distance = tf.where(tf.one_hot(targets, outputs.shape[-1]) > 0, np.inf, tf.abs(outputs - own[:, None]))
    nearest = tf.cast(tf.argsort(tf.argsort(distance)), "float32") < rows[:, 2:3]
    chosen = tf.cast(nearest, "float32") + rows[:, 3:]
    return own - rows[:, 1] * tf.reduce_sum(chosen * outputs, -1) / tf.reduce_sum(chosen, -1)


def eigen_cam(model, images, target=None, *, layer=None, upsample=True, rectify=True, center=False, batch=16):
    """What stands out in a layer, whatever the class? (Muhammad and Yeasin 2020, arXiv:2008.00299)

    With the layer as a matrix O of places × channels, L = O · v with v the first right singular vector of O: the
    direction in which the places have the largest values. Its sign is chosen so that L is large where the layer is
    active, Σ L[i, j] · ‖A[i, j]‖² ≥ 0.

    Args:
        model, images, layer, upsample, rectify, batch: as for `grad_cam`.
        target: checked if given, and not used: the map is the same for all classes.
        center: True subtracts from each channel its mean first, so that v is the first principal component in the
            strict sense; the paper does not, other programs do.

    Returns, raises: as `grad_cam`.
    """
    task = _prepare(model, images, _no_class if target is None else target, layer)

    def draw(_row, _name, maps):
        places = maps.reshape(-1, maps.shape[-1])
        matrix = (places - places.mean(0) if center else places).astype("float64")
        if len(matrix) > matrix.shape[1]:
            projected = matrix @ np.linalg.eigh(matrix.T @ matrix)[1][:, -1]
        else:  # the same from the smaller side: O·v = σ·u
            squares, vectors = np.linalg.eigh(matrix @ matrix.T)
            projected = np.sqrt(max(squares[-1], 0)) * vectors[:, -1]
        sign = -1.0 if projected @ np.square(places).sum(1) < 0 else 1.0
        return sign * projected.reshape(maps.shape[:2])

    return _answer(task, _by_picture(task, draw, batch), upsample, rectify)


def _no_class(outputs):
    return tf.zeros(tf.shape(only(outputs))[0])


def score_cam(
    model, images, target=None, *, layer=None, upsample=True, rectify=True, channels=None, baseline=0.0, batch=16,
    progress=True,
):  # fmt: skip
    """Which channels, used as a window on the picture, keep the class? (Wang et al. 2020, arXiv:1910.01279)

    Each map A_k, enlarged and scaled to 0…1, is a mask M_k on the picture x; w = softmax over k of the scores of
    x · M_k + baseline · (1 − M_k). No gradients, one pass for each channel; those that are constant share one. (The
    paper subtracts the score of the baseline, which softmax does not see.)

    Args:
        model, images, target, layer, upsample, rectify: as for `grad_cam`; scores are to be logits.
        channels: None for all, or how many: those whose maps vary the most (standard deviation), in each picture.
        baseline: what is seen where the mask is zero: a number, a colour, one picture `(H, W, C)`, or one for each.
        batch, progress: masks computed at a time, which bounds the memory; show a bar.

    Returns, raises: as `grad_cam`. Refused are `channels` below 1 or above what there is, a baseline of another shape.
    """
    task = _prepare(model, images, target, layer, resolve=True)
    behind, size = shared.baseline(task, baseline), task.images.shape[1:3]
    for name in task.layers:
        count = trace(task.model).tensor(name).shape[-1]
        if channels is not None and not (isinstance(channels, (int, np.integer)) and 1 <= channels <= count):
            raise ValueError(f"channels={channels!r}: layer {name!r} has {count}; give 1 to {count}, or None for all.")

    def stretched(maps):
        masks = tf.image.resize(maps[..., None], size)[..., 0]
        low, high = (reduce(masks, (1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
        return tf.math.divide_no_nan(masks - low, high - low)

    function, options = masking.passes(task, ("score_cam", size), stretched), {"batch": batch, "progress": progress}

    def draw(row, name, maps):
        kept = np.argsort(-maps.std((0, 1)), kind="stable")[:channels]
        varies = np.ptp(maps, (0, 1))[kept] > 0
        rows = np.moveaxis(maps[..., kept[varies]], -1, 0)
        if not varies.all():
            rows = np.concatenate([rows, np.zeros((1, *maps.shape[:2]), "float32")])
        (scores,) = masking.run(task, function, row, behind, rows, label=f"Score-CAM {name}", **options)
        weights = np.full(len(kept), scores[-1], "float64")
        weights[varies] = scores[: varies.sum()]
        weights = np.exp(weights - weights.max())
        return maps[..., kept] @ (weights / weights.sum())

    return _answer(task, _by_picture(task, draw, batch), upsample, rectify)


def ablation_cam(model, images, target=None, *, layer=None, upsample=True, rectify=True, batch=16, progress=True):
    """Which channels does the class need? (Desai and Ramaswamy 2020, Ablation-CAM)

    w_k = (y − y without channel k) / |y|, with the channel set to zero in the layer. No gradients. For each channel
    only what comes after the layer is run; channels that are silent need no pass. (The paper divides by y: with a
    negative score, needed channels would count against it.)

    Args:
        model, images, target, layer, upsample, rectify: as for `grad_cam`.
        batch, progress: channels computed at a time, which bounds the memory; show a bar.

    Returns, raises: as `grad_cam`. Zeros where y is exactly zero.
    """
    task = _prepare(model, images, target, layer, resolve=True)
    return _answer(task, {name: _ablation(task, name, batch, progress) for name in task.layers}, upsample, rectify)


def _ablation(task, layer, batch, progress):
    """The maps of Ablation-CAM for one layer."""
    (body, head), score = taps.cut(task.model, layer), task.score

    def ablated(channels, target, maps, *others):
        count = tf.shape(channels)[0]
        kept = 1 - tf.one_hot(channels, tf.shape(maps)[-1], dtype=maps.dtype)
        rows = [maps * kept[:, None, None], *(tf.repeat(other[None], count, 0) for other in others)]
        return score(head(rows, training=False), tf.repeat(target, count))

    function = shared.compiled(task, ("ablation_cam", layer), ablated)
    found = []
    for chunk in engine.stream(body, task.images, batch=batch):
        for tensors in zip(*keras.tree.flatten(chunk), strict=True):
            maps, row = tensors[0], len(found)
            given = [tf.constant(x) for x in (task.targets[row], *tensors)]
            active = np.flatnonzero(maps.any((0, 1)))
            rows = np.r_[-1, active].astype("int32")  # channel −1 is none: the score as it is
            options = {"label": f"Ablation-CAM {layer}, picture {row + 1} of {len(task.images)}", "progress": progress}
            scores = engine.run(lambda chosen, given=given: function(chosen, *given), rows, batch=batch, **options)
            drops = np.divide(scores[0] - scores[1:], abs(scores[0]), where=scores[0] != 0, out=np.zeros(len(active)))
            found.append(maps[..., active] @ drops)
    return np.stack(found)


def guided_grad_cam(model, images, target=None, *, layer=None, rectify=True):
    """Which details, at the places that speak for a class? (Selvaraju et al. 2017, arXiv:1610.02391)

    Guided backpropagation × Grad-CAM, enlarged: the first is sharp and knows little of the class, the second is coarse.

    Args, returns, raises: as `grad_cam`, and as `submodels.relu_rule`; float32 of the shape of `images`, signed.
    """
    details = guided_backprop(model, images, target)
    return details * grad_cam(model, images, target, layer=layer, rectify=rectify)[..., None]


def _prepare(model, images, target, layer, resolve=False):
    """The task, with the layers that are looked at."""
    given = layer if isinstance(layer, (list, tuple)) else [layer]
    if not given:
        raise ValueError("layer is an empty list: give a name, several, or None for the last layer with spatial axes.")
    return shared.prepare(model, images, target, layers=given, resolve=resolve)


def _by_gradient(formula, model, images, target, layer, upsample, rectify, batch):
    """The answer of a method whose maps `(B, h, w)` are `formula(A, g)`, tensors `(B, h, w, K)` both."""
    task = _prepare(model, images, target, layer)
    return _answer(task, _maps(task, formula.__qualname__, formula, batch), upsample, rectify)


def _maps(task, name, formula, batch):
    """Maps `{layer: (B, h, w)}` by `formula(A, g)`, in the pass that makes A and g."""
    shell = task.shell

    def maps(x, targets):
        _, activations, slopes = shared.layer_gradients(shell, shell.layers)(x, targets)
        return {name: formula(activations[name], slopes[name]) for name in shell.layers}

    return task.run(shared.compiled(task, (name, task.layers), maps), batch=batch)


def _averaged(maps, slopes):
    """Grad-CAM's formula: a channel has the mean of its gradient as its weight."""
    return tf.einsum("bhwk,bk->bhw", maps, tf.reduce_mean(slopes, (1, 2)))


def _by_picture(task, draw, batch):
    """Maps `{layer: (B, h, w)}` by `draw(row, layer, A)`, with A `(h, w, K)` what the layer makes of that picture."""
    network, found = submodels.activations(task.model, task.layers), {name: [] for name in task.layers}
    for chunk in engine.stream(network, task.images, batch=batch):
        for name in task.layers:
            for maps in chunk[name]:
                found[name].append(draw(len(found[name]), name, maps))
    return {name: np.stack(maps) for name, maps in found.items()}


def class_weights(model, layer):
    """The kernel `(channels, classes)` of a head of global average pooling and one Dense layer; others are refused.

    What is idle at inference may come in between, an activation at the end; a 1×1 convolution of one place is Dense.
    """
    graph = trace(model)
    tensor, pooled, kernel, reason = graph.tensor(layer), False, None, None
    while tensor is not only(graph.outputs) and not reason:
        readers = graph.readers(tensor)
        call, after = readers[0], readers[0].outputs
        operation, kind = call.operation, type(call.operation)
        single = kind is keras.layers.Conv2D and operation.kernel_size == (1, 1) and operation.groups == 1
        if len(readers) > 1:
            reason = f"the way forks to {', '.join(repr(reader.name) for reader in readers if reader)}"
        elif kind is keras.layers.GlobalAveragePooling2D and not pooled:
            pooled = True
        elif pooled and kernel is None and (single or kind is keras.layers.Dense):
            kernel = np.asarray(operation.kernel, "float32").reshape(operation.kernel.shape[-2:])
        elif pooled and kind in (keras.layers.Flatten, keras.layers.Reshape):
            reason = None if after.shape[-1] == tensor.shape[-1] else f"{call.name!r} mixes channels"
        elif not (is_idle(call) or kernel is not None and is_function(call)):
            reason = f"there comes {call.name!r} ({kind.__name__})"
        tensor = after
    if kernel is None or reason:
        raise ValueError(
            f"CAM needs global average pooling and one Dense layer right after {layer!r}, and in model {model.name!r} "
            f"{reason or 'the network ends without them'}. Use cam.grad_cam, which is the same but for a factor and "
            "works with any head, or cam.hires_cam, whose signed map adds up to the score where the head is linear."
        )
    return kernel


def _answer(task, found, upsample, rectify):
    """The answer to the reader from the maps of each layer."""
    maps = [np.maximum(one, 0) if rectify else one for one in found.values()]
    if upsample:
        maps = [shared.upsample(one, task.images.shape[1:3]) for one in maps]
    if len(maps) == 1:
        return task.answer(maps[0])
    grids = {name: one.shape[1:] for name, one in zip(found, maps, strict=True)}
    if len(set(grids.values())) > 1:
        raise ValueError(f"Layers of different grids, {grids}, have no common one: upsample=True fuses them.")
    largest = [np.abs(one).max((1, 2), keepdims=True) for one in maps]  # a map of nothing but zeros stays one
    return task.answer(np.mean([one / np.where(most > 0, most, 1) for one, most in zip(maps, largest, strict=True)], 0))

"""Relevance propagation: the score of a class, handed back layer by layer until it lies on pixels.

Both families walk the recorded calls of the network backwards, once. In LRP the signal is relevance: every unit shares
out what it received, nothing is made up on the way. In DeepLIFT it is a multiplier: by how much the score changed for
each unit of difference between the picture and a baseline.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

from .. import checks, submodels
from ..submodels import taps
from ..submodels.graph import ids, trace
from ..submodels.memory import cached
from . import rules as rulebook
from . import shared
from .rules import FIRST, RULES, Options
from .targets import only

LOUD = 0.02  # contributions whose sum misses the change of the score by more are warned of
_NODES = 32  # of the integral over the outputs in deep_lift: exact to 1e-5 also for the probability of a softmax


def lrp(
    model, images, target=None, *, rule="composite", first="auto", epsilon=1e-6, gamma=0.25, alpha=2.0, beta=1.0,
    limits=None, layers=None, batch=16,
):  # fmt: skip
    """Layer-wise relevance propagation: how the score of a class is made up of contributions of the pixels.

    Starts with R = the class's logit and hands it from each layer to the one before (Bach et al. 2015). Each unit k
    shares what it received among its inputs j in proportion to what they contributed, with z_k = Σ_j x_j w_jk + b_k:

    - `"epsilon"`: R_j = Σ_k x_j w_jk / (z_k + ε·sign z_k) · R_k; with `epsilon=0` it is LRP-0.
    - `"zplus"`: R_j = Σ_k (x_j w_jk)⁺ / (Σ_j (x_j w_jk)⁺ + b_k⁺) · R_k.
    - `"alpha_beta"`: α times that, minus β times the same with negative parts; α − β = 1, so that a unit hands on what
      it received (without any negative contribution, α times as much).
    - `"gamma"`: contributions x_j w_jk + γ (x_j w_jk)⁺ (Montavon et al. 2019), γ (x_j w_jk)⁻ for units with z_k < 0.
    - `"composite"`: epsilon for dense layers, gamma for convolutions, flat for the first. It keeps negative evidence,
      which z⁺ does not, and does not blow up in deep networks, which epsilon does.

    What has no kernel has no choice: sums, skip connections and average pooling share in proportion (with ε), max-
    pooling gives all to the maximum, activations and preprocessing pass relevance on. BatchNorm is folded into the
    convolutions, or is a layer with a kernel. Biases keep their share: sums are conserved exactly only without them.

    Args:
        model, images, target: as for all methods (`shared.prepare`). A final softmax or sigmoid is left out: an
            int means that logit. With a function s of the outputs, R starts as ∂s/∂logit · logit for each logit.
        rule: one of the above, or a function of your own, `rule(layer, x, relevance, options)` → relevance of `x`, for
            every layer with a kernel, as those in `attribution.rules`: `layer(x)` is z, `layer.apply(x, kernel)` that
            with another kernel and no bias, `options` has the numbers below.
        first: rule of the first layer with a kernel, whose inputs are pixels: `"flat"` (everything that a unit sees
            gets the same share), `"w2"` (shares w²), `"box"` (shares x w − l w⁺ − h w⁻, with pixels between l and h),
            a function, None (no other than `rule`), or `"auto"`: flat in the composite, else None.
        epsilon, gamma, alpha, beta: of the rules, at least 0.
        limits: `(lowest, highest)` pixel, in the units of `images`, a number each or one for each channel, for
            `first="box"`. None: 0 and 255; for a picture with pixels outside, the smallest and largest of its own.
        layers: names of layers whose relevance is wanted too, or `"all"`.
        batch: pictures computed at a time.

    Returns:
        float32 of the shape of `images`, signed, in the units of the logit. With `layers`, `(that, {layer: relevance
        of its output})`; a BatchNorm that was folded has that of the convolution that took it.

    Raises:
        ValueError: an unknown rule, impossible options; or, with its name, a layer for which there is no rule: an
            activation that does not keep the sign (sigmoid, swish), a softmax inside, a product of two tensors
            (squeeze-and-excitation), LayerNormalization, attention, Python code.
    """
    if first == "auto":
        first = "flat" if rule == "composite" else None
    if not callable(rule):
        checks.choose(rule, RULES, "rule", "Or give a function (layer, x, relevance, options).")
    if first is not None and not callable(first):
        checks.choose(first, FIRST, "rule for the first layer", "Or None, for the same as everywhere.")
    given = {"epsilon": epsilon, "gamma": gamma, "alpha": alpha, "beta": beta}
    numbers = [checks.real(value, name, least=0) for name, value in given.items()]
    if abs(alpha - beta - 1) > 1e-6:
        raise ValueError(f"{alpha=}, {beta=}: alpha − beta must be 1, or relevance would come from nowhere.")
    return _propagate(model, images, target, rule, first, numbers, limits, layers, batch)


def deep_taylor(model, images, target=None, *, first="box", limits=None, layers=None, batch=16):
    """Deep Taylor decomposition: the evidence for a class, never negative (Montavon et al. 2017, arXiv:1512.02479).

    It is `lrp` with the z⁺ rule everywhere and the rule for bounded pixels in the first layer, started from the logit
    where that is positive. A picture whose score is not positive has no evidence to share: zeros, and a warning.

    Args, returns and raises: as for `lrp`; `first` is `"box"`, `"w2"` or `"flat"`.
    """
    if first not in FIRST:
        raise ValueError(f"first={first!r}: deep Taylor decomposition knows {', '.join(map(repr, FIRST))}.")
    return _propagate(model, images, target, "zplus", first, (0.0, 0.0, 1.0, 0.0), limits, layers, batch, True)


def deep_lift(model, images, target=None, *, baseline=0.0, layers=None, batch=16):
    """DeepLIFT, rescale rule: which pixels make the difference between the score of a picture and of a baseline.

    Shrikumar et al., "Learning Important Features Through Propagating Activation Differences" (2017). Each layer gets
    multipliers m, and pixel i contributes m_i (x_i − x̄_i), x̄ the baseline. Through what is linear, m passes as a
    gradient does; through an activation y = f(z) it is multiplied by the slope between the two points,
    (y − ȳ) / (z − z̄), where a gradient would take the slope at one of them and be blind when that is flat. Max-pooling
    hands a rise to the maximum in the picture and a fall to the maximum in the baseline. A product of two tensors
    shares as Shapley values do, half of it for each order in which the two may change.

    The contributions sum to score(images) − score(baseline). A target function of the outputs (and a final softmax)
    keeps that: there the multipliers are the gradient averaged along the straight line between the two outputs. Where
    such a function has bends (a maximum) the sum can miss; by more than 2 % that is warned of.

    Args:
        model, images, target, batch: as for `lrp`, but explained is what the model puts out.
        baseline: a number (each pixel; 0 is black), a colour, one picture, or one for each.
        layers: names of layers whose contributions, m · (difference of the output), are wanted too, or `"all"`.

    Returns:
        float32 of the shape of `images`, signed, in the units of the score; with `layers`, `(that, {layer: array})`.

    Raises:
        ValueError: a baseline of another shape; or, with its name, a layer that is neither linear nor works on each
            value alone: a softmax inside, LayerNormalization, attention, Python code.
    """
    task = shared.prepare(model, images, target)
    reference = shared.baseline(task, baseline)
    graph, steps = _opened(task, rulebook.refuse_without_multiplier)
    wanted, score = _wanted(graph, layers), _score(task)

    def backward(pictures, targets, baselines):
        values = _forward(graph, tf.concat([pictures, baselines], 0))
        ends = [tf.split(values[key], 2) for key in ids(graph.outputs)]
        start = _mean_gradients(score, targets, ends)
        scores = tf.stack([score(outputs, targets) for outputs in zip(*ends, strict=True)], 1)
        multipliers = _walk(graph, steps, values, start, rulebook.multiply_back)

        def contributions(tensor):
            here, there = tf.split(values[id(tensor)], 2)
            return multipliers.get(id(tensor), tf.zeros_like(here)) * (here - there)

        return [*map(contributions, wanted.values())], scores

    found, scores = task.run(shared.compiled(task, ("deep_lift", tuple(wanted)), backward), reference, batch=batch)
    _tell_gap(found[0], scores)
    return _answer(task, layers, wanted, found)


def _tell_gap(pixels, scores):
    """Warn where contributions miss the difference of the scores `(B, 2)`, of picture and baseline, by too much."""
    sums, changes = pixels.sum((1, 2, 3), dtype="float64"), scores[:, 0] - scores[:, 1]
    rounding = 1e-3 * np.abs(pixels).sum((1, 2, 3)), 1e-4 * np.abs(scores).max(1)
    if (np.abs(sums - changes) > LOUD * np.max([np.abs(changes), *rounding], 0)).any():
        warnings.warn(
            f"The contributions add up to {sums}, and the scores change by {changes}: between the two outputs the "
            "target function has a bend (a maximum, a threshold) that the average of its gradients does not hit.",
            stacklevel=3,
        )


def _propagate(model, images, target, rule, first, numbers, limits, layers, batch, positive=False):
    """Relevance from the logits to the pixels; `positive`: of positive scores only."""
    if limits is not None and first != "box":
        raise ValueError(f"limits={limits!r} are for first='box', and first is {first!r}: leave them out.")
    task = shared.prepare(model, images, target, resolve=False)
    graph, steps = _opened(task, rulebook.refuse_without_rule)
    wanted, before = _wanted(graph, layers), [step.call for step in steps if step.on_pixels and step.kind != "linear"]
    # A class is its logit, whatever follows it; a reader's function is one of what the model puts out.
    logit = task.score
    score = (lambda outputs, targets: logit(outputs[0], targets)) if task.key is None else _score(task)
    own = tuple(one for one in (rule, first) if callable(one))
    name = ("relevance", *(None if one in own else one for one in (rule, first)), positive, tuple(wanted))
    rule, first = RULES.get(rule, rule), FIRST.get(first, first)

    def backward(numbers, pictures, targets, *limits):
        values, edges = _forward(graph, pictures), [_forward(graph, limit, before) for limit in limits]
        outputs, options = [values[key] for key in ids(graph.outputs)], Options(*tf.unstack(numbers))
        slopes = rulebook.pull(lambda *outputs: score(outputs, targets), outputs, None)
        start = [slope * output for slope, output in zip(slopes, outputs, strict=True)]
        if positive:
            start = list(map(tf.nn.relu, start))

        def redistribute(step, inputs, _output, relevance):
            bounds = [edge[id(step.call.inputs[0])] for edge in edges] if step.on_pixels else []
            return rulebook.redistribute(step, inputs, relevance, rule, first, options._replace(bounds=bounds))

        relevance = _walk(graph, steps, values, start, redistribute)
        silent = tf.reduce_all([tf.reduce_all(tf.reshape(part, (tf.shape(part)[0], -1)) == 0, 1) for part in start], 0)
        return [relevance.get(id(x), tf.zeros_like(values[id(x)])) for x in wanted.values()], silent

    function = shared.compiled(task._replace(key=(task.key, *own) if own else task.key), name, backward)
    numbers, ends = tf.constant(numbers), _limits(task.images, limits) if first is FIRST["box"] else []
    found, silent = task.run(lambda *rows: function(numbers, *rows), *ends, batch=batch)
    if positive and silent.any():
        which = "" if task.single else f" of pictures {np.flatnonzero(silent).tolist()}"
        warnings.warn(f"The score{which} is not positive: there is no evidence to decompose.", stacklevel=3)
    return _answer(task, layers, wanted, found)


def _answer(task, layers, wanted, found):
    pixels, *inside = map(task.answer, found)
    return pixels if layers is None else (pixels, dict(zip(list(wanted)[1:], inside, strict=True)))


def _opened(task, refuse):
    """The graph of the network without its final softmax, and its calls as steps; `refuse` looks at each."""

    def build():
        graph = trace(submodels.logits(task.model))
        return graph, rulebook.plan(graph)

    graph, steps = cached(task.model, "relevance", build)
    for step in steps:
        refuse(step)
    return graph, steps


def _wanted(graph, layers):
    """What is asked for, by name: the picture, as None, and then the outputs of layers."""
    if layers == "all":
        layers = [call.name for call in graph.calls if isinstance(call.operation, keras.layers.Layer)]
    given = layers if isinstance(layers, (list, tuple)) else [] if layers is None else [layers]
    return {None: only(graph.inputs)} | {graph.named(layer): graph.tensor(layer) for layer in given}


def _score(task):
    """`(flat list of logits, targets) → scores`, the softmax or sigmoid that `logits` took away put back."""
    graph, score, functions = trace(task.model), task.score, {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}
    heads = [functions.get(ending.function, tf.identity) for ending in taps.endings(task.model)]

    def of(outputs, targets):
        finished = [head(output) for head, output in zip(heads, outputs, strict=True)]
        return score(keras.tree.pack_sequence_as(graph.outputs, finished), targets)

    return of


def _forward(graph, pictures, calls=None):
    """`graph.values` in float32: `{id of the symbolic tensor: tensor}`, the pictures included."""
    values = graph.values({id(only(graph.inputs)): pictures}, calls)
    return {key: tf.cast(value, "float32") for key, value in values.items()}


def _walk(graph, steps, values, start, back):
    """`{id of the symbolic tensor: signal}`: those at the outputs, `start`, carried back to every tensor before them.

    `values` are those of `_forward`, and `back(step, inputs, output, signal at the output)` lists the signals for each
    input. Where paths meet they add up, and what no output depends on has none.
    """
    signals = {}

    def arrive(tensors, arriving):
        for key, signal in zip(ids(tensors), arriving, strict=True):
            signals[key] = signals[key] + signal if key in signals else signal

    arrive(graph.outputs, start)
    for step in reversed(steps):
        output = id(step.call.outputs)
        if output in signals:
            inputs = [values[id(x)] for x in step.call.inputs]
            arrive(step.call.inputs, back(step, inputs, values[output], signals[output]))
    return signals


def _mean_gradients(score, targets, ends):
    """Gradients of a score of the outputs by them, averaged along the straight line between two sets of outputs."""
    nodes, weights = (part.astype("float32") / 2 for part in np.polynomial.legendre.leggauss(_NODES))

    def along(here, there):  # all points of the line in one batch, `(nodes · B, …)`
        positions = (nodes + 0.5).reshape(-1, *[1] * here.shape.rank)
        return tf.reshape(there + positions * (here - there), tf.concat([[-1], tf.shape(here)[1:]], 0))

    points = [along(*pair) for pair in ends]
    slopes = rulebook.pull(lambda *outputs: score(outputs, tf.tile(targets, [_NODES])), points, None)
    return [
        tf.tensordot(weights, tf.reshape(slope, tf.concat([[_NODES], tf.shape(here)], 0)), 1)
        for slope, (here, _) in zip(slopes, ends, strict=True)
    ]


def _limits(images, limits):
    """The smallest and largest possible value of each pixel, two arrays of the shape of `images`."""
    lowest, highest = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    usual = (lowest >= 0) & (highest <= 255)
    ends = (np.where(usual, 0, lowest), np.where(usual, 255, highest)) if limits is None else limits
    try:
        low, high = (np.broadcast_to(np.asarray(end, "float32"), images.shape) for end in ends)
    except (TypeError, ValueError) as error:
        channels = f"a number each or one for each of the {images.shape[-1]} channels"
        raise ValueError(f"limits={limits!r}: give (lowest, highest), {channels}.") from error
    if limits is not None and (not (low < high).all() or (images < low).any() or (images > high).any()):
        raise ValueError(
            f"limits={limits!r}, and the pixels go from {lowest.min():g} to {highest.max():g}: they have to lie "
            "between the lowest and the highest possible one."
        )
    return [low, high]

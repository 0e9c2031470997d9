"""Gradients integrated along a path between two pictures: straight, out of a blur, and guided by the gradient.

A *path* leads from a picture that tells nothing to the one that is explained. Gradients are taken at some of its points
(nodes), each is multiplied by the part of the path that it stands for, and the sum over all parts is how much each
pixel adds to the score on that way.
"""

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from .. import checks
from ..submodels import engine
from . import shared

START, ROUND = 32, 16  # nodes of the first look at a path, and of each later round
LOUD = 0.05  # a gap above this is warned of


def integrated_gradients(
    model, images, target=None, *, baseline=0.0, steps="auto", method="midpoint", max_steps=256, tolerance=0.01,
    return_gap=False, batch=16, progress=True,
):  # fmt: skip
    """What each pixel adds to the score on the straight way from a baseline to the picture.

    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (2017):
    (x − b) · ∫₀¹ ∂f/∂x (b + t (x − b)) dt. The attributions of all pixels sum up to f(x) − f(b); how well a sum of
    finitely many gradients comes near to that is the gap, and nothing is rescaled to hide it.

    Args:
        model, images, target: as `saliency`.
        baseline: where the way begins, a picture that tells nothing: a number, an array of one colour, one picture, or
            one for each; or a list of such, over which the attribution is averaged.
        steps: `"auto"` places gradients where the score bends, until the gap is at most `tolerance`; an int takes so
            many at places that do not depend on the picture.
        method: those places, `"midpoint"` or `"gauss_legendre"`.
        max_steps: the most gradients that `"auto"` uses, and keeps in memory, for each picture and baseline.
        tolerance: share of the score difference.
        return_gap: also return the gap.
        batch, progress: pictures computed at a time; show a bar.

    Returns:
        float32 of the shape of `images`, in units of the score. With `return_gap=True`, `(attribution, gap)`, with
        gap = |Σ attribution − (f(x) − f(b))| / |f(x) − f(b)| for each picture (f(b): mean over baselines). A gap above
        5 % is warned of in any case.

    Raises:
        ValueError: as `saliency`; a baseline of another shape, no steps, an unknown method.
    """
    task = shared.prepare(model, images, target)
    given = baseline if isinstance(baseline, (list, tuple)) else [baseline]
    if not given:
        raise ValueError("baseline is an empty list: give at least one baseline.")
    starts = [shared.baseline(task, one) for one in given]
    lines = [straight(*row) for start in starts for row in zip(start, task.images, task.targets, strict=True)]
    found, changes = integrate(task, lines, steps, method, max_steps, tolerance, batch, progress)
    found = found.reshape(len(starts), *task.images.shape).mean(axis=0)
    return _answer(task, found, changes.reshape(len(starts), -1).mean(axis=0), return_gap)


def _answer(task, found, changes, return_gap):
    """The answer to the reader; a gap |Σ attribution − change| / |change| that is large is warned of."""
    found = found.astype("float32")
    missing = np.abs(found.sum(axis=(1, 2, 3), dtype="float64") - changes)
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.where(missing == 0, 0.0, missing / np.abs(changes))  # 0 for a picture that is its own baseline
    if (gaps > LOUD).any():
        which = ", ".join(f"{index}: {value:.0%}" for index, value in enumerate(gaps) if value > LOUD)
        warnings.warn(
            f"The attribution does not add up to the change of the score (picture: gap, {which}). Take more steps, or "
            "raise max_steps; if the score hardly changes along the path, choose another baseline.",
            stacklevel=3,
        )
    return (task.answer(found), task.answer(gaps)) if return_gap else task.answer(found)


def blur_integrated_gradients(
    model, images, target=None, *, max_sigma=50.0, steps="auto", max_steps=256, tolerance=0.01, return_gap=False,
    batch=16, progress=True,
):  # fmt: skip
    """What each pixel adds to the score while a blurred picture becomes sharp.

    Xu, Venugopalan and Sundararajan, "Attribution in Scale and Space" (2020): the gradient integrated along the
    pictures blurred by a Gaussian, from `max_sigma` down to 0. There is no baseline to choose. Blurring is diffusion
    with closed borders, so that no colour leaks out of the picture.

    Args:
        model, images, target, steps, max_steps, tolerance, return_gap, batch, progress: as `integrated_gradients`; an
            int takes the middles of so many parts of the way, on which √σ falls steadily.
        max_sigma: standard deviation of the strongest blur, in pixels.

    Returns, raises: as `integrated_gradients`; the sum is f(x) − f(most blurred picture). A blur that is not above 0 is
        refused.
    """
    max_sigma = checks.real(max_sigma, "max_sigma", above=0)
    task = shared.prepare(model, images, target)
    paths = [_sharpening(*row, max_sigma) for row in zip(task.images, task.targets, strict=True)]
    return _answer(task, *integrate(task, paths, steps, "midpoint", max_steps, tolerance, batch, progress), return_gap)


def _sharpening(picture, target, max_sigma):
    """The path from the most blurred picture to the sharp one, σ = max_sigma · (1 − share)²."""
    from scipy import fft

    down, across = (np.pi * np.arange(length) / length for length in picture.shape[:2])
    frequencies = (down[:, None] ** 2 + across**2).astype("float32")
    # Cosines, in which blurring is a product, have closed borders. Channels first is several times faster.
    waves = fft.dctn(np.ascontiguousarray(np.moveaxis(picture, -1, 0)), axes=(1, 2))

    def point(share):
        sigma = max_sigma * (1 - share) ** 2
        if sigma == 0:
            return picture
        blurred = fft.idctn(waves * np.exp(np.float32(-(sigma**2) / 2) * frequencies), axes=(1, 2))
        return np.ascontiguousarray(np.moveaxis(blurred, 0, -1))

    edge = functools.lru_cache(maxsize=1)(point)  # where one part ends, the next begins

    def part(before, after):
        start = edge(before)
        return edge(after) - start

    return Path(point, part, target)


def guided_integrated_gradients(
    model, images, target=None, *, baseline=0.0, steps=200, fraction=0.25, max_distance=0.02, return_gap=False,
    batch=16, progress=True,
):  # fmt: skip
    """What each pixel adds to the score on a way that first changes the pixels that matter least.

    Kapishnikov et al., "Guided Integrated Gradients" (2021): at each step those pixels move on whose gradients are
    smallest, so that the way avoids regions where the score is steep for no reason that the picture would give.

    Args:
        model, images, target, return_gap, batch, progress: as `integrated_gradients`.
        baseline: a number, a colour, one picture, or one for each.
        steps: gradients for each picture. Each is taken where the one before has led to.
        fraction: share of the pixels that move together, above 0 and at most 1.
        max_distance: how far from the straight way, as a share of its length, a pixel may be: 0 is the straight way
            itself, 1 leaves every pixel free.

    Returns, raises: as `integrated_gradients`; a fraction or a distance out of range is refused.
    """
    task = shared.prepare(model, images, target)
    steps = checks.whole(steps, "steps")
    fraction = checks.real(fraction, "fraction", above=0, most=1)
    max_distance = checks.real(max_distance, "max_distance", least=0, most=1)
    starts = shared.baseline(task, baseline)
    return _answer(task, *_guided(task, starts, steps, fraction, max_distance, batch, progress), return_gap)


def _guided(task, starts, steps, fraction, max_distance, batch, progress):
    """`(attributions, changes)` as `fixed`: algorithm 1 of Kapishnikov et al., all pictures in step with each other."""
    function, ends = shared.gradients(task), task.images
    difference = (ends - starts).reshape(len(ends), -1).astype("float64")
    lengths = np.abs(difference)
    way = np.zeros_like(difference)  # how far each pixel has come, 0 … 1
    totals, first = np.zeros_like(difference), None
    for step in tqdm(range(steps), desc="steps", disable=not progress, leave=False):
        here = (starts.reshape(way.shape) + way * difference).astype("float32").reshape(ends.shape)
        scores, gradients = engine.run(function, here, task.targets, batch=batch)
        first = scores if first is None else first
        for index, gradient in enumerate(gradients.reshape(way.shape)):
            before = way[index].copy()
            _advance(way[index], np.abs(gradient), lengths[index], (step + 1) / steps, fraction, max_distance)
            totals[index] += gradient * difference[index] * (way[index] - before)
    last = task.run(shared.scores(task), batch=batch)
    return totals.reshape(ends.shape), last.astype("float64") - first


def _advance(way, slopes, lengths, share, fraction, max_distance):
    """Move the pixels of one picture (in place) until `share` of the whole distance is behind them.

    Those with the smallest slopes go first, a `fraction` of all at a time, none further than `max_distance` ahead of
    the straight path; none may stay further than that behind it.
    """
    ahead = min(share + max_distance, 1.0)
    np.maximum(way, max(share - max_distance, 0.0), out=way)
    left = np.sum((share - way) * lengths)  # the distance still to go in this step
    free = np.flatnonzero((way < ahead) & (lengths > 0))
    size = max(1, int(fraction * way.size))
    order = slopes[free]
    while left > 1e-9 * max(lengths.sum(), 1e-30) and len(free):
        limit = np.partition(order, size - 1)[size - 1] if size < len(order) else np.inf
        chosen = order <= limit
        group = free[chosen]
        room = np.sum((ahead - way[group]) * lengths[group])
        way[group] += min(1.0, left / room) * (ahead - way[group])
        left -= room
        free, order = free[~chosen], order[~chosen]


class Path(NamedTuple):
    """A way through the space of pictures, from where nothing is known to the picture that is explained."""

    point: Callable  # share of the way, 0 … 1 → picture (H, W, C) float32
    part: Callable  # two shares → what lies between the pictures there, (H, W, C) float32
    target: int  # the class whose score is followed


def straight(start, end, target):
    """The path of integrated gradients: from one picture to the other, all pixels at the same rate."""
    difference = end - start

    def part(before, after):
        return np.float32(after - before) * difference

    return Path(lambda share: start + np.float32(share) * difference, part, target)


def fixed(task, paths, steps, method, batch, progress):
    """Sum over the nodes of (gradient there) × (the part of the path that it stands for), for each path.

    The nodes do not depend on the path: the middles of equal parts, or those of the Gauss-Legendre rule, which is exact
    for polynomials of degree 2 · steps − 1.

    Returns `(attributions, changes)`: `(N, H, W, C)` float64, and `(N,)` how much the score changes along the path.
    """
    if checks.choose(method, ("midpoint", "gauss_legendre"), "method") == "midpoint":
        edges = np.linspace(0, 1, steps + 1)
        shares = (edges[1:] + edges[:-1]) / 2
    else:
        places, weights = np.polynomial.legendre.leggauss(steps)
        shares, edges = (places + 1) / 2, np.r_[0, np.cumsum(weights / 2)]
    pictures = (path.point(share) for path in paths for share in shares)
    targets = np.repeat([path.target for path in paths], steps)
    rows, options = engine.Counted(pictures, len(targets)), {"batch": batch, "progress": progress, "label": "gradients"}
    totals, done = np.zeros((len(paths), *task.images.shape[1:])), 0
    for _, gradients in engine.stream(shared.gradients(task), rows, targets, **options):
        for gradient in gradients:
            path, node = divmod(done, steps)  # which stands for the part of the path from one edge to the next
            totals[path] += gradient * paths[path].part(*edges[node : node + 2])
            done += 1
    ends = [path.point(share) for path in paths for share in (0, 1)]
    scores = engine.run(shared.scores(task), ends, targets[::steps].repeat(2), batch=batch)
    return totals, scores[1::2].astype("float64") - scores[::2]


class Node(NamedTuple):
    """A point of a path, and what is known there."""

    share: float
    score: float
    gradient: np.ndarray


def adaptive(task, path, max_steps, tolerance, batch, bar):
    """The same sum with nodes placed where they are needed: the trapezoidal rule, refined piece by piece.

    How wrong a piece of the path from a to b is, is known exactly: its gradients must add up to f(b) − f(a), and a pass
    that computes a gradient computes the score too. So each round puts new nodes into the pieces that are wrong most.
    It ends when the errors of all pieces sum up to at most `tolerance` of the whole change of the score, both as they
    are and as a root of the sum of squares, which chance cannot bring down by letting two wrongs cancel. Returns
    `(attribution, change)`: `(H, W, C)` float64, and f(end) − f(start).
    """
    function, line, errors = shared.gradients(task), [], {}  # (share, share) of a piece → how much its sum is too large

    def part(a, b):
        return (a.gradient + b.gradient) * path.part(a.share, b.share) / 2

    shares = np.linspace(0, 1, min(START, max_steps))
    while len(shares):
        pictures, targets = [path.point(share) for share in shares], np.full(len(shares), path.target, "int32")
        scores, gradients = engine.run(function, pictures, targets, batch=batch)
        bar.update(len(shares))
        line = sorted([*line, *map(Node, shares, scores.astype("float64"), gradients)], key=lambda node: node.share)
        pieces, change = list(itertools.pairwise(line)), line[-1].score - line[0].score
        for a, b in pieces:
            if (a.share, b.share) not in errors:
                errors[a.share, b.share] = part(a, b).sum(dtype="float64") - (b.score - a.score)
        wrong = np.array([errors[a.share, b.share] for a, b in pieces])
        if max(abs(wrong.sum()), np.sqrt(np.sum(wrong**2))) <= tolerance * abs(change):
            break
        shares = _refinements([node.share for node in line], np.abs(wrong), min(ROUND, max_steps - len(line)))
    total = np.zeros(task.images.shape[1:])
    for a, b in pieces:
        total += part(a, b)
    return total, change


def _refinements(shares, errors, count):
    """Where new nodes go: one after the other into the piece whose error is the largest, given those it has by then."""
    extra = np.zeros(len(errors), int)
    for _ in range(count):
        rest = errors / (extra + 1) ** 2  # what is left of an error if the slope changes steadily over the piece
        if rest.max() == 0:
            break
        extra[rest.argmax()] += 1
    return np.concatenate([np.linspace(shares[i], shares[i + 1], extra[i] + 2)[1:-1] for i in range(len(extra))])


def integrate(task, paths, steps, method, max_steps, tolerance, batch, progress):
    """Attributions `(N, H, W, C)` float64 of several paths, and the changes `(N,)` of the score along them."""
    if not (isinstance(steps, str) and steps == "auto"):
        return fixed(task, paths, checks.whole(steps, "steps", how=", or 'auto'"), method, batch, progress)
    checks.whole(max_steps, "max_steps", 2)
    checks.real(tolerance, "tolerance", above=0)
    with tqdm(desc="gradients", unit="", disable=not progress, leave=False) as bar:
        found = [adaptive(task, path, max_steps, tolerance, batch, bar) for path in paths]
    return tuple(map(np.stack, zip(*found, strict=True)))

"""Which pixels matter, asked of the gradient: how the score changes as a pixel changes, here or along a whole path.

All but `xrai` and `fullgrad`, which are maps, return a signed attribution of the shape of the pictures.
"""

import functools
import inspect
import itertools

import numpy as np
import scipy.fft
import scipy.special
from tqdm.auto import tqdm

from . import _full, _paths, _regions, attribution, engine, submodels
from ._full import FullGradients, full_gradients

__all__ = ["FullGradients", "blur_integrated_gradients", "deconv_backprop", "full_gradients", "fullgrad"]
__all__ += ["gradient_x_input", "guided_backprop", "guided_integrated_gradients", "integrated_gradients", "saliency"]
__all__ += ["smoothgrad", "vargrad", "xrai"]


# One pass


def saliency(model, images, target=None, *, batch=16, progress=False):
    """The gradient: by how much the score rises for each unit that a pixel rises, to first order.

    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks" (2014). ∂f/∂x, signed; their picture shows the
    largest magnitude over the channels.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
        images: `(B, H, W, C)`, or one picture `(H, W, C)`, raw.
        target: None (each picture's most probable class), an int, one int for each picture, or a function
            `outputs → (B,)`.
        batch: pictures computed at a time.
        progress: show a bar.

    Returns:
        float32 of the shape of `images`: score per unit of the pixel.

    Raises:
        ValueError: pictures or a target that do not fit the model.
    """
    task = attribution.prepare(model, images, target, resolve=False)
    return task.answer(_gradient(task, batch, progress))


def gradient_x_input(model, images, target=None, *, batch=16, progress=False):
    """Gradient × pixel: what each pixel would contribute if the network were linear.

    Shrikumar et al., "Not Just a Black Box" (2016). x · ∂f/∂x. The sum is f(x) for a piecewise linear network without
    biases; `full_gradients` gives what is missing for any other.

    Args, raises: as `saliency`.

    Returns:
        float32 of the shape of `images`, in units of the score.
    """
    task = attribution.prepare(model, images, target, resolve=False)
    return task.answer(task.images * _gradient(task, batch, progress))


def guided_backprop(model, images, target=None, *, batch=16, progress=False):
    """The gradient that passes a ReLU only where it is positive and the ReLU let something through.

    Springenberg et al., "Striving for Simplicity" (2015). Sharp, but much of it is the picture's edges, whatever the
    class (Adebayo et al., "Sanity Checks for Saliency Maps", 2018). The rule is that of `submodels.relu_rule`.

    Args, returns: as `saliency`.

    Raises:
        ValueError: as `saliency`; a network without any ReLU, which the rule would not change.
    """
    return _ruled(model, images, target, "guided", batch, progress)


def deconv_backprop(model, images, target=None, *, batch=16, progress=False):
    """The gradient that passes a ReLU wherever it is positive, whatever the ReLU did on the way up.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), for a score instead of a unit; for
    a unit see `deconv.project`. The rule is that of `submodels.relu_rule`.

    Args, returns, raises: as `guided_backprop`.
    """
    return _ruled(model, images, target, "deconv", batch, progress)


def _ruled(model, images, target, rule, batch, progress):
    task = attribution.prepare(model, images, target, resolve=False)
    return task.answer(_gradient(task, batch, progress, rule))


def _gradient(task, batch, progress, rule=None):
    function = _slopes(task, rule)
    return engine.run(function, task.images, task.targets, batch=batch, progress=progress, label="gradients")[1]


def _slopes(task, rule=None):
    """The pass `attribution.gradients`, of the network with a rule for its ReLUs if there is one."""
    if rule:
        ruled = engine.cached(task.model, ("relu_rule", rule), lambda: submodels.relu_rule(task.model, rule))
        task = task._replace(model=ruled)
    return attribution.gradients(task)


# Many noisy copies


def smoothgrad(
    model,
    images,
    target=None,
    *,
    base=saliency,
    samples=50,
    noise=0.15,
    squared=False,
    seed=0,
    batch=16,
    progress=True,
    **options,
):
    """The mean attribution of many noisy copies of the picture: what flickers from pixel to pixel averages out.

    Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017): mean over z of base(x + z), z normal.

    Args:
        model, images, target: as `saliency`. With `target=None` all copies are explained for the class of the clean
            picture.
        base: the method that is averaged, `base(model, images, target, **options)`; of this room or any other.
        samples: how many copies of each picture. Each picture gets the same draws.
        noise: standard deviation, as a share of the range (largest minus smallest pixel) of each picture.
        squared: average the squares instead (Hooker et al., "A Benchmark for Interpretability Methods", 2019): large
            where the attribution is large in many copies, whatever its sign.
        seed: of the noise.
        batch: pictures computed at a time.
        progress: show a bar.
        **options: for `base`.

    Returns:
        float32 of the shape that `base` gives. With `noise=0` what `base` itself gives (or its square).

    Raises:
        ValueError: as `base`; no samples, or negative noise.
    """
    powers = [2 if squared else 1]
    task, found = _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers)
    return task.answer(found[0])


def vargrad(
    model, images, target=None, *, base=saliency, samples=50, noise=0.15, seed=0, batch=16, progress=True, **options
):
    """How much the attribution of each pixel varies over many noisy copies of the picture.

    Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values" (2018):
    the variance over z of base(x + z), that is the mean of squares minus the square of the mean.

    Args, raises: as `smoothgrad`.

    Returns:
        float32 of the shape that `base` gives, never negative.
    """
    powers = [1, 2]
    task, found = _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers)
    return task.answer(np.maximum(found[1] - found[0] ** 2, 0))


ONE_PASS = {saliency: None, guided_backprop: "guided", deconv_backprop: "deconv"}  # these are `_slopes` with that rule
CALL = 64  # noisy copies in one call of any other base method: few calls, since each checks anew what it is given

# A normal number is looked up by a random 16-bit one: five times as fast as computing it, which would be a tenth of
# the whole work. The steps are far below what noise can tell.
NORMAL = scipy.special.ndtri((np.arange(2**16) + 0.5) / 2**16).astype("float32")


def _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers):
    """The task, and for each power the mean over noisy copies of what `base` gives, to that power: (B, …) float64."""
    samples = _paths.check_count(samples, "samples")
    if not noise >= 0:
        raise ValueError(f"noise={noise!r}: give a share of the range of the pixels, 0 or more.")
    task = attribution.prepare(model, images, target)
    count, shape = len(task.images), task.images.shape[1:]
    scales, draws = noise * np.ptp(task.images, axis=(1, 2, 3)), np.random.default_rng(seed)

    def noisy():
        for index in itertools.cycle(range(count)):
            if index == 0:
                draw = NORMAL.take(draws.integers(2**16, size=shape, dtype="uint16"))
            copy = draw * scales[index]
            copy += task.images[index]
            yield copy

    copies = engine.Counted(itertools.islice(noisy(), samples * count), samples * count)
    targets, bar = np.tile(task.targets, samples), {"progress": progress, "label": "noisy copies"}
    if base in ONE_PASS and not options:
        passes = engine.stream(_slopes(task, ONE_PASS[base]), copies, targets, batch=batch, **bar)
        attributions = (slopes for _, slopes in passes)
    else:
        options = _accepted(base, batch=batch, progress=progress) | options
        attributions = _calls(base, model, copies, targets if task.key is None else target, options, **bar)

    sums, done = None, 0
    for part in attributions:
        if sums is None:
            sums = np.zeros((len(powers), count, *part.shape[1:]))
        for one in part:
            for mean, power in zip(sums, powers, strict=True):
                mean[done % count] += one if power == 1 else np.square(one, dtype="float64")
            done += 1
    return task, sums / samples


def _accepted(function, **options):
    """Those options that a function takes."""
    return {name: options[name] for name in options.keys() & inspect.signature(function).parameters.keys()}


def _calls(base, model, copies, targets, options, progress, label):
    """What `base` gives for one part of the noisy copies after the other."""
    rows = iter(copies)
    with tqdm(total=len(copies), desc=label, disable=not progress, leave=False) as bar:
        for first in range(0, len(copies), CALL):
            part = np.stack(list(itertools.islice(rows, CALL)))
            yield base(model, part, targets if callable(targets) else targets[first : first + CALL], **options)
            bar.update(len(part))


# Along a path


def integrated_gradients(
    model,
    images,
    target=None,
    *,
    baseline=0.0,
    steps="auto",
    method="midpoint",
    max_steps=512,
    tolerance=0.01,
    return_gap=False,
    batch=16,
    progress=True,
):
    """What each pixel adds to the score on the straight way from a baseline to the picture.

    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (2017):
    (x − b) · ∫₀¹ ∂f/∂x (b + t (x − b)) dt. The attributions of all pixels sum up to f(x) − f(b); how well a sum of
    finitely many gradients comes near to that is the gap, and nothing is rescaled to hide it.

    Args:
        model, images, target: as `saliency`.
        baseline: where the way begins, a picture that tells nothing: a number for all pixels, one picture, one for
            each; or a list of such, over which the attribution is averaged.
        steps: `"auto"` places gradients where the score bends, until the gap is at most `tolerance`; an int takes so
            many at places that do not depend on the picture.
        method: those places, `"midpoint"` or `"gauss_legendre"`.
        max_steps: the most gradients that `"auto"` uses for each picture and baseline.
        tolerance: share of the score difference.
        return_gap: also return the gap.
        batch: pictures computed at a time.
        progress: show a bar.

    Returns:
        float32 of the shape of `images`, in units of the score. With `return_gap=True`, `(attribution, gap)`, with
        gap = |Σ attribution − (f(x) − f(b))| / |f(x) − f(b)| for each picture (f(b): mean over baselines). A gap above
        5 % is warned of in any case.

    Raises:
        ValueError: as `saliency`; a baseline of another shape, no steps, an unknown method.
    """
    task = attribution.prepare(model, images, target)
    given = baseline if isinstance(baseline, (list, tuple)) else [baseline]
    if not given:
        raise ValueError("baseline is an empty list: give at least one baseline.")
    starts = [attribution.baseline(task, one) for one in given]
    rows = [row for start in starts for row in zip(start, task.images, task.targets, strict=True)]
    lines = [_paths.straight(*row) for row in rows]
    found, changes = _paths.integrate(task, lines, steps, method, max_steps, tolerance, batch, progress)
    found = found.reshape(len(starts), *task.images.shape).mean(axis=0)
    return _with_gap(task, found, changes.reshape(len(starts), -1).mean(axis=0), return_gap)


def _with_gap(task, found, changes, return_gap):
    found = found.astype("float32")
    gap = _paths.gap(found, changes)
    return (task.answer(found), task.answer(gap)) if return_gap else task.answer(found)


def blur_integrated_gradients(
    model,
    images,
    target=None,
    *,
    max_sigma=50.0,
    steps="auto",
    max_steps=512,
    tolerance=0.01,
    return_gap=False,
    batch=16,
    progress=True,
):
    """What each pixel adds to the score while a blurred picture becomes sharp.

    Xu, Venugopalan and Sundararajan, "Attribution in Scale and Space" (2020): the gradient integrated along the
    pictures blurred by a Gaussian, from `max_sigma` down to 0. There is no baseline to choose. Blurring is diffusion
    with closed borders, so that no colour leaks out of the picture.

    Args:
        model, images, target, steps, max_steps, tolerance, return_gap, batch, progress: as `integrated_gradients`; an
            int takes the middles of so many parts of the way, on which √σ falls steadily.
        max_sigma: standard deviation of the strongest blur, in pixels.

    Returns:
        As `integrated_gradients`; the sum is f(x) − f(most blurred picture).

    Raises:
        ValueError: as `saliency`; no steps, a blur that is not above 0.
    """
    if not max_sigma > 0:
        raise ValueError(f"max_sigma={max_sigma!r}: give the standard deviation of the strongest blur, above 0 pixels.")
    task = attribution.prepare(model, images, target)
    paths = [_sharpening(*row, max_sigma) for row in zip(task.images, task.targets, strict=True)]
    found, changes = _paths.integrate(task, paths, steps, "midpoint", max_steps, tolerance, batch, progress)
    return _with_gap(task, found, changes, return_gap)


def _sharpening(picture, target, max_sigma):
    """The path from the most blurred picture to the sharp one, σ = max_sigma · (1 − share)²."""
    height, width, _ = picture.shape
    down, across = np.pi * np.arange(height) / height, np.pi * np.arange(width) / width
    frequencies = (down[:, None] ** 2 + across**2).astype("float32")
    # Cosines, in which blurring is a product, have closed borders. Channels first is several times faster.
    waves = scipy.fft.dctn(np.ascontiguousarray(np.moveaxis(picture, -1, 0)), axes=(1, 2))

    def point(share):
        sigma = max_sigma * (1 - share) ** 2
        if sigma == 0:
            return picture
        blurred = scipy.fft.idctn(waves * np.exp(np.float32(-(sigma**2) / 2) * frequencies), axes=(1, 2))
        return np.ascontiguousarray(np.moveaxis(blurred, 0, -1))

    edge = functools.lru_cache(maxsize=1)(point)  # where one part ends, the next begins

    def part(before, after):
        start = edge(before)
        return edge(after) - start

    return _paths.Path(point, part, target)


def guided_integrated_gradients(
    model,
    images,
    target=None,
    *,
    baseline=0.0,
    steps=200,
    fraction=0.25,
    max_distance=0.02,
    return_gap=False,
    batch=16,
    progress=True,
):
    """What each pixel adds to the score on a way that first changes the pixels that matter least.

    Kapishnikov et al., "Guided Integrated Gradients" (2021): at each step those pixels move on whose gradients are
    smallest, so that the way avoids regions where the score is steep for no reason that the picture would give.

    Args:
        model, images, target, return_gap, batch, progress: as `integrated_gradients`.
        baseline: a number, one picture, or one for each.
        steps: gradients for each picture. Each is taken where the one before has led to.
        fraction: share of the pixels that move together, above 0 and at most 1.
        max_distance: how far from the straight way, as a share of its length, a pixel may be: 0 is the straight way
            itself, 1 leaves every pixel free.

    Returns:
        As `integrated_gradients`.

    Raises:
        ValueError: as `saliency`; a baseline of another shape, no steps, a fraction or a distance out of range.
    """
    task = attribution.prepare(model, images, target)
    steps = _paths.check_count(steps, "steps")
    if not (0 < fraction <= 1 and 0 <= max_distance <= 1):
        raise ValueError(f"fraction={fraction!r}, max_distance={max_distance!r}: shares, the fraction above 0.")
    starts = attribution.baseline(task, baseline)
    found, changes = _paths.guided(task, starts, steps, fraction, max_distance, batch, progress)
    return _with_gap(task, found, changes, return_gap)


# Maps


def xrai(model, images, target=None, *, baseline=None, segments=None, batch=16, progress=True, **options):
    """Which regions of the picture matter: segments, ranked by the density of attribution that each adds.

    Kapishnikov et al., "XRAI: Better Attributions Through Regions" (2019): integrated gradients from a black and from
    a white baseline; overlapping segments of six sizes (Felzenszwalb and Huttenlocher 2004); then, again and again, the
    segment whose pixels not yet covered have the largest mean attribution (the largest of a pixel's channels).

    Args:
        model, images, target, batch, progress: as `saliency`.
        baseline: as `integrated_gradients`; None: the darkest and the brightest value of each picture.
        segments: None, or bool masks `(N, H, W)` to use for every picture; they may overlap.
        **options: for `integrated_gradients`, such as `steps`.

    Returns:
        `(B, H, W)` float32, or `(H, W)`: the mean attribution of the region that each pixel came in with, in units of
        the score per pixel.

    Raises:
        ValueError: as `integrated_gradients`; masks of another shape.
    """
    task = attribution.prepare(model, images, target)
    if baseline is None:
        baseline = [
            np.broadcast_to(end(task.images, axis=(1, 2, 3), keepdims=True), task.images.shape)
            for end in (np.min, np.max)
        ]
    if segments is not None:
        segments = _regions.checked(segments, task.images.shape[1:3])
    targets = task.targets if task.key is None else target
    found = integrated_gradients(
        model, task.images, targets, baseline=baseline, batch=batch, progress=progress, **options
    )
    maps = [
        _regions.ranked(one.max(axis=-1), _regions.segments(picture) if segments is None else segments)
        for one, picture in zip(found, task.images, strict=True)
    ]
    return task.answer(maps)


def fullgrad(model, images, target=None, *, batch=16, progress=False):
    """Where in the picture the score comes from, counting what the biases of all layers contribute.

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization" (2019): each term of
    `full_gradients` that has spatial axes is taken by magnitude, stretched to 0 … 1, summed over its channels, brought
    to the size of the picture, and all are added.

    Args, raises: as `saliency`.

    Returns:
        `(B, H, W)` float32, or `(H, W)`, never negative. This map is for looking; it does not sum up to the score.
        `full_gradients` does.
    """
    task = attribution.prepare(model, images, target, resolve=False)
    function = attribution.compiled(task, "fullgrad", _full.map_of(task))
    return task.answer(
        engine.run(function, task.images, task.targets, batch=batch, progress=progress, label="gradients")
    )

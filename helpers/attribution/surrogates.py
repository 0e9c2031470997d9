"""Attribution by segments: a linear model, fitted to the network on variants that show some of the segments."""

import math

import numpy as np
import tensorflow as tf

from .. import checks
from . import masking, shared


def _explained(fit, task, segments, count, fill, seed, return_segments, batch, progress, label):
    """Each pixel with the value of its part, and with that the parts, if they are asked for.

    `fit(run, parts)` gives the values of so many parts of one picture, and `run(shown)` the scores `(n,)` float64 of
    the picture with only some of them shown: `(n, parts)` of 0 and 1.
    """
    fills, parts, maps = masking.fills(task, fill, seed), _segmented(task.images, segments, count), []
    function = masking.passes(task, "segments", lambda parts, rows: tf.gather(rows, parts, axis=1))
    options = {"batch": batch, "progress": progress, "label": label}
    for index, own in enumerate(parts):

        def run(shown, index=index, own=own):
            (scores,) = masking.run(task, function, index, fills, shown.astype("float32"), constants=[own], **options)
            return scores.astype("float64")

        maps.append(fit(run, own.max() + 1)[own])
    found = task.answer(np.stack(maps))
    return (found, parts[0] if task.single else parts) if return_segments else found


def lime(
    model, images, target=None, *, segments="slic", count=50, samples=1000, fill="mean", kernel_width=0.25, alpha=0.01,
    return_segments=False, seed=0, batch=16, progress=True,
):  # fmt: skip
    """Which segments push the score up? Fit a linear model to the network, on variants of this one picture.

    Ribeiro, Singh and Guestrin, "Why Should I Trust You?" (2016). A variant z ∈ {0, 1}^S shows some of the S segments,
    each with probability ½. The weights β of the segments minimise Σ_z π(z) · (f(x_z) − β₀ − β · z)² + alpha · ‖β‖²
    with π(z) = exp(−(1 − cos(z, 1))² / kernel_width²), so that variants with much of the picture count more. Faithful
    as far as segments add up, in the network, linearly.

    Args:
        model, images, target: as for `shared.prepare`.
        segments: `"slic"`, `"felzenszwalb"`, or an array of ints `(H, W)` or `(B, H, W)`, one number for each segment.
        count: about how many segments (SLIC); for Felzenszwalb it sets the size of the smallest.
        samples: how many variants.
        fill, batch, progress: as for `occlusion`; the fill stands in place of a hidden segment.
        kernel_width: how fast the weight of a variant falls with its distance from the picture.
        alpha: strength of the ridge penalty.
        return_segments: return `(map, segments)`, the segments `(B, H, W)` int32 numbered from 0.
        seed: of the variants.

    Returns:
        `(B, H, W)` float32: at each pixel β of its segment, in units of the score; or `(map, segments)`.

    Raises:
        ValueError: what `shared.prepare` refuses, an unknown segmentation or fill, segments of another shape, numbers
            out of range.
    """
    from sklearn.linear_model import Ridge  # a second of import that nothing else needs

    task = shared.prepare(model, images, target)
    samples = checks.whole(samples, "samples")
    kernel_width, alpha = checks.real(kernel_width, "kernel_width", above=0), checks.real(alpha, "alpha", least=0)

    def fit(run, parts):
        shown = np.random.default_rng(seed).integers(0, 2, (samples, parts))
        shown[0] = 1  # the picture itself
        distance = 1 - np.sqrt(shown.mean(axis=1))  # the cosine of z and 1 is the root of the share that is shown
        weights = np.exp(-((distance / kernel_width) ** 2))
        return Ridge(alpha=alpha).fit(shown, run(shown), sample_weight=weights).coef_

    return _explained(fit, task, segments, count, fill, seed, return_segments, batch, progress, "LIME")


def kernel_shap(
    model, images, target=None, *, segments="slic", count=50, samples=2000, fill="mean", return_segments=False, seed=0,
    batch=16, progress=True,
):  # fmt: skip
    """What is each segment's fair share of the score? Shapley values, by a weighted linear regression.

    Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions" (2017). Segments join the picture one by
    one, the others showing the fill; a segment's Shapley value is what it adds to the score, averaged over all
    orders. These values φ are also the ones that minimise Σ_z π(z) · (f(x_z) − f(fill) − φ · z)², with
    π(z) = (S − 1) / (C(S, |z|) · |z| · (S − |z|)), under the condition that they add up to f(x) − f(fill).

    With 2^S ≤ `samples` all variants are run, and the values are exact. Else variants are drawn by their weight π,
    each with its complement, which takes most of the noise away (Covert and Lee 2021).

    Args:
        model, images, target, segments, count, fill, return_segments, seed, batch, progress: as for `lime`.
        samples: how many variants, at most.

    Returns:
        `(B, H, W)` float32: at each pixel the value of its whole segment, in units of the score; or `(map, segments)`.
        The values of the segments, each taken once, add up to f(x) − f(fill).

    Raises:
        ValueError: as `lime`; fewer samples than two for each segment.
    """
    task = shared.prepare(model, images, target)
    samples = checks.whole(samples, "samples")

    def fit(run, parts):
        shown, weights = _shapley_variants(parts, samples, seed)
        return _shapley_values(shown, weights, run(shown))

    return _explained(fit, task, segments, count, fill, seed, return_segments, batch, progress, "Kernel SHAP")


def _shapley_variants(segments, samples, seed):
    """Variants `(n, segments)` of 0 and 1, the empty and the full one first, and the weights `(n − 2,)` of the rest."""
    ends = np.repeat([[0], [1]], segments, axis=1)
    if segments <= 30 and 2**segments <= samples:
        middle = np.arange(1, 2**segments - 1)[:, None] >> np.arange(segments) & 1
        sizes = middle.sum(axis=1)
        ways = np.array([math.comb(segments, size) for size in range(segments + 1)])
        return np.concatenate([ends, middle]), (segments - 1) / (ways[sizes] * sizes * (segments - sizes))
    if samples < 2 * segments:
        raise ValueError(f"samples={samples} is too few for {segments} segments: give at least {2 * segments}.")
    random = np.random.default_rng(seed)
    sizes = np.arange(1, segments)
    chance = 1 / (sizes * (segments - sizes))
    sizes = random.choice(sizes, samples // 2 - 1, p=chance / chance.sum())
    half = random.random((len(sizes), segments)).argsort(axis=1) < sizes[:, None]
    middle, times = np.unique(np.concatenate([half, ~half]).astype(int), axis=0, return_counts=True)
    return np.concatenate([ends, middle]), times.astype("float64")


def _shapley_values(shown, weights, scores):
    """The weighted least squares of `kernel_shap`; the condition on the sum leaves all values but the last one free."""
    total = scores[1] - scores[0]
    shown, gains = shown[2:], scores[2:] - scores[0]
    root = np.sqrt(weights)
    free = root[:, None] * (shown[:, :-1] - shown[:, -1:])
    first = np.linalg.lstsq(free, root * (gains - shown[:, -1] * total), rcond=None)[0]
    return np.append(first, total - first.sum())


def _segmented(pictures, segments, count):
    """The parts of each picture, `(B, H, W)` int32, numbered from 0."""
    if isinstance(segments, str):
        checks.choose(segments, ("slic", "felzenszwalb"), "segmentation", "Or give an array of ints (H, W).")
        count = checks.whole(count, "count")
        return np.stack([_segmentation(picture, segments, count) for picture in pictures])
    given = np.asarray(segments)
    if given.shape not in (pictures.shape[1:3], pictures.shape[:3]) or given.dtype.kind not in "iub":
        raise ValueError(
            f"segments has shape {given.shape} and type {given.dtype}: give 'slic', 'felzenszwalb', or ints of shape "
            f"{pictures.shape[1:3]} or {pictures.shape[:3]}."
        )
    return np.stack([_numbered(own) for own in np.broadcast_to(given, pictures.shape[:3])])


def _segmentation(picture, method, count):
    from skimage.segmentation import felzenszwalb, slic

    unit = (picture - picture.min()) / (np.ptp(picture) or 1)  # both methods mean pixels between 0 and 1
    if method == "slic":
        compactness = 20 if picture.shape[-1] == 3 else 0.2  # colours go up to 100 (CIELAB), anything else up to 1
        found = slic(unit, n_segments=count, compactness=compactness, sigma=1, start_label=0, channel_axis=-1)
    else:
        found = felzenszwalb(unit, scale=100, sigma=0.5, min_size=unit[..., 0].size // (4 * count), channel_axis=-1)
    return _numbered(found)


def _numbered(segments):
    return np.unique(segments, return_inverse=True)[1].reshape(segments.shape).astype("int32")

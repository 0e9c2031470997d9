"""Which pixels matter, asked of the gradient: how the score changes as a pixel changes, here or along a whole path.

All return an attribution of the shape of the pictures, signed unless it says how much something varies, but `xrai` and
`fullgrad`, which are maps, and `full_gradients`, which lists the terms of a sum.
"""

import inspect
import itertools

import numpy as np
from tqdm.auto import tqdm

from .. import checks, submodels
from ..submodels import engine
from . import shared
from .fullgrad import FullGradients, full_gradients, fullgrad
from .integrated import blur_integrated_gradients, guided_integrated_gradients, integrated_gradients
from .regions import xrai

__all__ = ["FullGradients", "blur_integrated_gradients", "deconv_backprop", "full_gradients", "fullgrad"]
__all__ += ["gradient_x_input", "guided_backprop", "guided_integrated_gradients", "integrated_gradients", "saliency"]
__all__ += ["smoothgrad", "vargrad", "xrai"]


def saliency(model, images, target=None, *, batch=16, progress=False):
    """The gradient: by how much the score rises for each unit that a pixel rises, to first order.

    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks" (2014). ∂f/∂x, signed; their picture shows the
    largest magnitude over the channels.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
        images: `(B, H, W, C)`, or one picture `(H, W, C)`, raw.
        target: None (each picture's own answer: its most probable class, or of one sigmoid below 0.5 the negative of
            the output), an int, one int for each picture, or a function `outputs → (B,)`.
        batch: pictures computed at a time.
        progress: show a bar.

    Returns:
        float32 of the shape of `images`: score per unit of the pixel.

    Raises:
        ValueError: pictures or a target that do not fit the model, a score without a gradient.
    """
    task, slopes = _one_pass(model, images, target, batch, progress)
    return task.answer(slopes)


def gradient_x_input(model, images, target=None, *, batch=16, progress=False):
    """Gradient × pixel: what each pixel would contribute if the network were linear.

    Shrikumar et al., "Not Just a Black Box" (2016). x · ∂f/∂x. The sum is f(x) for a piecewise linear network without
    biases; `full_gradients` gives what is missing for any other.

    Args, returns, raises: as `saliency`, but in units of the score.
    """
    task, slopes = _one_pass(model, images, target, batch, progress)
    return task.answer(task.images * slopes)


def guided_backprop(model, images, target=None, *, batch=16, progress=False):
    """The gradient that passes a ReLU only where it is positive and the ReLU let something through.

    Springenberg et al., "Striving for Simplicity" (2015). Sharp, but much of it is the picture's edges, whatever the
    class (Adebayo et al., "Sanity Checks for Saliency Maps", 2018). The rule is that of `submodels.relu_rule`.

    Args, returns, raises: as `saliency`. A network without any ReLU, which the rule would not change, is refused, and
        one with a ReLU that it cannot reach.
    """
    task, slopes = _one_pass(model, images, target, batch, progress, "guided")
    return task.answer(slopes)


def deconv_backprop(model, images, target=None, *, batch=16, progress=False):
    """The gradient that passes a ReLU wherever it is positive, whatever the ReLU did on the way up.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), for a score instead of a unit; for
    a unit see `deconv.project`. The rule is that of `submodels.relu_rule`.

    Args, returns, raises: as `guided_backprop`.
    """
    task, slopes = _one_pass(model, images, target, batch, progress, "deconv")
    return task.answer(slopes)


def _one_pass(model, images, target, batch, progress, rule=None):
    """The task, and the gradient of each picture's score."""
    task = shared.prepare(model, images, target, resolve=False)
    return task, task.run(_backward(task, rule), batch=batch, progress=progress, label="gradients")[1]


def _backward(task, rule=None):
    """The pass `shared.gradients`, of the network with a rule for its ReLUs if there is one."""
    return shared.gradients(task._replace(model=submodels.relu_rule(task.model, rule)) if rule else task)


def smoothgrad(
    model, images, target=None, *, base=saliency, samples=50, noise=0.15, squared=False, seed=0, batch=16,
    progress=True, **options,
):  # fmt: skip
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
        seed, batch, progress: of the noise; pictures computed at a time; show a bar.
        **options: for `base`.

    Returns, raises: float32 of the shape that `base` gives; with `noise=0` what it itself gives (or its square).
        Refused is what `base` refuses, no samples, and negative noise.
    """
    powers = [2 if squared else 1]
    task, means = _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers)
    return task.answer(means[0])


def vargrad(
    model, images, target=None, *, base=saliency, samples=50, noise=0.15, seed=0, batch=16, progress=True, **options
):
    """How much the attribution of each pixel varies over many noisy copies of the picture.

    Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values" (2018):
    the variance over z of base(x + z), that is the mean of squares minus the square of the mean.

    Args, returns, raises: as `smoothgrad`; never negative.
    """
    powers = [1, 2]
    task, means = _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers)
    return task.answer(np.maximum(means[1] - means[0] ** 2, 0))


ONE_PASS = {saliency: None, guided_backprop: "guided", deconv_backprop: "deconv"}  # `_backward` with that rule
CALL = 64  # noisy copies in one call of any other base method: few calls, since each checks anew what it is given


def _noisy_means(model, images, target, base, samples, noise, seed, batch, progress, options, powers):
    """The task, and for each power the mean over noisy copies of what `base` gives, to that power: (B, …) float64."""
    samples, noise = checks.whole(samples, "samples"), checks.real(noise, "noise", least=0)
    task = shared.prepare(model, images, target)
    count, shape = len(task.images), task.images.shape[1:]
    scales, draws = noise * np.ptp(task.images, axis=(1, 2, 3)), np.random.default_rng(seed)

    def noisy():
        for index in itertools.cycle(range(count)):
            if index == 0:
                draw = draws.standard_normal(shape, dtype="float32")
            yield task.images[index] + draw * scales[index]

    copies = engine.Counted(itertools.islice(noisy(), samples * count), samples * count)
    targets, bar = np.tile(task.targets, samples), {"progress": progress, "label": "noisy copies"}
    if base in ONE_PASS and not options:
        passes = engine.stream(_backward(task, ONE_PASS[base]), copies, targets, batch=batch, **bar)
        attributions = (slopes for _, slopes in passes)
    else:
        taken = inspect.signature(base).parameters
        options = {name: own for name, own in (("batch", batch), ("progress", progress)) if name in taken} | options
        attributions = _calls(base, model, copies, targets if task.key is None else target, options, **bar)

    sums, done = None, 0
    for part in attributions:
        if sums is None:
            sums = np.zeros((len(powers), count, *part.shape[1:]))
        for one in part:
            for total, power in zip(sums, powers, strict=True):
                total[done % count] += one if power == 1 else np.square(one, dtype="float64")
            done += 1
    return task, sums / samples


def _calls(base, model, copies, targets, options, progress, label):
    """What `base` gives for one part of the noisy copies after the other."""
    rows = iter(copies)
    with tqdm(total=len(copies), desc=label, disable=not progress, leave=False) as bar:
        for first in range(0, len(copies), CALL):
            part = np.stack(list(itertools.islice(rows, CALL)))
            yield base(model, part, targets if callable(targets) else targets[first : first + CALL], **options)
            bar.update(len(part))

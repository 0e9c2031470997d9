"""Gradients and integrated gradients, beside captum, zennit, tf-keras-vis, xplique, tf-explain and PAIR's saliency."""

import captum.attr
import keras
import numpy as np
import pytest
import pytorch_grad_cam
import saliency.core as pair
import tensorflow as tf
import tf_explain.core
import torch
import xplique.attributions
import zennit.composites
from pytorch_grad_cam.guided_backprop import GuidedBackpropReLUModel
from pytorch_grad_cam.utils.image import scale_accross_batch_and_channels, scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation
from tf_keras_vis.utils.scores import CategoricalScore

from helpers import gradients
from helpers.attribution import regions

from .networks import channels_last, digit_case, photograph_case, skip_case

QUIET = dict(progress=False)


def pair_model(case, index=0):
    """What PAIR's library asks of a network: a function that gives gradients."""

    def call(pictures, call_model_args=None, expected_keys=None):
        pictures = tf.constant(pictures, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(pictures)
            scores = case.model(pictures)[:, case.targets[index]]
        return {pair.INPUT_OUTPUT_GRADIENTS: tape.gradient(scores, pictures).numpy()}

    return call


def vis_score(case):
    return CategoricalScore(case.targets.tolist())


def strongest(attribution):
    """What others show of a gradient: the largest magnitude over the channels."""
    return np.abs(attribution).max(-1)


def stretched(maps):
    """Each map to 0 … 1, as tf-keras-vis does before it returns it: a range of 1e-4 becomes 0.999 with its 1e-7."""
    low, high = (end(maps, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    return (maps - low) / (high - low + 1e-7)


def test_the_twins_are_the_same_network(case):
    theirs = case.twin(case.tensor).detach().numpy()
    assert np.abs(case.model(case.pictures).numpy() - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_saliency(case, compare):
    ours = gradients.saliency(case.model, case.pictures, case.targets)
    theirs = captum.attr.Saliency(case.twin).attribute(case.tensor, case.classes, abs=False)
    compare.same("saliency", case.name, "captum", ours, channels_last(theirs))
    theirs = Saliency(case.model)(
        vis_score(case), case.pictures, gradient_modifier=None, keepdims=True, normalize_map=False
    )
    compare.same("saliency", case.name, "tf-keras-vis", ours, theirs)
    theirs = Saliency(case.model)(vis_score(case), case.pictures)
    remark = "by default largest |g| over channels, stretched to 0…1; the same is done to ours here"
    compare.same("saliency", case.name, "tf-keras-vis", stretched(strongest(ours)), theirs, remark)
    theirs = xplique.attributions.Saliency(case.model)(case.pictures, case.one_hot)
    compare.same("saliency", case.name, "xplique", strongest(ours), theirs[..., 0], "largest |g| over channels")
    theirs = pair.GradientSaliency().GetMask(case.pictures[0], pair_model(case))
    compare.same("saliency", case.name, "PAIR", ours[0], theirs)
    theirs = tf_explain.core.VanillaGradients.compute_gradients(case.pictures[:1], case.model, case.targets[0])
    compare.same("saliency", case.name, "tf-explain", ours[:1], theirs)


def test_gradient_x_input(case, compare):
    ours = gradients.gradient_x_input(case.model, case.pictures, case.targets)
    theirs = captum.attr.InputXGradient(case.twin).attribute(case.tensor, case.classes)
    compare.same("gradient × input", case.name, "captum", ours, channels_last(theirs))
    theirs = xplique.attributions.GradientInput(case.model, reducer=None)(case.pictures, case.one_hot)
    compare.same("gradient × input", case.name, "xplique", ours, theirs)
    theirs = tf_explain.core.GradientsInputs.compute_gradients(case.pictures[:1], case.model, case.targets[0])
    compare.same("gradient × input", case.name, "tf-explain", ours[:1], theirs)


def zennit_gradient(case, composite):
    pictures = case.tensor.requires_grad_()
    with composite.context(case.twin) as ruled:
        ruled(pictures)[range(len(pictures)), case.targets].sum().backward()
    return channels_last(pictures.grad)


def test_guided_backprop(case, compare):
    method = "guided backprop"
    ours = gradients.guided_backprop(case.model, case.pictures, case.targets)
    theirs = captum.attr.GuidedBackprop(case.twin).attribute(case.tensor, case.classes)
    compare.same(method, case.name, "captum", ours, channels_last(theirs))
    compare.same(method, case.name, "zennit", ours, zennit_gradient(case, zennit.composites.GuidedBackprop()))
    theirs = GuidedBackpropReLUModel(case.twin)(case.tensor[:1], case.targets[0])
    compare.same(method, case.name, "grad-cam", ours[0], theirs)


def guided_by_vis(case):
    return Saliency(case.model, GuidedBackpropagation())(
        vis_score(case), case.pictures, gradient_modifier=None, keepdims=True, normalize_map=False
    )


class Rectified(torch.nn.Module):
    """A ReLU that does not look like one."""

    def forward(self, x):
        return x.clamp(min=0)


def test_guided_backprop_of_tf_keras_vis(compare):
    """Theirs knows `activation="relu"` only, and says nothing of ReLUs that are layers: these keep their gradient."""
    method = "guided backprop"
    case = digit_case()
    ours = gradients.guided_backprop(case.model, case.pictures, case.targets)
    compare.same(method, case.name, "tf-keras-vis", ours, guided_by_vis(case))
    case = skip_case().with_copy()
    case.twin.network.last = Rectified()
    formula = channels_last(captum.attr.GuidedBackprop(case.twin).attribute(case.tensor, case.classes))
    ours = gradients.guided_backprop(case.model, case.pictures, case.targets)
    remark = "theirs overlooks ReLUs that are layers, here one of five"
    compare.differs(method, case.name, "tf-keras-vis", ours, guided_by_vis(case), formula, remark)
    case = photograph_case()
    ours = gradients.guided_backprop(case.model, case.pictures, case.targets)
    formula = gradients.saliency(case.model, case.pictures, case.targets)
    remark = "theirs overlooks ReLUs that are layers, here all: it is the plain gradient"
    compare.differs(method, case.name, "tf-keras-vis", ours, guided_by_vis(case), formula, remark)


def test_guided_backprop_of_xplique_at_relu6(compare):
    """Theirs lets the gradient through a ReLU6 that is saturated: it asks whether x > 0, not whether 0 < x < 6."""

    @tf.custom_gradient
    def theirs_at_relu6(x):
        return tf.nn.relu6(x), lambda gradient: tf.nn.relu(gradient) * tf.cast(x > 0, tf.float32)

    def clone(layer):
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Lambda(theirs_at_relu6, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    case = photograph_case()
    twin = keras.models.clone_model(case.model, clone_function=clone)
    twin.set_weights(case.model.get_weights())
    formula = gradients.saliency(twin, case.pictures, case.targets)
    theirs = xplique.attributions.GuidedBackprop(case.model, reducer=None)(case.pictures, case.one_hot)
    ours = gradients.guided_backprop(case.model, case.pictures, case.targets)
    remark = "theirs passes the gradient through saturated ReLU6"
    compare.differs("guided backprop", case.name, "xplique", ours, theirs, formula, remark)


def test_saliency_of_a_real_network(compare):
    case = photograph_case()
    ours = gradients.saliency(case.model, case.pictures, case.targets)
    theirs = Saliency(case.model)(
        vis_score(case), case.pictures, gradient_modifier=None, keepdims=True, normalize_map=False
    )
    compare.same("saliency", case.name, "tf-keras-vis", ours, theirs)
    theirs = xplique.attributions.GradientInput(case.model, reducer=None)(case.pictures, case.one_hot)
    compare.same("gradient × input", case.name, "xplique", ours * case.pictures, theirs)


def test_deconv_backprop(case, compare):
    method = "deconv backprop"
    ours = gradients.deconv_backprop(case.model, case.pictures, case.targets)
    theirs = captum.attr.Deconvolution(case.twin).attribute(case.tensor, case.classes)
    compare.same(method, case.name, "captum", ours, channels_last(theirs))
    compare.same(method, case.name, "zennit", ours, zennit_gradient(case, zennit.composites.DeconvNet()))


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_rules_of_xplique(case, compare, rule):
    kind = {"guided": xplique.attributions.GuidedBackprop, "deconv": xplique.attributions.DeconvNet}[rule]
    ours = {"guided": gradients.guided_backprop, "deconv": gradients.deconv_backprop}[rule]
    theirs = kind(case.model, reducer=None)(case.pictures, case.one_hot)
    compare.same(f"{rule} backprop", case.name, "xplique", ours(case.model, case.pictures, case.targets), theirs)


def test_smoothgrad_with_the_same_noise(case, compare, monkeypatch):
    """PAIR draws with `np.random.normal`: it is handed our draws."""

    def theirs(**options):
        draws = np.random.default_rng(0)

        def normal(mean, deviation, shape):
            return deviation * draws.standard_normal(shape, dtype="float32")

        monkeypatch.setattr(np.random, "normal", normal)
        options = dict(stdev_spread=0.15, nsamples=10, **options)
        return pair.GradientSaliency().GetSmoothedMask(case.pictures[0], pair_model(case), **options)

    options = dict(samples=10, noise=0.15, **QUIET)
    ours = gradients.smoothgrad(case.model, case.pictures[0], case.targets[0], **options)
    compare.same("SmoothGrad", case.name, "PAIR", ours, theirs(magnitude=False), "same draws")
    ours = gradients.smoothgrad(case.model, case.pictures[0], case.targets[0], squared=True, **options)
    compare.same("SmoothGrad²", case.name, "PAIR", ours, theirs(), "same draws")


def test_smoothgrad_with_other_noise(case, compare):
    """200 draws each: what is left is chance. xplique and captum want the deviation in pixels."""
    picture, target = case.pictures[:1], case.targets[:1]
    deviation = float(0.15 * np.ptp(picture))
    options = dict(samples=200, noise=0.15, **QUIET)
    kinds = {
        "SmoothGrad": (xplique.attributions.SmoothGrad, "smoothgrad", gradients.smoothgrad, {}),
        "SmoothGrad²": (xplique.attributions.SquareGrad, "smoothgrad_sq", gradients.smoothgrad, {"squared": True}),
        "VarGrad": (xplique.attributions.VarGrad, "vargrad", gradients.vargrad, {}),
    }
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(case.twin))
    for method, (kind, name, function, more) in kinds.items():
        ours = function(case.model, picture, target, **options, **more)
        theirs = kind(case.model, reducer=None, nb_samples=200, noise=deviation)(picture, case.one_hot[:1])
        compare.alike(method, case.name, "xplique", ours, theirs, 0.93, "200 draws each")
        theirs = tunnel.attribute(
            case.tensor[:1],
            nt_type=name,
            nt_samples=200,
            nt_samples_batch_size=50,
            stdevs=deviation,
            target=case.classes[:1],
            abs=False,
        )
        compare.alike(method, case.name, "captum", ours, channels_last(theirs), 0.93, "200 draws each")
    theirs = Saliency(case.model)(
        vis_score(case._replace(targets=target)),
        picture,
        smooth_samples=200,
        smooth_noise=0.15,
        gradient_modifier=None,
        keepdims=True,
        normalize_map=False,
    )
    ours = gradients.smoothgrad(case.model, picture, target, **options)
    compare.alike("SmoothGrad", case.name, "tf-keras-vis", ours, theirs, 0.93, "200 draws each")


def test_smoothgrad_of_tf_explain(case, compare):
    """Theirs differentiates the loss −log p of a network that ends in softmax, not the score.

    So the sign is turned round, and all other classes take part: −∂ log softmax(logits)_c / ∂x.
    """
    picture, target = case.pictures[:1], int(case.targets[0] + 1) % case.one_hot.shape[-1]
    probabilities = keras.Model(case.model.inputs, keras.layers.Softmax()(case.model.output))
    theirs = tf_explain.core.SmoothGrad.get_averaged_gradients(picture, probabilities, target, 1)
    ours = gradients.smoothgrad(case.model, picture, target, samples=1, noise=0, **QUIET)
    formula = -gradients.saliency(case.model, picture, lambda logits: tf.nn.log_softmax(logits)[:, target])
    remark = "no noise; theirs is the gradient of the loss −log p, not of the score"
    compare.differs("SmoothGrad", case.name, "tf-explain", ours, theirs, formula, remark)


def test_integrated_gradients(case, compare):
    peer = captum.attr.IntegratedGradients(case.twin)
    for theirs, method in (("riemann_middle", "midpoint"), ("gausslegendre", "gauss_legendre")):
        ours = gradients.integrated_gradients(
            case.model, case.pictures, case.targets, baseline=10.0, steps=32, method=method, **QUIET
        )
        found = peer.attribute(case.tensor, 10.0, case.classes, n_steps=32, method=theirs)
        compare.same("integrated gradients", case.name, "captum", ours, channels_last(found), f"32 steps, {theirs}")


def test_integrated_gradients_at_both_ends(case, compare):
    """PAIR, xplique and tf-explain take n gradients at t = 0, 1/(n − 1), …, 1, where ours are in the middles.

    With g_i these gradients and d = x − baseline, PAIR returns d · Σ g_i / n, which counts the two ends twice too
    often; xplique the trapezoidal rule d · (g_1 / 2 + g_2 + … + g_n / 2) / (n − 1); tf-explain Σ g_i / n, without d.
    """
    picture, target = case.pictures[0], case.targets[0]
    ways = np.linspace(0, 1, 32)[:, None, None, None]
    along = gradients.saliency(case.model, (ways * picture).astype("float32"), np.full(32, target))
    ours, gap = gradients.integrated_gradients(case.model, picture, target, steps=32, return_gap=True, **QUIET)
    change = np.subtract(*case.model(np.stack([picture, 0 * picture])).numpy()[:, target])

    def remark(theirs, what):
        gap_of_theirs = abs(np.sum(theirs) - change) / abs(change)
        return f"32 steps: {what}; gap {gap_of_theirs:.1%}, ours {gap:.1%}"

    theirs = pair.IntegratedGradients().GetMask(picture, pair_model(case), x_steps=32, batch_size=32)
    formula = picture * along.mean(0)
    told = remark(theirs, "theirs are a plain mean with both ends")
    compare.differs("integrated gradients", case.name, "PAIR", ours, theirs, formula, told)
    theirs = xplique.attributions.IntegratedGradients(case.model, reducer=None, steps=32)(
        case.pictures[:1], case.one_hot[:1]
    )[0]
    formula = picture * (along[:-1] + along[1:]).mean(0) / 2
    told = remark(theirs, "theirs are trapezoids")
    compare.differs("integrated gradients", case.name, "xplique", ours, theirs, formula, told)
    peer = tf_explain.core.IntegratedGradients
    points = peer.generate_interpolations(case.pictures[:1], 32)
    theirs = peer.get_integrated_gradients(points, case.model, target, 32)[0]
    told = remark(theirs, "theirs is not multiplied by the difference to the baseline, so it is no attribution")
    compare.differs("integrated gradients", case.name, "tf-explain", ours, theirs, along.mean(0), told)


def test_blur_integrated_gradients(case, compare):
    """PAIR lets black in from outside when it blurs (`mode="constant"`), takes steps of equal σ from the sharp end, and
    the change of the blur from a small difference. Ours has closed borders, smaller steps where little is blurred, and
    takes the change of each step exactly. Digits have black borders, so there only the steps are left."""

    def both(picture):
        theirs = pair.BlurIG().GetMask(picture, pair_model(case), max_sigma=2.0, steps=400, batch_size=50)
        return gradients.blur_integrated_gradients(
            case.model, picture, case.targets[0], max_sigma=2.0, steps=400, **QUIET
        ), theirs

    compare.alike("blur IG", case.name, "PAIR", *both(case.pictures[0]), 0.8, "theirs blurs in black from outside")
    framed = np.zeros_like(case.pictures[0])
    framed[8:-8, 8:-8] = case.pictures[0][8:-8, 8:-8]
    compare.alike("blur IG", case.name, "PAIR", *both(framed), 0.999, "the middle of the picture in a black frame")


def test_guided_integrated_gradients(case, compare, monkeypatch):
    quantile = np.quantile  # theirs still says `interpolation`, which NumPy has renamed
    monkeypatch.setattr(np, "quantile", lambda a, q, interpolation: quantile(a, q, method=interpolation))
    options = dict(fraction=0.25)
    theirs = pair.GuidedIG().GetMask(case.pictures[0], pair_model(case), x_steps=50, max_dist=0.1, **options)
    ours = gradients.guided_integrated_gradients(
        case.model, case.pictures[0], case.targets[0], steps=50, max_distance=0.1, **options, **QUIET
    )
    compare.same("guided IG", case.name, "PAIR", ours, theirs, "50 steps")


def test_xrai(compare):
    case = photograph_case()
    picture = case.pictures[0]
    options = dict(steps=16, **QUIET)
    ends = [np.full_like(picture, picture.min()), np.full_like(picture, picture.max())]
    base = gradients.integrated_gradients(case.model, picture, 105, baseline=ends, **options)
    segments = regions.overlapping_segments(picture)
    ours = gradients.xrai(case.model, picture, 105, segments=segments, **options)
    theirs = pair.XRAI().GetMask(picture, None, segments=list(segments), base_attribution=base)
    compare.same("XRAI", case.name, "PAIR", ours, theirs, "same segments and base attribution")
    ours = gradients.xrai(case.model, picture, 105, **options)
    theirs = pair.XRAI().GetMask(picture, None, base_attribution=base)
    remark = "same base attribution; each with segments of its own"
    compare.alike("XRAI", case.name, "PAIR", ours, theirs, 0.9, remark)


def test_fullgrad(case, compare):
    """grad-cam stretches each channel of each layer to 0 … 1, where ours (and the authors' program) stretch the layer.

    So in theirs a channel that hardly matters counts as much as the one that matters most. It also leaves out biases
    that are not written down as such (the shift of the preprocessing), and counts BatchNorm apart from its convolution.
    """
    ours = gradients.fullgrad(case.model, case.pictures, case.targets)
    targets = [ClassifierOutputTarget(int(target)) for target in case.targets]
    theirs = pytorch_grad_cam.FullGrad(case.twin, [])(case.tensor, targets)
    if case.name == "skip":
        remark = "theirs stretches each channel by itself, and has other biases"
        compare.alike("FullGrad", case.name, "grad-cam", ours, theirs, 0.6, remark)
        return
    terms = gradients.full_gradients(case.model, case.pictures, case.targets)
    size = case.pictures.shape[1:3]
    formula = 0
    for term in [terms.inputs, *(term for term in terms.biases.values() if term.ndim == 4)]:
        formula = formula + scale_accross_batch_and_channels(np.abs(np.moveaxis(term, -1, 1)), size).sum(1)
    remark = "stretched; theirs stretches each channel by itself"
    parts = [scale_cam_image(ours), theirs, scale_cam_image(formula)]
    compare.differs("FullGrad", case.name, "grad-cam", *parts, remark)

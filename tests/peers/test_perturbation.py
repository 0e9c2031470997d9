"""Occlusion, RISE, LIME, Shapley values and Sobol indices, beside captum, xplique, tf-explain, PAIR, lime and shap."""

import captum.attr
import cv2
import keras
import numpy as np
import saliency.core as pair
import shap
import tensorflow as tf
import tf_explain.core
import torch
import xplique.attributions
from lime.lime_image import LimeImageExplainer
from scipy.stats import qmc
from sklearn.linear_model import Ridge
from xplique.attributions.global_sensitivity_analysis import JansenEstimator
from xplique.attributions.global_sensitivity_analysis.replicated_designs import ReplicatedSampler

from helpers import perturbation

from .conftest import correlation
from .networks import channels_last

QUIET = dict(progress=False)


def tiles(case, count):
    """Segments: count × count tiles, `(H, W)`."""
    height, width = case.pictures.shape[1:3]
    rows, columns = (np.arange(side) * count // side for side in (height, width))
    return (rows[:, None] * count + columns).astype("int32")


def test_occlusion(case, compare):
    """Windows that fill the picture evenly: then all agree where the windows are."""
    patch, stride = 8, 4
    ours = perturbation.occlusion(case.model, case.pictures, case.targets, patch, stride, fill=20.0, **QUIET)
    channels = case.pictures.shape[-1]
    theirs = captum.attr.Occlusion(case.twin).attribute(
        case.tensor, (channels, patch, patch), (channels, stride, stride), 20.0, case.classes, perturbations_per_eval=8
    )
    compare.same("occlusion", case.name, "captum", ours, channels_last(theirs)[..., 0])
    peer = xplique.attributions.Occlusion(case.model, patch_size=patch, patch_stride=stride, occlusion_value=20.0)
    theirs = peer(case.pictures, case.one_hot).numpy()[..., 0]
    starts = [np.arange(0, side - patch + 1, stride) for side in ours.shape[1:]]
    rows, columns = (
        ((np.arange(side)[:, None] >= first) & (np.arange(side)[:, None] < first + patch)).sum(1)
        for side, first in zip(ours.shape[1:], starts, strict=True)
    )
    windows = np.outer(rows, columns)
    remark = "theirs is the sum over the windows that cover a pixel, not their mean: ours × their number"
    compare.same("occlusion", case.name, "xplique", ours * windows, theirs, remark)


def test_occlusion_at_the_border(case, compare):
    """The last window of captum is cut off at the border; that of ours ends there and is whole; xplique has none."""
    channels, height = case.pictures.shape[-1], case.pictures.shape[1]
    ours = perturbation.occlusion(case.model, case.pictures, case.targets, 6, 5, fill=20.0, **QUIET)
    theirs = captum.attr.Occlusion(case.twin).attribute(
        case.tensor, (channels, 6, 6), (channels, 5, 5), 20.0, case.classes, perturbations_per_eval=8
    )
    theirs = channels_last(theirs)[..., 0]
    last = height - 6  # first row of our last window
    remark = "windows that do not fit: theirs is cut off at the border; the rest of the map"
    compare.same("occlusion", case.name, "captum", ours[:, :last, :last], theirs[:, :last, :last], remark)


def test_occlusion_of_pair(case, compare):
    """One window for each pixel where it fits; theirs adds up."""

    def call(pictures, call_model_args=None, expected_keys=None):
        return {pair.OUTPUT_LAYER_VALUES: case.model(pictures).numpy()[:, case.targets[0]]}

    picture = case.pictures[0]
    theirs = pair.Occlusion().GetMask(picture, call, size=12, value=20)[..., 0]
    ours = perturbation.occlusion(case.model, picture, case.targets[0], 12, 1, fill=20.0, **QUIET)
    places = np.arange(len(picture))
    covered = np.minimum(np.minimum(places + 1, len(picture) - places), 12)
    covered = np.minimum(covered, len(picture) - 11)
    remark = "theirs is a sum, not a mean: ours × number of windows"
    compare.same("occlusion", case.name, "PAIR", ours * np.outer(covered, covered), theirs, remark)


def test_occlusion_of_tf_explain(case, compare):
    """Theirs is 1 − probability with a grey square (127.5), enlarged with OpenCV; no window overlaps another."""
    model = probabilities(case)
    picture, target = case.pictures[0], int(case.targets[0])
    side = len(picture) // 4
    theirs = tf_explain.core.OcclusionSensitivity(batch_size=16).get_sensitivity_map(model, picture, target, side)
    ours = perturbation.occlusion(model, picture, target, side, side, fill=127.5, return_classes=True, **QUIET)
    scores = cv2.resize(1 - ours.scores.astype("float64"), picture.shape[:2])
    compare.same("occlusion", case.name, "tf-explain", scores, theirs, "1 − our scores, enlarged as theirs is")


def test_rise(case, compare):
    """xplique divides by the sum of the masks at each pixel, where the paper and ours take its expectation, N · p.

    How often chance has shown a pixel then no longer matters, which is much of the noise where the score is never
    small. RISE of a score that is always 1 is that sum, Σ M / (N · p): dividing by it does to ours what theirs does.
    Explained is a probability, as in the paper.
    """
    model, options = probabilities(case), dict(masks=4000, batch=100, **QUIET)
    plain = perturbation.rise(model, case.pictures[0], int(case.targets[0]), **options)
    ours = plain / perturbation.rise(model, case.pictures[0], lambda outputs: tf.ones(tf.shape(outputs)[0]), **options)
    peer = xplique.attributions.Rise(model, batch_size=100, nb_samples=4000, grid_size=7)
    theirs = peer(case.pictures[:1], case.one_hot[:1]).numpy()[0, ..., 0]
    remark = f"4000 masks each; both divided by how often a pixel was shown (without: {correlation(plain, theirs):.2f})"
    compare.alike("RISE", case.name, "xplique", ours, theirs, 0.9, remark)


def probabilities(case):
    return keras.Model(case.model.input, keras.layers.Softmax()(case.model.output))


def our_draws(samples, parts):
    shown = np.random.default_rng(0).integers(0, 2, (samples, parts))
    shown[0] = 1
    return shown


class OurDraws(np.random.RandomState):
    """A generator for the lime package that gives the draws of ours."""

    def randint(self, low, high=None, size=None, dtype=int):
        if size is None:
            return super().randint(low, high)
        return np.random.default_rng(0).integers(low, high, size)


def test_lime(case, compare):
    """The lime package takes the root of the weights, exp(−(d / width)²)^½, which is a width larger by √2, and the
    cosine distance as we do. The draws are ours."""
    parts = tiles(case, 4)
    picture, target = case.pictures[0], int(case.targets[0])
    options = dict(segments=parts, samples=200, fill=30.0, alpha=0.5, **QUIET)

    def classify(pictures):
        return case.model(np.asarray(pictures, "float32")[..., : picture.shape[-1]]).numpy()

    colour = np.repeat(picture, 3 // picture.shape[-1], -1)
    explainer = LimeImageExplainer(kernel_width=0.25, random_state=OurDraws(0))
    theirs = explainer.explain_instance(
        colour,
        classify,
        labels=(target,),
        top_labels=None,
        hide_color=30.0,
        num_features=16,
        num_samples=200,
        segmentation_fn=lambda _: parts,
        model_regressor=Ridge(alpha=0.5),
    )
    weights = dict(theirs.local_exp[target])
    theirs = np.array([weights[part] for part in range(16)])[parts]
    ours = perturbation.lime(case.model, picture, target, kernel_width=0.25 * 2**0.5, **options)
    compare.same("LIME", case.name, "lime", ours, theirs, "same draws; their kernel width is ours / √2")

    def similarity(original, shown, pictures):
        distance = 1 - tf.sqrt(tf.reduce_mean(tf.cast(shown, tf.float32), 1))
        return tf.exp(-((distance / 0.25) ** 2))

    peer = xplique.attributions.Lime(
        case.model,
        batch_size=50,
        interpretable_model=Ridge(alpha=0.5),
        similarity_kernel=similarity,
        pertub_func=lambda count, samples: tf.constant(our_draws(samples, int(np.squeeze(count))), tf.int32),
        map_to_interpret_space=lambda _: tf.constant(parts),
        ref_value=np.full(picture.shape[-1], 30.0),
        nb_samples=200,
    )
    theirs = peer(case.pictures[:1], case.one_hot[:1]).numpy()[0, ..., 0]
    ours = perturbation.lime(case.model, picture, target, kernel_width=0.25, **options)
    remark = "same draws and kernel; their own cosine distance is 1 + cos, since keras.losses.cosine_similarity is −cos"
    compare.same("LIME", case.name, "xplique", ours, theirs, remark)


def test_kernel_shap(case, compare):
    """8 segments: ours and the shap package run all 256 variants, and are exact. xplique and captum draw; xplique's
    regression leaves out that the values add up to f(x) − f(fill), captum's gives these two variants the weight 10⁶."""
    height, width = case.pictures.shape[1:3]
    parts = (np.arange(height)[:, None] * 4 // height * 2 + np.arange(width) * 2 // width).astype("int32")
    picture, target = case.pictures[0], int(case.targets[0])
    ours, found = perturbation.kernel_shap(
        case.model, picture, target, segments=parts, samples=300, fill=30.0, return_segments=True, **QUIET
    )

    def scores(shown):
        kept = shown[:, parts][..., None]
        return case.model((picture * kept + 30.0 * (1 - kept)).astype("float32")).numpy()[:, target]

    explainer = shap.KernelExplainer(scores, np.zeros((1, 8)))
    theirs = explainer.shap_values(np.ones((1, 8)), nsamples=300, l1_reg=False, silent=True)[0][parts]
    compare.same("Kernel SHAP", case.name, "shap", ours, theirs, "8 segments, exact")
    shapley = captum.attr.ShapleyValueSampling(case.twin)
    torch.manual_seed(0)
    mask = torch.tensor(parts.astype("int64"))[None, None].expand(1, picture.shape[-1], -1, -1).contiguous()
    theirs = shapley.attribute(
        case.tensor[:1], 30.0, case.classes[:1], feature_mask=mask, n_samples=100, perturbations_per_eval=8
    )
    compare.alike("Kernel SHAP", case.name, "captum", ours, channels_last(theirs)[0, ..., 0], 0.98, "100 orders drawn")
    peer = captum.attr.KernelShap(case.twin)
    options = dict(n_samples=1000, perturbations_per_eval=50)
    theirs = peer.attribute(case.tensor[:1], 30.0, case.classes[:1], feature_mask=mask, **options)
    remark = "1000 variants drawn"
    compare.alike("Kernel SHAP", case.name, "captum", ours, channels_last(theirs)[0, ..., 0], 0.99, remark)
    peer = xplique.attributions.KernelShap(
        case.model,
        map_to_interpret_space=lambda _: tf.constant(parts),
        nb_samples=1000,
        ref_value=np.full(picture.shape[-1], 30.0),
    )
    theirs = peer(case.pictures[:1], case.one_hot[:1]).numpy()[0, ..., 0]
    remark = "1000 variants drawn, without the condition on the sum"
    compare.alike("Kernel SHAP", case.name, "xplique", ours, theirs, 0.97, remark)


class SameDesigns(ReplicatedSampler):
    """The draws of ours, for xplique: A, then B, then A with one column from B for each cell."""

    def __call__(self, dimension, designs):
        draws = qmc.Sobol(2 * dimension, seed=0).random_base2(designs.bit_length() - 1).astype("float32")
        one, two = np.split(draws, 2, axis=1)
        return np.concatenate([one, two, self.build_replicated_design(one, two)])


def test_sobol(case, compare):
    """Same draws: equal but for one factor. Theirs divides by the variance of A alone (over N − 1), ours by that of A
    and B together. Theirs is enlarged bicubically, and so is ours here."""
    options = dict(cells=4, designs=32, fill=0.0, upsample=False, **QUIET)
    ours = perturbation.sobol(case.model, case.pictures, case.targets, **options)
    ours = tf.image.resize(ours[..., None], case.pictures.shape[1:3], "bicubic").numpy()[..., 0]
    peer = xplique.attributions.SobolAttributionMethod(
        case.model, grid_size=4, nb_design=32, sampler=SameDesigns(), estimator=JansenEstimator(), batch_size=64
    )
    theirs = peer(case.pictures, case.one_hot).numpy()[..., 0]
    factors = theirs.max((1, 2)) / ours.max((1, 2))
    remark = f"same draws, divided by the largest value: theirs is {factors.min():.2f} to {factors.max():.2f} × ours"
    parts = [maps / maps.max((1, 2), keepdims=True) for maps in (ours, theirs)]
    compare.same("Sobol", case.name, "xplique", *parts, remark)

"""Class activation maps, beside grad-cam, tf-keras-vis, xplique, tf-explain and PAIR's saliency.

grad-cam keeps what is positive, stretches each map to 0 … 1, enlarges it with OpenCV's bilinear interpolation and
stretches it again. `as_grad_cam` does the same to ours: enlarging is linear and commutes with stretching.
"""

import numpy as np
import pytest
import pytorch_grad_cam
import saliency.core as pair
import tensorflow as tf
import tf_explain.core
import xplique.attributions
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.scorecam import Scorecam
from tf_keras_vis.utils.scores import CategoricalScore

from helpers import cam, submodels
from helpers.attribution import shared

STRETCHED = "theirs is stretched to 0…1; the same is done to ours here"


@pytest.fixture(params=["digit_case", "skip_case", "photograph_case"], ids=["mnist_cnn", "skip", "efficientnet_lite0"])
def keras_case(request):
    """A network, with or without a twin."""
    from . import networks

    return getattr(networks, request.param)()


def activations_and_slopes(case):
    """What a layer puts out and the gradient of the score by it, `(B, h, w, K)`."""
    task = shared.prepare(case.model, case.pictures, case.targets, layers=[case.layer])
    _, maps, slopes = shared.layer_gradients(task, [case.layer])(task.images, task.targets)
    return maps[case.layer].numpy().astype("float64"), slopes[case.layer].numpy().astype("float64")


def weighted(maps, weights):
    return np.maximum(np.einsum("bhwk,bk->bhw", maps, weights), 0)


def as_grad_cam(maps, case):
    """Rectified maps on the layer's grid, as grad-cam returns them."""
    height, width = case.pictures.shape[1:3]
    return scale_cam_image(scale_cam_image(np.maximum(maps, 0), (width, height)))


def grad_cam_peer(case, kind, targets=None, layer=None, **options):
    peer = getattr(pytorch_grad_cam, kind)(case.twin, [layer or case.twin.network.last], **options)
    return peer(case.tensor, targets or [ClassifierOutputTarget(int(target)) for target in case.targets])


def keras_peer(case, kind, **options):
    options = dict(penultimate_layer=case.layer, seek_penultimate_conv_layer=False, normalize_cam=False) | options
    return kind(case.model)(CategoricalScore(case.targets.tolist()), case.pictures, **options)


@pytest.mark.parametrize(
    "method, kind",
    [
        (cam.grad_cam, "GradCAM"),
        (cam.layer_cam, "LayerCAM"),
        (cam.hires_cam, "HiResCAM"),
        (cam.xgrad_cam, "XGradCAM"),
        (cam.ablation_cam, "AblationCAM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_with_grad_cam(case, compare, method, kind):
    options = dict(progress=False) if method is cam.ablation_cam else {}
    maps = method(case.model, case.pictures, case.targets, layer=case.layer, upsample=False, **options)
    theirs = grad_cam_peer(case, kind)
    compare.same(kind.replace("CAM", "-CAM"), case.name, "grad-cam", as_grad_cam(maps, case), theirs, STRETCHED)


def test_upsampling(case, compare):
    """Ours enlarges with Pillow's bilinear interpolation, grad-cam's with OpenCV's: the same."""
    maps = cam.grad_cam(case.model, case.pictures, case.targets, layer=case.layer, upsample=False)
    ours = shared.upsample(scale_cam_image(maps), case.pictures.shape[1:3])
    theirs = grad_cam_peer(case, "GradCAM")
    compare.same("Grad-CAM", case.name, "grad-cam", scale_cam_image(ours), theirs, "enlarged by each of the two")


def test_grad_cam_plus_plus_of_grad_cam(case, compare):
    """Theirs adds ε = 1e-6 to the denominator of α = g² / (2 g² + S g³ + ε).

    For a gradient of 1e-3 that is as much as 2 g² is, so that α of small gradients goes to zero; the paper has no ε.
    """
    maps, slopes = activations_and_slopes(case)
    sums = maps.sum((1, 2), keepdims=True)
    alpha = np.where(slopes != 0, slopes**2 / (2 * slopes**2 + sums * slopes**3 + 1e-6), 0)
    formula = as_grad_cam(weighted(maps, (np.maximum(slopes, 0) * alpha).sum((1, 2))), case)
    ours = cam.grad_cam_plus_plus(case.model, case.pictures, case.targets, layer=case.layer, upsample=False)
    theirs = grad_cam_peer(case, "GradCAMPlusPlus")
    remark = "stretched; theirs has 1e-6 in the denominator, beside 2 g²"
    compare.differs("Grad-CAM++", case.name, "grad-cam", as_grad_cam(ours, case), theirs, formula, remark)


def test_eigen_cam_of_grad_cam(case, compare):
    """Theirs subtracts each channel's mean (ours: `center=True`) and leaves the sign to chance."""
    maps = submodels.activations(case.model, [case.layer])(case.pictures)[case.layer].numpy()
    theirs = get_2d_projection(np.moveaxis(maps, -1, 1))
    ours = cam.eigen_cam(
        case.model, case.pictures, case.targets, layer=case.layer, upsample=False, rectify=False, center=True
    )
    signs = np.sign((ours * theirs).sum((1, 2), keepdims=True))
    remark = f"centred; their sign is chance: turned round for {(signs < 0).sum()} of {len(signs)} pictures"
    compare.same("EigenCAM", case.name, "grad-cam", ours, signs * theirs, remark)
    theirs = grad_cam_peer(case, "EigenCAM")
    formula = as_grad_cam(signs * ours, case)
    compare.same("EigenCAM", case.name, "grad-cam", formula, theirs, "the whole method, with their signs")


def test_finer_cam_with_one_rival(case, compare):
    """With one class to compare with, its weight in theirs (see below) cancels out, but for 1e-9 in the denominator.

    That shows (5e-4) where the probability of the class is as small as 6e-6, as it is for the first digit.
    """
    if case.name == "mnist_cnn":
        case = case._replace(pictures=case.pictures[1:], targets=case.targets[1:])
    peer = pytorch_grad_cam.FinerCAM(case.twin, [case.twin.network.last])
    theirs = peer(case.tensor, alpha=0.6, comparison_categories=[1])
    ours = cam.finer_cam(case.model, case.pictures, layer=case.layer, upsample=False, compare=1, gamma=0.6)
    compare.same("Finer-CAM", case.name, "grad-cam", as_grad_cam(ours, case), theirs, "one class compared; stretched")


def test_finer_cam_with_three_rivals(case, compare):
    """grad-cam weighs the classes d that are compared by their probabilities: Σ p_d (y_c − α y_d) / Σ p_d.

    And it differentiates p_d too. Ours is the paper's y_c − γ · mean of y_d.
    """
    peer = pytorch_grad_cam.FinerCAM(case.twin, [case.twin.network.last])
    theirs = peer(case.tensor, alpha=0.6)

    def score(logits):
        own = tf.reduce_max(logits, -1)
        rivals = tf.argsort(tf.abs(logits - own[:, None]), -1, stable=True)[:, 1:4]
        weights = tf.gather(tf.nn.softmax(logits), rivals, batch_dims=1)
        gaps = own[:, None] - 0.6 * tf.gather(logits, rivals, batch_dims=1)
        return tf.reduce_sum(weights * gaps, -1) / (tf.reduce_sum(weights, -1) + 1e-9)

    options = dict(layer=case.layer, upsample=False)
    formula = as_grad_cam(cam.grad_cam(case.model, case.pictures, score, **options), case)
    ours = cam.finer_cam(case.model, case.pictures, compare=3, gamma=0.6, **options)
    remark = "stretched; theirs weighs the three classes by their probabilities"
    compare.differs("Finer-CAM", case.name, "grad-cam", as_grad_cam(ours, case), theirs, formula, remark)


FULL_SIZE = {"mnist_cnn": ("conv1", "relu1"), "skip": ("join", "join")}  # layers with the size of the picture


def test_score_cam_of_grad_cam(case, compare):
    """Where nothing has to be enlarged the two agree. Elsewhere theirs puts the corners of the map on the corners of
    the picture, where ours (and TensorFlow and OpenCV) line up their edges; softmax makes much of the difference."""
    layer, name = FULL_SIZE[case.name]
    options = dict(upsample=False, progress=False)
    ours = cam.score_cam(case.model, case.pictures, case.targets, layer=layer, **options)
    theirs = grad_cam_peer(case, "ScoreCAM", layer=getattr(case.twin.network, name))
    compare.same("Score-CAM", case.name, "grad-cam", as_grad_cam(ours, case), theirs, f"{layer}, {STRETCHED}")
    ours = cam.score_cam(case.model, case.pictures, case.targets, layer=case.layer, **options)
    theirs = grad_cam_peer(case, "ScoreCAM")
    remark = f"{case.layer}; theirs enlarges masks corner to corner"
    compare.alike("Score-CAM", case.name, "grad-cam", as_grad_cam(ours, case), theirs, 0.9, remark)


def test_score_cam_of_tf_keras_vis(case, compare):
    """The weight of a channel is the probability of the class there, softmax over classes. In the paper, and ours, it
    is softmax over channels of the score."""
    layer, _ = FULL_SIZE[case.name]
    ours = cam.score_cam(case.model, case.pictures, case.targets, layer=layer, upsample=False, progress=False)
    theirs = keras_peer(case, Scorecam, penultimate_layer=layer, expand_cam=False)
    maps = submodels.activations(case.model, [layer])(case.pictures)[layer].numpy()
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    masks = (maps - low) / (high - low + 1e-7)
    formula = []
    for picture, target, own, mask in zip(case.pictures, case.targets, maps, masks, strict=True):
        logits = case.model(picture * np.moveaxis(mask, -1, 0)[..., None])
        formula.append(np.maximum(own @ tf.nn.softmax(logits).numpy()[:, target], 0))
    remark = "theirs weighs channels by the probability of the class, not by softmax over channels"
    compare.differs("Score-CAM", case.name, "tf-keras-vis", ours, theirs, np.stack(formula), remark)


def test_with_tf_keras_vis(keras_case, compare):
    case = keras_case
    options = dict(layer=case.layer, upsample=False)
    ours = cam.grad_cam(case.model, case.pictures, case.targets, **options)
    compare.same("Grad-CAM", case.name, "tf-keras-vis", ours, keras_peer(case, Gradcam, expand_cam=False))
    ours = cam.layer_cam(case.model, case.pictures, case.targets, **options)
    compare.same("LayerCAM", case.name, "tf-keras-vis", ours, keras_peer(case, Layercam, expand_cam=False))


def test_upsampling_of_tf_keras_vis(case, compare):
    """Theirs enlarges with `scipy.ndimage.zoom`, corner to corner, and then stretches to 0 … 1."""
    ours = cam.grad_cam(case.model, case.pictures, case.targets, layer=case.layer)
    theirs = keras_peer(case, Gradcam)
    remark = "theirs is enlarged corner to corner"
    compare.alike("Grad-CAM", case.name, "tf-keras-vis", ours, theirs, 0.9, remark)


def test_grad_cam_plus_plus_of_tf_keras_vis(keras_case, compare):
    """Theirs divides α of each channel by its sum over all places, as the authors' program does and their paper does
    not, and keeps the factor exp(y), which is the same for all channels."""
    case = keras_case
    maps, slopes = activations_and_slopes(case)
    alpha = np.divide(1.0, 2 + maps.sum((1, 2), keepdims=True) * slopes, where=slopes != 0, out=np.zeros_like(slopes))
    sums = alpha.sum((1, 2), keepdims=True)
    alpha /= np.where(sums == 0, 1, sums)
    scores = np.exp(case.model(case.pictures).numpy().astype("float64")[range(len(maps)), case.targets])
    formula = weighted(maps, scores[:, None] * (np.maximum(slopes, 0) * alpha).sum((1, 2)))
    theirs = keras_peer(case, GradcamPlusPlus, expand_cam=False).numpy()
    ours = cam.grad_cam_plus_plus(case.model, case.pictures, case.targets, layer=case.layer, upsample=False)
    remark = "divided by the largest value; theirs makes α of a channel sum to 1"
    parts = [values / values.max((1, 2), keepdims=True) for values in (ours, theirs, formula)]
    compare.differs("Grad-CAM++", case.name, "tf-keras-vis", *parts, remark)


def test_with_xplique(keras_case, compare):
    """Theirs is enlarged bicubically, and so are ours here. In Grad-CAM++ it takes the mean of A where the paper has
    the sum: α = g² / (2 g² + g³ · mean A)."""
    case = keras_case
    size = case.pictures.shape[1:3]

    def bicubic(maps):
        return tf.image.resize(maps[..., None], size, "bicubic").numpy()

    one_hot = case.one_hot
    options = dict(layer=case.layer, upsample=False)
    theirs = xplique.attributions.GradCAM(case.model, conv_layer=case.layer)(case.pictures, one_hot).numpy()
    ours = bicubic(cam.grad_cam(case.model, case.pictures, case.targets, **options))
    compare.same("Grad-CAM", case.name, "xplique", ours, theirs, "both enlarged bicubically")
    maps, slopes = activations_and_slopes(case)
    cubed = 2 * slopes**2 + slopes**3 * maps.mean((1, 2), keepdims=True)
    alpha = np.divide(slopes**2, cubed, where=cubed != 0, out=np.zeros_like(slopes))
    formula = bicubic(weighted(maps, (np.maximum(slopes, 0) * alpha).mean((1, 2))))
    theirs = xplique.attributions.GradCAMPP(case.model, conv_layer=case.layer)(case.pictures, one_hot).numpy()
    ours = bicubic(cam.grad_cam_plus_plus(case.model, case.pictures, case.targets, **options))
    parts = [values / values.max((1, 2), keepdims=True) for values in (ours, theirs, formula)]
    remark = "bicubic, divided by the largest value; theirs has the mean of A in place of the sum"
    compare.differs("Grad-CAM++", case.name, "xplique", *parts, remark)


def test_with_pair(case, compare):
    maps, slopes = activations_and_slopes(case)

    def call(pictures, call_model_args=None, expected_keys=None):
        return {pair.CONVOLUTION_LAYER_VALUES: maps[:1], pair.CONVOLUTION_OUTPUT_GRADIENTS: slopes[:1]}

    theirs = pair.GradCam().GetMask(case.pictures[0], call, should_resize=False, three_dims=False)
    ours = cam.grad_cam(case.model, case.pictures[0], case.targets[0], layer=case.layer, upsample=False)
    compare.same("Grad-CAM", case.name, "PAIR", ours, theirs, "theirs is given A and g")


def test_with_tf_explain(case, compare):
    """By default theirs uses "guided" gradients, g · [A > 0] · [g > 0], before the mean; and nothing is rectified."""
    peer = tf_explain.core.GradCAM
    theirs = {}
    for guided in (False, True):
        outputs, slopes = peer.get_gradients_and_filters(
            case.model, case.pictures[:1], case.layer, int(case.targets[0]), guided
        )
        theirs[guided] = np.stack(peer.generate_ponderated_output(outputs, slopes))
    ours = cam.grad_cam(
        case.model, case.pictures[:1], case.targets[:1], layer=case.layer, upsample=False, rectify=False
    )
    compare.same("Grad-CAM", case.name, "tf-explain", ours, theirs[False], "not rectified; use_guided_grads=False")
    maps, slopes = (values[:1] for values in activations_and_slopes(case))
    weights = (slopes * (maps > 0) * (slopes > 0)).mean((1, 2))
    formula = np.einsum("bhwk,bk->bhw", maps, weights)
    remark = "theirs by default: only positive gradients at active places are averaged"
    compare.differs("Grad-CAM", case.name, "tf-explain", ours, theirs[True], formula, remark)

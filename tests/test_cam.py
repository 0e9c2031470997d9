"""Class activation maps: each against its formula, written out slowly, and against the laws that it must obey."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import cam, engine, images, models, submodels
from helpers.submodels import taps
from helpers.submodels.graph import replay, trace

from . import zoo

L = keras.layers

BY_GRADIENT = [cam.grad_cam, cam.grad_cam_plus_plus, cam.layer_cam, cam.hires_cam, cam.xgrad_cam, cam.finer_cam]
BY_PASSES = [cam.score_cam, cam.ablation_cam]
MAPS = [cam.cam, *BY_GRADIENT, cam.eigen_cam, *BY_PASSES]
everywhere = pytest.mark.parametrize("method", MAPS, ids=lambda method: method.__name__)


def quiet(method):
    return {"progress": False} if "progress" in inspect.signature(method).parameters else {}


def build(name, seed=0):
    keras.utils.set_random_seed(seed)  # kernels too are the same in every run
    return zoo.build(name)


@pytest.fixture(scope="module")
def transfer():
    return build("transfer")  # nested; ends in pooling and Dense


@pytest.fixture(scope="module")
def residual():
    return build("residual")


def activation_and_gradient(model, layer, pictures, score):
    """What the methods start from, without anything of ours but the names: float64 `(B, h, w, K)`, twice."""
    taps = submodels.activations(model, layer)
    outputs = keras.Model(taps.inputs, [taps.outputs[0], trace(model).outputs])
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(pictures))
        maps, y = outputs(x, training=False)
        value = score(y)
    return np.asarray(maps, "float64"), np.asarray(tape.gradient(value, maps), "float64")


def plain(method, model, pictures, target, layer, **options):
    return method(model, pictures, target, layer=layer, upsample=False, rectify=False, **options)


# ---- the formulas, slowly --------------------------------------------------------------------------------------------


def slow_grad_cam(A, g):
    return sum(g[..., k].mean() * A[..., k] for k in range(A.shape[-1]))


def slow_grad_cam_plus_plus(A, g):
    result = 0
    for k in range(A.shape[-1]):
        weight = 0
        for slope in g[..., k].ravel():
            if slope > 0:
                weight += slope**2 / (2 * slope**2 + A[..., k].sum() * slope**3) * slope
        result = result + weight * A[..., k]
    return result


def slow_layer_cam(A, g):
    return sum(np.maximum(g[..., k], 0) * A[..., k] for k in range(A.shape[-1]))


def slow_hires_cam(A, g):
    return sum(g[..., k] * A[..., k] for k in range(A.shape[-1]))


def slow_xgrad_cam(A, g):
    result = 0
    for k in range(A.shape[-1]):
        total = A[..., k].sum()
        if total != 0:
            result = result + sum((A[..., k] / total * g[..., k]).ravel()) * A[..., k]
    return result


@pytest.mark.parametrize("layer", ["stem", "branch", "join", "depthwise"])
@pytest.mark.parametrize(
    ("method", "slow"),
    [
        (cam.grad_cam, slow_grad_cam),
        (cam.grad_cam_plus_plus, slow_grad_cam_plus_plus),
        (cam.layer_cam, slow_layer_cam),
        (cam.hires_cam, slow_hires_cam),
        (cam.xgrad_cam, slow_xgrad_cam),
    ],
    ids=lambda function: function.__name__,
)
def test_the_formulas_in_numpy(residual, method, slow, layer):
    pictures = zoo.pictures(3)
    A, g = activation_and_gradient(residual, layer, pictures, lambda y: y[:, 2])
    wanted = np.stack([slow(*pair) for pair in zip(A, g, strict=True)])
    found = plain(method, residual, pictures, 2, layer)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    rectified = method(residual, pictures, 2, layer=layer, upsample=False, rectify=True)
    np.testing.assert_array_equal(rectified, np.maximum(found, 0))
    np.testing.assert_array_equal(
        method(residual, pictures, 2, layer=layer, rectify=True),
        np.stack([images.resize(one, (16, 16)) for one in rectified]),
    )


def test_small_gradients_do_not_vanish_in_grad_cam_plus_plus(residual):
    pictures = zoo.pictures(1)
    tiny = plain(cam.grad_cam_plus_plus, residual, pictures, lambda y: 1e-25 * y[:, 2], "branch")
    A, g = activation_and_gradient(residual, "branch", pictures, lambda y: y[:, 2])
    wanted = slow_grad_cam_plus_plus(A[0], 1e-25 * g[0])
    assert wanted.max() > 0
    np.testing.assert_allclose(tiny[0] * 1e25, wanted * 1e25, rtol=1e-4, atol=1e-6 * wanted.max() * 1e25)


def test_the_example_of_captum():
    picture = keras.Input((4, 4, 1))
    x = L.Conv2D(2, 3, name="conv")(picture)
    x = L.ReLU(name="relu")(x)
    x = L.Dense(1, use_bias=False, name="dense")(L.Flatten()(L.Permute((3, 1, 2))(x)))
    model = keras.Model(picture, L.ReLU()(x))
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 2)), np.array([-50.0, -75.0])])
    model.get_layer("dense").set_weights([np.array([1.0] * 5 + [-1.0] * 3)[:, None]])
    square = np.arange(16.0).reshape(4, 4, 1)
    before = plain(cam.grad_cam, model, square, 0, "conv")
    np.testing.assert_allclose(before, [[11.25, 13.5], [20.25, 22.5]], rtol=1e-6)
    after = plain(cam.grad_cam, model, square, 0, "relu")
    np.testing.assert_allclose(after, [[0, 4], [28, 32.5]], rtol=1e-6)


# ---- a head that is linear in the layer ------------------------------------------------------------------------------


def test_cam_is_the_kernel_times_the_maps_and_grad_cam_but_for_a_factor(transfer):
    pictures = zoo.pictures(3)
    maps = np.asarray(submodels.activations(transfer, "join")(pictures)["join"])
    kernel, bias = transfer.get_layer("dense").get_weights()
    outputs = np.asarray(transfer(pictures))
    for target, classes in ((3, [3] * 3), ([0, 4, 2], [0, 4, 2]), (None, outputs.argmax(-1))):
        wanted = np.stack([one @ kernel[:, c] for one, c in zip(maps, classes, strict=True)])
        found = cam.cam(transfer, pictures, target, upsample=False)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
        logits = outputs[range(3), classes]
        np.testing.assert_allclose(found.mean((1, 2)), logits - bias[classes], rtol=1e-4)
        weighed = cam.grad_cam(transfer, pictures, target, upsample=False, rectify=False)
        np.testing.assert_allclose(weighed * 16 * 16, found, atol=1e-5 * np.abs(wanted).max())


def linear_heads():
    functional, digits = submodels.logits(build("functional")), models.load("mnist_cnn")
    yield "pooling", functional, None, "answer", zoo.pictures(3)
    yield "flatten", submodels.logits(build("sequential")), "pool1", "dense", zoo.pictures(3)
    yield "nested", build("transfer"), None, "dense", zoo.pictures(3)
    rng = np.random.default_rng(0)
    yield "digits", digits, None, "logits", rng.uniform(0, 255, (3, 28, 28, 1)).astype("float32")


@pytest.mark.parametrize(("model", "layer", "dense", "pictures"), [pytest.param(*r, id=i) for i, *r in linear_heads()])
def test_hires_and_xgrad_sum_to_the_logit_without_its_bias(model, layer, dense, pictures):
    bias = model.get_layer(dense).get_weights()[1]
    wanted = np.asarray(model(pictures))[:, 4] - bias[4]
    for method in (cam.hires_cam, cam.xgrad_cam):
        sums = plain(method, model, pictures, 4, layer).sum((1, 2))
        np.testing.assert_allclose(sums, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_the_heads_that_cam_takes():
    def head(*layers):
        rows = [keras.Input((8, 8, 3)), L.Conv2D(4, 3, activation="relu", name="conv"), *layers]
        return zoo._randomised(keras.Sequential(rows))

    pooling = L.GlobalAveragePooling2D
    picture = zoo.pictures(1)[:, :8, :8]
    for model, kernel in (
        (head(L.SpatialDropout2D(0.5), pooling(), L.Dropout(0.5), L.Dense(5, name="d"), L.Softmax()), "d"),
        (head(pooling(), L.Dense(5, "sigmoid", name="d")), "d"),
        (head(pooling(keepdims=True), L.Dropout(0.1), L.Conv2D(5, 1, name="d"), L.Reshape((5,)), L.Softmax()), "d"),
        (head(pooling(keepdims=True), L.Flatten(), L.Activation("linear"), L.Dense(5, name="d")), "d"),
    ):
        maps = np.asarray(submodels.activations(model, "conv")(picture)["conv"])[0]
        wanted = maps @ model.get_layer(kernel).get_weights()[0].reshape(4, 5)[:, 1]
        found = cam.cam(model, picture, 1, layer="conv", upsample=False)[0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    normalised = head(pooling(), L.BatchNormalization(name="norm"), L.Dense(5, name="d"))  # folded into the Dense layer
    found = cam.cam(normalised, picture, 1, layer="conv", upsample=False)[0]
    hires = plain(cam.hires_cam, normalised, picture, 1, "conv")[0]
    np.testing.assert_allclose(found / 36, hires, atol=1e-6)

    for layers, reason in (
        ((L.Flatten(), L.Dense(5)), "there comes 'flatten"),
        ((L.GlobalMaxPooling2D(), L.Dense(5)), "GlobalMaxPooling2D"),
        ((L.Conv2D(4, 3, name="second"), pooling(), L.Dense(5)), "there comes 'second'"),
        ((pooling(), L.Dense(4, name="hidden"), L.Dense(5, name="last")), "there comes 'last'"),
        ((pooling(), L.Activation("relu", name="bend"), L.Dense(5)), "there comes 'bend'"),
        ((pooling(),), "ends without them"),
    ):
        with pytest.raises(ValueError, match=f"{reason}.*cam.grad_cam.*cam.hires_cam"):
            cam.cam(head(*layers), picture, 0, layer="conv")
    with pytest.raises(ValueError, match="forks to 'branch', 'join'.*grad_cam"):
        cam.cam(zoo.build("residual"), zoo.pictures(1), 0, layer="stem")
    with pytest.raises(ValueError, match="function as target use cam.grad_cam"):
        cam.cam(zoo.build("two_outputs"), zoo.pictures(1), lambda y: y["kind"][:, 0])


# ---- without gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["stem", "depthwise"])
def test_eigen_cam_is_the_first_singular_direction(residual, layer):
    pictures = zoo.pictures(3)
    maps = np.asarray(submodels.activations(residual, layer)(pictures)[layer], "float64")
    for center in (False, True):
        found = plain(cam.eigen_cam, residual, pictures, None, layer, center=center)
        for own, one in zip(maps, found, strict=True):
            places = own.reshape(-1, own.shape[-1])
            matrix = places - places.mean(0) if center else places
            _, directions = np.linalg.eigh(matrix.T @ matrix)
            wanted = (matrix @ directions[:, -1]).reshape(own.shape[:2])
            wanted = wanted * np.sign((wanted * (own**2).sum(-1)).sum())
            np.testing.assert_allclose(one, wanted, atol=1e-4 * np.abs(wanted).max())
            assert np.corrcoef(one.ravel(), (own**2).sum(-1).ravel())[0, 1] > 0
    assert plain(cam.eigen_cam, residual, pictures, None, layer).min() > -1e-5  # maps after a ReLU: all of one sign


def test_eigen_cam_with_more_channels_than_places():
    model = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(20, 5, 4, activation="relu", name="wide")])
    picture = zoo.pictures(1)
    places = np.asarray(model(picture), "float64").reshape(9, 20)
    for center in (False, True):
        matrix = places - places.mean(0) if center else places
        wanted = matrix @ np.linalg.svd(matrix)[2][0]
        found = plain(cam.eigen_cam, model, picture, None, "wide", center=center).ravel()
        np.testing.assert_allclose(found, wanted * np.sign(found @ wanted), atol=1e-5 * np.abs(wanted).max())
        assert found @ (places**2).sum(1) > 0


def test_eigen_cam_needs_no_class():
    network = models.load("vgg19", size=32)
    assert cam.eigen_cam(network, np.full((32, 32, 3), 99.0), layer="block2_pool").max() > 0
    two = zoo.build("two_outputs")
    assert cam.eigen_cam(two, zoo.pictures(2)).shape == (2, 16, 16)


def slow_score_cam(model, picture, target, layer, count=None, black=0.0):
    maps = np.asarray(submodels.activations(model, layer)(picture[None])[layer])[0]
    order = sorted(range(maps.shape[-1]), key=lambda k: -maps[..., k].std())[:count]
    scores = []
    for k in order:
        mask = tf.image.resize(maps[..., k, None], picture.shape[:2]).numpy()
        span = mask.max() - mask.min()
        mask = (mask - mask.min()) / span if span else 0 * mask
        scores.append(float(model((black + mask * (picture - black))[None])[0, target]))
    weights = np.exp(np.array(scores) - max(scores))
    return sum(w * maps[..., k] for w, k in zip(weights / weights.sum(), order, strict=True))


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"baseline": 0.7, "batch": 4}])
@pytest.mark.parametrize("name", ["residual", "transfer"])
def test_score_cam_one_channel_at_a_time(name, options):
    model, pictures = zoo.build(name), zoo.pictures(2)
    for layer in ("branch", "join"):
        found = plain(cam.score_cam, model, pictures, [1, 3], layer, progress=False, **options)
        for row, target in enumerate((1, 3)):
            wanted = slow_score_cam(
                model, pictures[row], target, layer, options.get("channels"), options.get("baseline", 0.0)
            )
            np.testing.assert_allclose(found[row], wanted, atol=1e-4 * np.abs(wanted).max())


def quarter_dead():
    """A layer with two channels of eight that are zero everywhere, and one that is constant."""
    model = zoo.build("functional")
    model = submodels.logits(keras.Model(model.input, model.output))
    layer = model.get_layer("conv1")
    kernel, bias = layer.get_weights()
    kernel[..., [0, 2, 5]], bias[[0, 2, 5]] = 0, (-1, -1, 0.5)
    layer.set_weights([kernel, bias])
    return model


def test_silent_channels_cost_no_pass_and_change_nothing():
    model, pictures = quarter_dead(), zoo.pictures(1)
    rows = []
    with engine.watched(rows.append):
        found = plain(cam.score_cam, model, pictures, 1, "conv1", progress=False)[0]
    assert sum(rows) == 1 + 3 + 1  # the maps, the three that vary, and one empty mask
    np.testing.assert_allclose(found, slow_score_cam(model, pictures[0], 1, "conv1"), rtol=1e-4)
    rows.clear()
    with engine.watched(rows.append):
        found = plain(cam.ablation_cam, model, pictures, 1, "conv1", progress=False)[0]
    assert sum(rows) == 1 + 1 + 4  # the maps, the score itself, and the four channels that are not zero
    np.testing.assert_allclose(found, slow_ablation_cam(model, pictures[0], 1, "conv1"), rtol=1e-3, atol=1e-5)


def slow_ablation_cam(model, picture, target, layer):
    """By setting the weights that make the channel to zero: only for convolutions with their own ReLU."""
    maps = np.asarray(submodels.activations(model, layer)(picture[None])[layer])[0]
    score = float(model(picture[None])[0, target])
    source = trace(model).calls[trace(model).index(layer)].operation
    kernel, bias = source.get_weights()
    result = 0
    for k in range(maps.shape[-1]):
        without, nothing = kernel.copy(), bias.copy()
        without[..., k], nothing[k] = 0, 0
        source.set_weights([without, nothing])
        result = result + (score - float(model(picture[None])[0, target])) / abs(score) * maps[..., k]
    source.set_weights([kernel, bias])
    return result


@pytest.mark.parametrize("name", ["residual", "transfer"])
def test_ablation_cam_one_channel_at_a_time(name):
    model, pictures = zoo.build(name), zoo.pictures(2)
    model.get_layer("dense").bias.assign(np.linspace(-3, 3, 5))
    scores = np.asarray(model(pictures))
    targets = [int(scores[0].argmin()), int(scores[1].argmax())]
    assert scores[0].min() < 0 < scores[1].max()  # a drop counts for the channel with either sign of the score
    for layer in ("stem", "branch"):  # a path goes around the second
        found = plain(cam.ablation_cam, model, pictures, targets, layer, progress=False, batch=4)
        for row, target in enumerate(targets):
            wanted = slow_ablation_cam(model, pictures[row], target, layer)
            np.testing.assert_allclose(found[row], wanted, atol=1e-4 * np.abs(wanted).max())


def test_ablation_of_one_call_of_a_shared_layer():
    model, picture = zoo.build("shared"), zoo.pictures(1)
    twice, block = (model.get_layer(name) for name in ("twice", "block"))
    tail = keras.Sequential([block, twice, block, *model.layers[-2:]])
    maps = np.asarray(twice(picture))
    score = float(model(picture)[0, 0])
    wanted = 0
    for k in range(maps.shape[-1]):
        drop = score - float(tail(maps * (np.arange(maps.shape[-1]) != k))[0, 0])
        wanted = wanted + drop / abs(score) * maps[0, ..., k]
    found = plain(cam.ablation_cam, model, picture, 0, "twice", progress=False)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_network_is_cut_at_any_layer(name):
    model, pictures = zoo.build(name), zoo.pictures(2)
    for layer in submodels.layer_names(model):
        body, head = taps.cut(model, layer)
        for one, two in zip(keras.tree.flatten(head(body(pictures))), keras.tree.flatten(model(pictures)), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    if name == "residual":
        _, head = taps.cut(model, "branch")
        assert {"stem", "branch"}.isdisjoint(layer.name for layer in head.layers)


# ---- Finer-CAM -------------------------------------------------------------------------------------------------------


def test_finer_cam_is_grad_cam_of_a_difference(residual):
    pictures = zoo.pictures(3)
    outputs = np.asarray(residual(pictures))

    def by_hand(classes, others, gamma):
        def score(y):
            own = tf.gather(y, classes, batch_dims=1)
            return own - gamma * tf.reduce_mean(tf.gather(y, others, batch_dims=1), -1)

        return plain(cam.grad_cam, residual, pictures, score, "branch")

    for target, classes in ((None, outputs.argmax(-1)), ([1, 2, 0], [1, 2, 0])):
        distance = np.abs(outputs - outputs[range(3), classes][:, None])
        nearest = distance.argsort(-1)[:, 1:]
        for compare, gamma in ((3, 0.6), (1, 1.0), (4, 0.3)):
            found = plain(cam.finer_cam, residual, pictures, target, "branch", compare=compare, gamma=gamma)
            wanted = by_hand(classes, nearest[:, :compare], gamma)
            np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    found = plain(cam.finer_cam, residual, pictures, 0, "branch", compare=[2, 4])
    wanted = by_hand([0] * 3, [[2, 4]] * 3, 0.6)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(cam.finer_cam(residual, pictures, gamma=0), cam.grad_cam(residual, pictures), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare": 0}, "besides the target there are 4 classes"),
        ({"compare": 5}, "besides the target there are 4 classes"),
        ({"compare": True}, "a number of classes, or a list"),
        ({"compare": 1.5}, "a number of classes, or a list"),
        ({"compare": []}, "a number of classes, or a list"),
        ({"compare": [5]}, "has 5 outputs, 0 to 4"),
        ({"compare": [1, 2], "target": 2}, "has the target itself"),
        ({"gamma": -0.1}, "gamma=-0.1: give a number, at least 0"),
        ({"gamma": np.nan}, "gamma=nan"),
        ({"target": lambda y: y[:, 0]}, "use cam.grad_cam"),
    ],
)
def test_finer_cam_refuses(residual, options, message):
    with pytest.raises(ValueError, match=message):
        cam.finer_cam(residual, zoo.pictures(2), **options)


# ---- what holds for all ----------------------------------------------------------------------------------------------


@everywhere
def test_shapes_signs_and_one_picture(transfer, method):
    pictures = zoo.pictures(2)
    found = method(transfer, pictures, 1, **quiet(method))
    assert found.shape == (2, 16, 16) and found.dtype == np.float32
    one = method(transfer, pictures[0], 1, **quiet(method))
    np.testing.assert_allclose(one, found[0], atol=1e-5 * np.abs(found).max())
    signed = method in (cam.cam, cam.hires_cam)
    assert (found.min() < 0) == signed
    np.testing.assert_allclose(np.maximum(found, 0), method(transfer, pictures, 1, rectify=True, **quiet(method)),
                               atol=np.abs(found).max() * (0.5 if signed else 1e-5))  # fmt: skip


@everywhere
def test_batches_of_1_and_33_give_the_same_rows(transfer, method):
    pictures = zoo.pictures(33)
    together = method(transfer, pictures, **quiet(method))
    for row in (0, 16, 32):
        alone = method(transfer, pictures[row : row + 1], **quiet(method))[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5 * np.abs(alone).max())


@everywhere
def test_constant_pictures_and_empty_maps_are_finite(method):
    model = zoo.build("transfer")
    for picture in (np.zeros((16, 16, 3)), np.full((16, 16, 3), 7.0)):
        assert np.isfinite(method(model, picture, 1, **quiet(method))).all()
    model.get_layer("dense").set_weights([np.zeros((6, 5)), np.zeros(5)])
    for layer in (None, ["join", "stem"]) if method is not cam.cam else (None,):
        found = method(model, zoo.pictures(2), 1, layer=layer, **quiet(method))
        assert np.isfinite(found).all()
        if method not in (cam.eigen_cam, cam.score_cam):  # these do not ask the score, or only for ranks
            assert not found.any()
    for name in ("stem", "branch"):  # a layer in which nothing fires
        layer = trace(model).calls[trace(model).index(name)].operation
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    assert not method(model, zoo.pictures(1), 1, **quiet(method)).any()


@everywhere
def test_digits_in_grey(method):
    model = models.load("mnist_cnn")
    if method is cam.cam:
        with pytest.raises(ValueError, match="'flatten'.*grad_cam"):
            method(model, np.ones((28, 28, 1)))
        return
    digits = np.random.default_rng(0).uniform(0, 255, (2, 28, 28, 1))
    found = method(model, digits, **quiet(method))
    assert found.shape == (2, 28, 28) and np.isfinite(found).all() and found.any()
    assert method(model, digits, upsample=False, **quiet(method)).shape == (2, 7, 7)


@pytest.mark.parametrize("method", [m for m in MAPS if m not in (cam.cam, cam.finer_cam)])
def test_two_outputs_with_a_function_as_target(method):
    model, pictures = zoo.build("two_outputs"), zoo.pictures(2)
    single = submodels.activations(model, "size")
    single = keras.Model(single.inputs, single.outputs)
    found = plain(method, model, pictures, lambda y: y["size"][:, 0], "trunk", **quiet(method))
    wanted = plain(method, single, pictures, 0, "trunk", **quiet(method))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    other = plain(method, model, pictures, lambda y: y["kind"][:, 3], "trunk", **quiet(method))
    if method is not cam.eigen_cam:
        assert np.abs(other - found).max() > 1e-3 * np.abs(found).max()
        with pytest.raises(ValueError, match="2 outputs.*which one is meant"):
            method(model, pictures, **quiet(method))


@everywhere
def test_folded_or_not_the_layer_is_that_of_the_reader(method):
    """A layer that BatchNorm is folded into, the BatchNorm itself, and what comes after."""
    model, pictures = submodels.logits(zoo.build("functional")), zoo.pictures(2)
    source = model.get_layer("norm2")
    scale = source.gamma.numpy() / np.sqrt(source.moving_variance.numpy() + source.epsilon)
    shift = source.beta.numpy() - scale * source.moving_mean.numpy()
    rescaling = L.Lambda(lambda x: scale * x + shift, name="norm2")
    open_twin = replay(trace(model), lambda call: rescaling if call.name == "norm2" else call.operation).model()
    np.testing.assert_allclose(open_twin(pictures), model(pictures), atol=1e-4)
    for layer in ("conv1", "conv2", "norm2", "relu2"):
        if method is cam.cam and layer != "relu2":
            continue
        found = plain(method, model, pictures, 2, layer, **quiet(method))
        wanted = plain(method, open_twin, pictures, 2, layer, **quiet(method))
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=layer)


def test_nested_networks_and_names_inside_them(transfer):
    pictures, flat = zoo.pictures(2), submodels.flatten(transfer)
    for layer in (None, "branch", "base/branch", "base"):
        np.testing.assert_allclose(
            cam.grad_cam(transfer, pictures, layer=layer),
            cam.grad_cam(flat, pictures, layer={"base": "join", "base/branch": "branch"}.get(layer, layer)),
            atol=1e-6,
        )


def test_softmax_changes_grad_cam_and_not_cam():
    model, pictures = zoo.build("functional"), zoo.pictures(2)
    logits = submodels.logits(model)
    np.testing.assert_allclose(cam.cam(model, pictures, 1), cam.cam(logits, pictures, 1), atol=1e-5)
    A, g = activation_and_gradient(model, "relu2", pictures, lambda y: y[:, 1])
    found = plain(cam.grad_cam, model, pictures, 1, None)
    np.testing.assert_allclose(found[0], slow_grad_cam(A[0], g[0]), atol=1e-5 * np.abs(found[0]).max())
    assert np.abs(found - plain(cam.grad_cam, logits, pictures, 1, None)).max() > 0.1 * np.abs(found).max()


@everywhere
def test_several_layers_are_fused(residual, transfer, method):
    model, layers = (residual, ["stem", "depthwise"]) if method is not cam.cam else (transfer, ["join", "base"])
    pictures = zoo.pictures(2)
    single = [method(model, pictures, 1, layer=layer, **quiet(method)) for layer in layers]
    assert all(one.any((1, 2)).all() for one in single)
    wanted = np.mean([one / np.abs(one).max((1, 2), keepdims=True) for one in single], 0)
    np.testing.assert_allclose(method(model, pictures, 1, layer=layers, **quiet(method)), wanted, atol=1e-5)
    assert wanted.max() <= 1
    if method is not cam.cam:
        with pytest.raises(ValueError, match=r"'stem': \(16, 16\), 'depthwise': \(7, 7\).*upsample=True"):
            method(model, pictures, 1, layer=layers, upsample=False, **quiet(method))
        same = method(model, pictures, 1, layer=["stem", "branch"], upsample=False, **quiet(method))
        assert same.shape == (2, 16, 16)


def test_the_map_follows_the_weights(transfer):
    model, pictures = zoo.build("transfer"), zoo.pictures(1)
    for method in MAPS:
        method(model, pictures, 1, **quiet(method))
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    twin = zoo.build("transfer")
    twin.set_weights(model.get_weights())
    for method in MAPS:
        np.testing.assert_array_equal(
            method(model, pictures, 1, **quiet(method)), method(twin, pictures, 1, **quiet(method))
        )


def test_nothing_is_compiled_twice_and_no_other_pass_is_made(residual):
    model, calls = zoo.build("residual"), []
    run = engine.stream
    for count in (1, 2, 5, 16, 33):
        cam.grad_cam(model, zoo.pictures(count))
    store = model.__dict__["_helpers_cache"].built
    function = store["attribution", ("_averaged", ("depthwise",)), True]["function"]
    assert function.experimental_get_tracing_count() <= 2  # one for a single picture, one for any number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "stream", lambda *args, **options: calls.append(args[0]) or run(*args, **options))
        cam.grad_cam(model, zoo.pictures(1))
    assert len(calls) == 1  # the class is found in the pass itself


def test_the_model_is_left_as_it_was(transfer):
    before = [np.copy(weight) for weight in transfer.get_weights()]
    for method in MAPS:
        method(transfer, zoo.pictures(1), **quiet(method))
        with pytest.raises(ValueError):
            method(transfer, zoo.pictures(1), layer="gap", **quiet(method))
    for one, two in zip(before, transfer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert transfer.trainable


@everywhere
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 5}, "has 5 outputs, 0 to 4"),
        ({"target": [0, 1]}, "one int for each"),
        ({"layer": "gap"}, "'gap'.*no spatial axes"),
        ({"layer": "jion"}, "no layer 'jion'.*'join'"),
        ({"layer": []}, "empty list"),
        ({"layer": ["join", "dense"]}, "'dense'.*no spatial axes"),
        ({"images": np.zeros((16, 16))}, "images has shape"),
        ({"images": np.zeros((8, 8, 3))}, "takes pictures of 16"),
        ({"images": np.full((16, 16, 3), np.nan)}, "NaN"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_bad_input(transfer, method, options, message):
    given = {"images": zoo.pictures(1), "target": 0, **quiet(method), **options}
    with pytest.raises(ValueError, match=message):
        method(transfer, **given)


@everywhere
def test_a_network_without_a_spatial_layer(method):
    flat = keras.Sequential([keras.Input((16, 16, 3)), L.Flatten(), L.Dense(2)])
    with pytest.raises(ValueError, match="no layer with spatial axes"):
        method(flat, zoo.pictures(1), 0, **quiet(method))
    with pytest.raises(ValueError, match="is the input"):
        method(flat, zoo.pictures(1), 0, layer=flat.inputs[0].name, **quiet(method))


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"channels": 7}, {"channels": 1.5}, {"channels": -1}])
def test_score_cam_refuses_channels(residual, wrong):
    with pytest.raises(ValueError, match="has 6; give 1 to 6"):
        cam.score_cam(residual, zoo.pictures(1), progress=False, **wrong)


def test_score_cam_refuses_baselines(residual):
    for wrong, message in ((np.zeros((8, 8, 3)), "baseline has shape"), (np.inf, "NaN or infinite")):
        with pytest.raises(ValueError, match=message):
            cam.score_cam(residual, zoo.pictures(1), progress=False, baseline=wrong)


# ---- Guided Grad-CAM -------------------------------------------------------------------------------------------------


def test_guided_grad_cam_is_the_product(transfer):
    pictures, ruled = zoo.pictures(2), submodels.relu_rule(transfer, "guided")
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(pictures))
        score = ruled(x, training=False)[:, 3]
    details = np.asarray(tape.gradient(score, x))
    for options in ({}, {"layer": "stem"}, {"layer": ["stem", "join"], "rectify": False}):
        maps = cam.grad_cam(transfer, pictures, 3, **options)
        found = cam.guided_grad_cam(transfer, pictures, 3, **options)
        assert found.shape == pictures.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, details * maps[..., None], atol=1e-5 * np.abs(found).max())
    one = cam.guided_grad_cam(transfer, pictures[1], 3, layer="stem")
    np.testing.assert_allclose(one, cam.guided_grad_cam(transfer, pictures, 3, layer="stem")[1], atol=1e-6)
    for picture in (np.zeros((16, 16, 3)), np.full((16, 16, 3), 7.0)):
        assert np.isfinite(cam.guided_grad_cam(transfer, picture)).all()


def test_guided_grad_cam_needs_relus():
    rows = [keras.Input((16, 16, 3)), L.Conv2D(4, 3, activation="swish"), L.Flatten(), L.Dense(2)]
    with pytest.raises(ValueError, match="has no ReLU"):
        cam.guided_grad_cam(keras.Sequential(rows), zoo.pictures(1))


# ---- a real network --------------------------------------------------------------------------------------------------


def test_cam_on_the_bundled_network():
    network = models.load("efficientnet_lite0")
    pictures = images.batch(images.sample("koala"), images.sample("panda"))
    bias = network.get_layer("logits").get_weights()[1]
    outputs = engine.run(network, pictures)
    found = cam.cam(network, pictures, upsample=False)
    np.testing.assert_allclose(found.mean((1, 2)), outputs.max(-1) - bias[outputs.argmax(-1)], rtol=1e-4)
    grad = cam.grad_cam(network, pictures, upsample=False, rectify=False)
    np.testing.assert_allclose(grad * 49, found, atol=1e-4 * np.abs(found).max())
    np.testing.assert_allclose(
        plain(cam.xgrad_cam, network, pictures, None, None), grad, atol=1e-4 * np.abs(grad).max()
    )
    ablation = plain(cam.ablation_cam, network, pictures, None, None, progress=False)
    np.testing.assert_allclose(  # linear head: what is lost is what was there
        ablation[0] * outputs[0].max(),
        slow_hires_ablation(network, pictures[0], int(outputs[0].argmax())),
        atol=1e-3 * np.abs(ablation[0] * outputs[0].max()).max(),
    )


def slow_hires_ablation(network, picture, target):
    maps = np.asarray(submodels.activations(network, "head_relu")(picture[None])["head_relu"])[0]
    kernel = network.get_layer("logits").get_weights()[0][:, target]
    return maps @ (kernel * maps.mean((0, 1)))


def test_the_default_layer_is_neither_the_preprocessed_picture_nor_its_border():
    def network(*layers):
        return keras.Sequential([keras.Input((12, 12, 3)), *layers, L.Flatten(), L.Dense(3)])

    for before in ([L.Rescaling(1 / 255)], [L.RandomZoom(0.2), L.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)]):
        with pytest.raises(ValueError, match="no layer with spatial axes after one with a kernel"):
            cam.grad_cam(network(*before), np.zeros((12, 12, 3)), 0)
        model = network(*before, L.Conv2D(4, 3, name="conv"), L.ZeroPadding2D(1))
        picture = np.random.default_rng(0).normal(size=(12, 12, 3))
        found = cam.grad_cam(model, picture, 0, upsample=False, rectify=False)
        np.testing.assert_array_equal(found, plain(cam.grad_cam, model, picture, 0, "conv"))
        assert found.shape == (10, 10) and found.any()


@everywhere
def test_a_layer_by_name_as_an_object_or_by_its_place(method, transfer):
    name = "base/join"
    by_name = method(transfer, zoo.pictures(1), 1, layer=name, **quiet(method))
    place = submodels.layer_names(transfer).index("join")
    layer = transfer.get_layer("base").get_layer("join")
    for given in (layer, place, place - len(submodels.layer_names(transfer))):
        np.testing.assert_array_equal(method(transfer, zoo.pictures(1), 1, layer=given, **quiet(method)), by_name)
    with pytest.raises(ValueError, match="There is no layer 99"):
        method(transfer, zoo.pictures(1), 1, layer=99, **quiet(method))


def test_finer_cam_compares_what_there_is():
    def network(classes):
        rows = [keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="conv"), L.GlobalAveragePooling2D(), L.Dense(classes)]
        return zoo._randomised(keras.Sequential(rows))

    two, pictures = network(2), zoo.pictures(2)
    wanted = cam.grad_cam(two, pictures, lambda y: y[:, 0] - 0.6 * y[:, 1])
    np.testing.assert_allclose(cam.finer_cam(two, pictures, 0), wanted, atol=1e-6)
    with pytest.raises(ValueError, match="has one output: use cam.grad_cam"):
        cam.finer_cam(network(1), pictures, 0)
    count = len(two.__dict__["_helpers_cache"].built)
    for gamma in (0.1, 0.2, 0.3):
        cam.finer_cam(two, pictures, 0, gamma=gamma)
    assert len(two.__dict__["_helpers_cache"].built) == count

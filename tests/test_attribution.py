"""What all attribution methods share: targets, folding, compiled gradients, baselines."""

import functools
import gc
import inspect
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import cam, engine, gradients, images, models, perturbation, relevance, submodels
from helpers.attribution import shared, targets
from helpers.submodels import folding

from . import zoo

L = keras.layers


@pytest.fixture(scope="module")
def functional():
    keras.utils.set_random_seed(0)  # a module's fixture comes before the seed of each test
    return zoo.build("functional")


def tape_gradient(model, pictures, classes):
    pictures = tf.constant(pictures)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        score = tf.gather(model(pictures, training=False), classes, batch_dims=1)
    return tape.gradient(score, pictures).numpy()


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_gradients_are_those_of_the_readers_model(name):
    model, pictures = zoo.common(name), zoo.pictures(5)
    own = np.argmax(model(pictures, training=False), -1)
    for target, classes in ((None, own), (2, [2] * 5), ([0, 1, 2, 3, 4], range(5)), (np.int64(1), [1] * 5)):
        task = shared.prepare(model, pictures, target)
        scores, found = engine.run(shared.gradients(task), task.images, task.targets)
        wanted = tape_gradient(model, pictures, list(classes))
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
        np.testing.assert_allclose(
            scores, np.take_along_axis(model(pictures).numpy(), np.c_[list(classes)], 1)[:, 0], atol=1e-5
        )


def test_the_own_class_may_be_found_in_the_pass_itself(functional):
    pictures = zoo.pictures(4)
    task = shared.prepare(functional, pictures, resolve=False)
    assert (task.targets == targets.OWN).all()
    resolved = shared.prepare(functional, pictures)
    for one, two in zip(
        engine.run(shared.gradients(task), pictures, task.targets),
        engine.run(shared.gradients(resolved), pictures, resolved.targets),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_a_function_as_target_and_only_the_latest_is_kept(functional):
    model, pictures = zoo.build("two_outputs"), zoo.pictures(3)
    for target, pick in (
        (lambda y: y["kind"][:, 1], lambda y: y["kind"][:, 1]),
        (lambda y: y["size"][:, 0], lambda y: y["size"][:, 0]),
    ):
        task = shared.prepare(model, pictures, target)
        scores, _ = engine.run(shared.gradients(task), pictures, task.targets)
        np.testing.assert_allclose(scores, pick(model(pictures)), atol=1e-6)
    slots = [value for key, value in model.__dict__["_helpers_cache"].built.items() if key[0] == "attribution"]
    assert len(slots) == 1


@pytest.mark.parametrize("layer", ["conv1", "conv2", "relu2", "norm2"])
def test_layer_gradients_where_folding_would_change_the_layer(functional, layer):
    pictures = zoo.pictures(2)
    task = shared.prepare(functional, pictures, 3, layers=[layer])
    score, activations, gradients = engine.run(shared.layer_gradients(task, [layer]), pictures, task.targets)
    taps = submodels.activations(functional, [layer, "answer"])
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(pictures))
        outputs = taps(x, training=False)
    wanted = tape.gradient(outputs["answer"], outputs[layer], output_gradients=tf.one_hot([3, 3], 5))
    np.testing.assert_allclose(activations[layer], outputs[layer], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradients[layer], wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(score, outputs["answer"][:, 3], atol=1e-6)


def test_layer_gradients_differentiate_no_deeper_than_the_layer():
    task = shared.prepare(zoo.common("residual"), zoo.pictures(1), 0, layers=["branch"])
    function = shared.layer_gradients(task, ["branch"])
    graph = function.get_concrete_function(tf.TensorSpec((1, 16, 16, 3)), tf.TensorSpec((1,), tf.int32)).graph
    needed, queue = set(), [tensor.op for tensor in graph.outputs]
    while queue:  # TensorFlow runs what the outputs need, and nothing else
        op = queue.pop()
        if op.name not in needed:
            needed.add(op.name)
            queue += [tensor.op for tensor in op.inputs]
    backward = [op.type for op in graph.get_operations() if op.name in needed and "Backprop" in op.type]
    assert backward == ["DepthwiseConv2dNativeBackpropInput"]  # of the one convolution after the layer


def test_folding_follows_the_weights(functional):
    model, pictures = zoo.build("functional"), zoo.pictures(2)
    task = shared.prepare(model, pictures, 1)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in task.model.layers)
    function = shared.gradients(task)
    rng = np.random.default_rng(3)
    for name in ("norm2", "conv2", "conv1"):
        layer = model.get_layer(name)
        layer.set_weights([weight[::-1] * rng.uniform(0.5, 1.5) for weight in layer.get_weights()])
        task = shared.prepare(model, pictures, 1)
        assert shared.gradients(task) is function  # nothing is compiled again
        wanted = tape_gradient(model, pictures, [1, 1])
        np.testing.assert_allclose(
            engine.run(function, pictures, task.targets)[1], wanted, atol=2e-5 * np.abs(wanted).max()
        )


def test_weights_in_another_order_are_noticed():
    model, pictures = zoo.build("functional"), zoo.pictures(1)
    before = folding.following(model)[0](pictures)
    kernel = model.get_layer("conv1").kernel
    kernel.assign(keras.ops.flip(kernel, 3))  # the same numbers: their sum would not tell
    after = folding.following(model)[0](pictures)
    np.testing.assert_allclose(after, model(pictures), rtol=1e-4, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_a_padding_layer_that_folding_does_without_can_be_looked_at():
    model, pictures = zoo.application("MobileNetV2", 64), images.batch(images.sample("koala"), size=64)
    lean = shared.prepare(model, pictures, 1).model
    assert not any(isinstance(layer, L.ZeroPadding2D) for layer in lean.layers)
    np.testing.assert_allclose(lean(pictures), model(pictures), atol=1e-4 * np.abs(model(pictures)).max())
    name = submodels.layer_names(model, "ZeroPadding2D")[-1]
    maps = cam.grad_cam(model, pictures, 1, layer=name, upsample=False)
    assert maps.shape[1:] == tuple(submodels.activations(model, name).output[name].shape[1:3])


def test_a_task_does_not_keep_the_model_alive():
    model = zoo.build("functional")
    task = shared.prepare(model, zoo.pictures(1))
    engine.run(shared.gradients(task), task.images, task.targets)
    gone = weakref.ref(model)
    del model, task
    gc.collect()
    assert gone() is None


ROOMS = {
    "saliency": gradients.saliency,
    "smoothgrad": lambda *a: gradients.smoothgrad(*a, samples=2, progress=False),
    "integrated_gradients": lambda *a: gradients.integrated_gradients(*a, steps=2, progress=False),
    "fullgrad": gradients.fullgrad,
    "grad_cam": cam.grad_cam,
    "finer_cam": cam.finer_cam,
    "score_cam": lambda *a: cam.score_cam(*a, progress=False),
    "ablation_cam": lambda *a: cam.ablation_cam(*a, progress=False),
    "occlusion": lambda *a: perturbation.occlusion(*a, 8, 4, resume=None, progress=False),
    "rise": lambda *a: perturbation.rise(*a, masks=2, progress=False),
    "meaningful": lambda *a: perturbation.meaningful_perturbation(*a, steps=1, progress=False),
    "lrp": relevance.lrp,
    "deep_lift": relevance.deep_lift,
}


@functools.cache  # one for all: whichever method compiles a function first, its pictures must not stay
def used_here_only():
    return submodels.logits(zoo.build("functional"))


@pytest.mark.filterwarnings("ignore:.*gap")
@pytest.mark.parametrize("method", ROOMS)
def test_what_is_compiled_does_not_keep_the_pictures(method):
    pictures = zoo.pictures(1).astype("float32")
    gone = weakref.ref(pictures)
    ROOMS[method](used_here_only(), pictures, 1)
    del pictures
    gc.collect()
    assert gone() is None


def test_the_model_is_left_as_it_was(functional):
    before = [np.copy(weight) for weight in functional.get_weights()]
    task = shared.prepare(functional, zoo.pictures(1))
    engine.run(shared.layer_gradients(task, ["relu2"]), task.images, task.targets)
    for one, two in zip(before, functional.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert functional.trainable


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "has 5 outputs, 0 to 4"),
        (-1, "has 5 outputs, 0 to 4"),
        ([0, 1], "one int for each of the 3 pictures"),
        (1.0, "give None, an int"),
        (True, "give None, an int"),
        ("koala", "give None, an int"),
        (lambda y: y, "one score for each picture"),
    ],
)
def test_a_target_that_is_none_is_refused(functional, target, message):
    with pytest.raises(ValueError, match=message):
        task = shared.prepare(functional, zoo.pictures(3), target)
        engine.run(shared.scores(task), task.images, task.targets)


def test_models_without_one_row_of_classes_are_refused():
    for target in (None, 0):
        with pytest.raises(ValueError, match="2 outputs.*which one is meant.*target=lambda"):
            shared.prepare(zoo.build("two_outputs"), zoo.pictures(1), target)
        with pytest.raises(ValueError, match="no class to explain.*target=lambda"):
            shared.prepare(models.load("vgg19", size=32), np.zeros((32, 32, 3)), target)


def test_spatial_layer(functional):
    assert shared.spatial_layer(functional) == "relu2"
    assert shared.spatial_layer(functional, "conv1") == "conv1"
    with pytest.raises(ValueError, match="'gap'.*no spatial axes"):
        shared.spatial_layer(functional, "gap")
    with pytest.raises(ValueError, match="no layer 'conv3'.*'conv1'"):
        shared.spatial_layer(functional, "conv3")
    picture = keras.Input((16, 16, 3))
    kept = L.GlobalAveragePooling2D(keepdims=True, name="gap")(L.Conv2D(4, 3, name="conv")(picture))
    assert shared.spatial_layer(keras.Model(picture, L.Flatten()(kept))) == "conv"
    flat = keras.Sequential([keras.Input((16, 16, 3)), L.Flatten(), L.Dense(2)])
    with pytest.raises(ValueError, match="no layer with spatial axes"):
        shared.spatial_layer(flat)


def test_baselines(functional):
    task = shared.prepare(functional, zoo.pictures(2), 0)
    one = zoo.pictures(1)[0]
    assert (shared.baseline(task) == 0).all()
    assert (shared.baseline(task, 7) == 7).all()
    assert (shared.baseline(task, [1, 2, 3]) == [1, 2, 3]).all()
    np.testing.assert_array_equal(shared.baseline(task, one)[1], one)
    np.testing.assert_array_equal(shared.baseline(task, zoo.pictures(2)), zoo.pictures(2))
    for wrong, message in ((np.zeros((8, 8, 3)), "has shape"), (np.nan, "NaN")):
        with pytest.raises(ValueError, match=message):
            shared.baseline(task, wrong)


# ---- what readers bring: every method is right, or says what is wrong ---------------------------------------------

QUICK = {
    gradients.smoothgrad: {"samples": 2},
    gradients.vargrad: {"samples": 3},
    gradients.integrated_gradients: {"steps": 4},
    gradients.blur_integrated_gradients: {"steps": 4},
    gradients.guided_integrated_gradients: {"steps": 4},
    gradients.xrai: {"steps": 2, "segments": np.indices((12, 12))[0][None] < np.array([4, 8, 12])[:, None, None]},
    perturbation.occlusion: {"patch": 4, "stride": 4},
    perturbation.rise: {"masks": 20, "cells": 3},
    perturbation.sobol: {"cells": 2, "designs": 4},
    perturbation.lime: {"segments": np.arange(144).reshape(12, 12) // 36, "samples": 16},
    perturbation.kernel_shap: {"segments": np.arange(144).reshape(12, 12) // 36, "samples": 16},
    perturbation.meaningful_perturbation: {"steps": 2, "cells": 3, "fill": 0.0},
}
ONE_PASS = [gradients.saliency, gradients.gradient_x_input, gradients.guided_backprop, gradients.deconv_backprop]
CAMS = [cam.grad_cam, cam.grad_cam_plus_plus, cam.layer_cam, cam.hires_cam, cam.xgrad_cam, cam.eigen_cam]
CAMS += [cam.cam, cam.finer_cam, cam.score_cam, cam.ablation_cam, cam.guided_grad_cam]
RELEVANCE = [relevance.lrp, relevance.deep_taylor, relevance.deep_lift]
BY_PASSES = [method for method in QUICK if method.__module__.endswith(("occlusion", "random_masks", "surrogates"))]
ALL = [*ONE_PASS, gradients.fullgrad, *QUICK, *CAMS, *RELEVANCE]
every = pytest.mark.parametrize("method", ALL, ids=lambda method: method.__name__)


def run(method, model, pictures, target=None, **options):
    quiet = {"progress": False} if "progress" in inspect.signature(method).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return method(model, pictures, target, **{**quiet, **QUICK.get(method, {}), **options})


def small(dtype=None, call=lambda layer, x: layer(x), before=(), classes=4, last=None, source=None, wrap=lambda y: y):
    """Convolution, BatchNorm, ReLU, pooling, Dense, on 12 × 12 × 3, with the same weights for all options."""
    x = picture = keras.Input((12, 12, 3)) if source is None else source
    for layer in before:
        x = call(layer, x)
    for layer in (
        L.Conv2D(6, 3, activation="relu", name="first", dtype=dtype),
        L.Conv2D(6, 3, name="conv", dtype=dtype),
        L.BatchNormalization(name="norm", dtype=dtype),
        L.ReLU(name="relu", dtype=dtype),
        L.GlobalAveragePooling2D(name="gap", dtype=dtype),
        L.Dense(classes, activation=last, name="dense", dtype="float32" if dtype else None),
    ):
        x = call(layer, x)
    model, rng = keras.Model(picture, wrap(x)), np.random.default_rng(1)
    for name in ("first", "conv", "norm", "dense"):
        for weight in model.get_layer(name).weights:
            near = {"kernel": 0.0, "bias": 0.3}.get(weight.name, 0.8)
            weight.assign(near + rng.normal(0, 0.4 if weight.name == "kernel" else 0.1, weight.shape))
    return model


common = functools.cache(small)  # for tests that change nothing of it: what they compile, they share


@functools.cache
def answer_of_small(method, target=1):
    return run(method, common(), photographs(), target)


def photographs(count=2):
    return np.random.default_rng(0).uniform(0, 1, (count, 12, 12, 3)).astype("float32")


def same(found, wanted, tolerance=1e-3):
    assert wanted.any() and np.isfinite(found).all() and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


def strange(**options):
    """The same network as `small`, spelt as Keras allows: by keyword, in dicts, with all that is idle at inference."""
    idle = [L.RandomFlip(), L.RandomRotation(0.3), L.RandomZoom(0.3), L.RandomTranslation(0.2, 0.2), L.GaussianNoise(1)]
    idle += [L.RandomContrast(0.5), L.SpatialDropout2D(0.3), L.ActivityRegularization(0.1), L.AlphaDropout(0.2)]
    model = small(call=lambda layer, x: layer(inputs=x), before=idle, wrap=lambda y: {"class": y}, **options)
    return keras.Model({"keras_tensor": model.input}, model.output)


@functools.cache  # one for all methods, none of which changes it
def spelt_otherwise():
    return strange(source=keras.Input((12, 12, 3), name="keras_tensor"))


@every
def test_the_same_network_in_another_spelling_has_the_same_answer(method):
    model = spelt_otherwise()
    before = [np.copy(weight) for weight in model.get_weights()]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The structure of")  # Keras's, of a tensor where a dict is expected
        same(run(method, model, photographs(), 1), answer_of_small(method), 1e-5)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)  # the state of the random layers too


@pytest.mark.parametrize("method", [gradients.saliency, cam.grad_cam, perturbation.occlusion, relevance.lrp])
def test_a_list_of_one_output_and_none_as_target(method):
    model = small(wrap=lambda y: [y])
    np.testing.assert_allclose(run(method, model, photographs()), run(method, common(), photographs()), atol=1e-6)


@functools.cache
def of_pixels(dtype):
    return small(before=(L.Rescaling(1 / 255),), source=keras.Input((12, 12, 3), dtype=dtype))


@every
def test_whole_numbers_as_pictures(method):
    pictures = np.round(photographs() * 255)
    options = {"limits": (0, 255)} if method is relevance.deep_taylor else {}
    found = run(method, of_pixels("uint8"), pictures.astype("uint8"), 1, **options)
    same(found, run(method, of_pixels("float32"), pictures, 1, **options), 1e-5)


PRECISION = {"mixed_float16": 0.03, "float64": 1e-4, "mixed_bfloat16": 0.25}
SAMPLE = [gradients.saliency, gradients.fullgrad, gradients.integrated_gradients, perturbation.occlusion]
SAMPLE += [cam.grad_cam, cam.finer_cam, cam.ablation_cam, relevance.lrp, relevance.deep_lift]
PRECISIONS = [("mixed_float16", method) for method in ALL]
PRECISIONS += [(policy, method) for policy in ("float64", "mixed_bfloat16") for method in SAMPLE]


@pytest.mark.parametrize(("policy", "method"), PRECISIONS, ids=lambda one: getattr(one, "__name__", one))
def test_every_precision_of_keras(method, policy):
    found, wanted = run(method, common(policy), photographs(), 1), answer_of_small(method)
    if method is gradients.guided_integrated_gradients:  # of two pixels it takes that with the smaller gradient first
        found, wanted = found.sum((1, 2, 3)), wanted.sum((1, 2, 3))
    same(found, wanted, PRECISION[policy])


@functools.cache
def channels_first():
    first = {"data_format": "channels_first"}
    picture = keras.Input((3, 12, 12))
    x = L.GlobalAveragePooling2D(**first)(L.Conv2D(4, 3, activation="relu", name="conv", **first)(picture))
    return keras.Model(picture, L.Dense(3)(x))


@every
def test_channels_first_are_refused(method):
    with pytest.raises(ValueError, match="channels first.*channels_last"):
        run(method, channels_first(), np.zeros((1, 3, 12, 12)), 1)


NO_SCORES = [
    (lambda y: y[0], "returns shape .4,. for 2 pictures: return one score for each"),
    (lambda y: y[:1, 2], "returns shape .1,. for 2 pictures"),
    (lambda y: tf.reduce_mean(y, 0), "returns shape .4,. for 2 pictures"),
    (lambda y: [y[0][1]], "returns shape .1,. for 2 pictures"),
    (lambda y: y, "returns shape .2, 4. for 2 pictures"),
    (lambda y: np.max(y, 1), "fails on the outputs of 2 pictures.*TensorFlow operations"),
    (lambda y: tf.boolean_mask(y[:, 0], y[:, 0] > 1e9), "another number of scores than of pictures"),
]


@every
def test_a_target_function_gives_one_score_for_each_picture(method):
    for target, message in NO_SCORES[:: 1 if method in SAMPLE else 6]:
        if method in (cam.cam, cam.finer_cam):
            message = "function"
        elif method is cam.eigen_cam and target is NO_SCORES[-1][0]:
            continue  # it computes no score
        with pytest.raises(ValueError, match=message):
            run(method, common(), photographs(4), target)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_whatever_the_number_of_pictures_is(count):
    for target in (lambda y: y[0], lambda y: y[:, 0][:3]):
        with pytest.raises(ValueError, match="one score for each picture"):
            gradients.saliency(common(), photographs(count), target)
    rows = gradients.saliency(common(), photographs(count), lambda y: tf.reduce_max(y, -1))
    same(rows, gradients.saliency(common(), photographs(count)))


def to_whole_numbers(x):
    return tf.cast(tf.cast(255 * x, "int32"), "float32")


NO_GRADIENT = {
    "argmax": (common, lambda y: tf.argmax(y, -1)),
    "rounding": (common, lambda y: tf.round(y[:, 1])),
    "nothing": (common, lambda y: tf.zeros(tf.shape(y)[:1])),
    "stop_gradient": (functools.cache(lambda: small(before=(L.Lambda(keras.ops.stop_gradient),))), 1),
    "cast": (functools.cache(lambda: small(before=(L.Lambda(to_whole_numbers),))), 1),
}


REASONS = [(reason, method) for method in ALL for reason in NO_GRADIENT if method in SAMPLE or reason == "cast"]


@pytest.mark.parametrize(("reason", "method"), REASONS, ids=lambda one: getattr(one, "__name__", one))
def test_no_gradient_is_not_zero(method, reason):
    build, target = NO_GRADIENT[reason]
    if method in BY_PASSES or method in (cam.cam, cam.eigen_cam, cam.score_cam, cam.ablation_cam):
        return  # they need none
    behind = method in CAMS and method is not cam.guided_grad_cam or method in (relevance.lrp, relevance.deep_taylor)
    if target == 1 and behind or (reason, method) == ("stop_gradient", relevance.deep_lift):
        assert run(method, build(), photographs(), target).any()  # behind the layer there is one; relevance needs none
        return
    with pytest.raises(ValueError, match="no gradient by|function"):
        run(method, build(), photographs(), target)


@functools.cache
def undecided():
    """One sigmoid that answers half of four photographs with no."""
    model = small(classes=1, last="sigmoid")
    model.get_layer("dense").bias.assign_sub([np.median(submodels.logits(model)(photographs(4)))])
    return model


@every
def test_one_sigmoid_is_explained_by_its_answer(method):
    if method is cam.eigen_cam or method is cam.finer_cam:
        return
    model, pictures = undecided(), photographs(4)
    yes = model(pictures).numpy()[:, 0] > 0.5
    assert 0 < yes.sum() < 4
    network = submodels.logits(model) if method in (relevance.lrp, relevance.deep_taylor) else model  # as they start
    if method is cam.cam:
        one = run(method, model, pictures, 0)
        other = -one
    else:
        one, other = (run(method, network, pictures, lambda y, s=s: s * y[:, 0]) for s in (1, -1))
    found = run(method, model, pictures)
    same(found, np.where(yes.reshape(4, *[1] * (found.ndim - 1)), one, other), 2e-3)
    np.testing.assert_allclose(run(method, model, pictures[1]), found[1], atol=1e-4 * np.abs(found).max())


@pytest.mark.parametrize("method", [gradients.saliency, cam.hires_cam, perturbation.occlusion, relevance.deep_lift])
def test_one_linear_output_is_explained_as_it_is(method):
    model, pictures = small(classes=1), photographs()
    model.get_layer("dense").bias.assign([-100.0])
    assert (model(pictures).numpy() < 0).all()
    np.testing.assert_array_equal(run(method, model, pictures), run(method, model, pictures, 0))
    with pytest.raises(ValueError, match="has 1 outputs, 0 to 0"):
        run(method, model, pictures, -1)


@pytest.mark.parametrize("method", [gradients.saliency, cam.grad_cam, perturbation.occlusion, relevance.lrp])
def test_what_is_no_picture_is_said_in_words(method):
    model = common()
    for pictures, message in (
        ("cat.jpg", "not the path"),
        (tf.data.Dataset.from_tensor_slices(photographs()), "tf.data.Dataset"),
        ([photographs()[0], photographs()[0, :4]], "pictures of one size"),
        (photographs()[..., :1], "12 × 12 × 3"),
    ):
        with pytest.raises(ValueError, match=message):
            run(method, model, pictures, 1)
    one, two = keras.Input((12, 12, 3)), keras.Input((12, 12, 3))
    with pytest.raises(ValueError, match="takes 2 inputs.*Hold the others fixed"):
        run(method, keras.Model([one, two], model(one + two)), [photographs(), photographs()], 1)
    signal = keras.Input((32, 2))
    with pytest.raises(ValueError, match="signals"):
        run(method, keras.Model(signal, L.Dense(2)(L.Flatten()(L.Conv1D(4, 3)(signal)))), np.zeros((2, 32, 2)), 1)


@functools.cache
def made_for_training():
    class Shrinking(keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.01 * keras.ops.sum(keras.ops.abs(x))

    model = small()
    model.get_layer("conv").kernel_regularizer = Shrinking()
    model.get_layer("norm").gamma_initializer = lambda shape, dtype=None: keras.ops.ones(shape)
    return model


@every
def test_what_a_reader_made_for_training_is_in_no_way(method):
    same(run(method, made_for_training(), photographs(), 1), answer_of_small(method), 1e-5)

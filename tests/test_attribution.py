"""What all attribution methods share: targets, folding, compiled gradients, baselines."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import cam, engine, gradients, images, models, perturbation, relevance, submodels
from helpers.attribution import shared

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
    model, pictures = zoo.build(name), zoo.pictures(5)
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
    assert (task.targets == shared.OWN).all()
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
    model = zoo.build("residual")
    task = shared.prepare(model, zoo.pictures(1), 0, layers=["branch"])
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
    before = shared.folded(model)[0](pictures)
    kernel = model.get_layer("conv1").kernel
    kernel.assign(keras.ops.flip(kernel, 3))  # the same numbers: their sum would not tell
    after = shared.folded(model)[0](pictures)
    np.testing.assert_allclose(after, model(pictures), rtol=1e-4, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_a_padding_layer_that_folding_does_without_can_be_looked_at():
    model, pictures = zoo.application("MobileNetV2"), images.batch(images.sample("koala"))
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


@pytest.mark.filterwarnings("ignore:.*gap")
@pytest.mark.parametrize("method", ROOMS)
def test_what_is_compiled_does_not_keep_the_pictures(method):
    model, pictures = submodels.logits(zoo.build("functional")), zoo.pictures(1).astype("float32")
    gone = weakref.ref(pictures)
    ROOMS[method](model, pictures, 1)
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
    np.testing.assert_array_equal(shared.baseline(task, one)[1], one)
    np.testing.assert_array_equal(shared.baseline(task, zoo.pictures(2)), zoo.pictures(2))
    for wrong, message in ((np.zeros((8, 8, 3)), "has shape"), (np.nan, "NaN")):
        with pytest.raises(ValueError, match=message):
            shared.baseline(task, wrong)

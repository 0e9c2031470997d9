"""The exercises and predictions of notebook 01, layer by layer."""

import keras
import numpy as np

from .. import models, submodels
from ..features import units
from ..pictures import digits
from .kinds import Exercise, Prediction, nearest, number, word
from .shared import maps_of, network, photographs, top_answers


def _numbers_out_for_each_number_in():
    vgg = models.load("vgg19")
    return np.prod(vgg.get_layer("block1_conv1").output.shape[1:]) / np.prod(vgg.input_shape[1:])


def _most_excited_by_channel_515():
    names, pictures = photographs()
    return names[units.top_patches(network(), "head", 515, pictures, count=1).images[0]]


def _least_sparse_convolution():
    vgg, (_, pictures) = models.load("vgg19"), photographs()
    profile = units.activity(vgg, pictures, submodels.layer_names(vgg, "conv"), batch=2)
    return min(profile, key=lambda name: profile[name].sparsity)


def _giraffe():
    _, label, probability = top_answers("giraffe")[0]
    groups = [["cheetah", "leopard", "jaguar", "snow leopard"], ["Arabian camel", "llama"], ["sorrel", "zebra"]]
    place = next((place for place, group in enumerate(groups) if label in group), len(groups))
    return place, f"The first answer is {label}, with {probability:.0%}."


def _zeros_at_the_end():
    share = (maps_of(network(), "head_relu", photographs()[1][:8]) == 0).mean()
    return nearest(share, (0.1, 0.5, 0.9)), f"Of eight photographs, {share:.0%} of them are zero."


def _steps_to_three_of_four():
    (train_x, train_y), (test_x, test_y) = digits.load()
    random = {"kernel_initializer": keras.initializers.GlorotUniform(seed=0)}  # leaves the notebook's own draws alone
    layers = [keras.layers.Rescaling(1 / 255)]
    for filters, side in ((12, 7), (24, 5)):
        layers += [keras.layers.Conv2D(filters, side, activation="relu", **random), keras.layers.MaxPooling2D(2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(10, **random)]
    student = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    student.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    right, step = 0, 0
    while right <= 0.75:
        some = slice(64 * step, 64 * step + 64)
        student.train_on_batch(train_x[some], train_y[some])
        step += 1
        if step % 4 == 0:
            right = (np.argmax(student(test_x[:500]), 1) == test_y[:500]).mean()
    return nearest(np.log(step), np.log([5, 50, 500])), f"Here it takes {step} steps."


QUESTIONS = {
    "01.1": Exercise(
        "Numbers out: height × width × channels of the layer's output. Padding keeps height and width.",
        "224 · 224 · 64 numbers come out and 224 · 224 · 3 go in.",
        accept=number(_numbers_out_for_each_number_in),
        because="The first layers describe the picture at far greater length than the picture itself.",
    ),
    "01.2": Exercise(
        "Section 4 computes receptive fields: units.receptive_field(model, name).",
        'Its field size holds height and width: units.receptive_field(network, "block3b_depthwise").size.',
        accept=number(lambda: units.receptive_field(network(), "block3b_depthwise").size[1], relative=0),
        because="One kernel of 5 pixels at a step of 8 adds 4 × 8 = 32 pixels to the 35 before.",
    ),
    "01.3": Exercise(
        "Section 5 finds strongest patches; here the pictures are the whole photographs in `collection`.",
        'units.top_patches(network, "head", 515, collection, count=1).images[0] is the number of the photograph.',
        accept=word(_most_excited_by_channel_515),
        because="The windows in section 5 showed the same skin.",
    ),
    "01.4": Exercise(
        'profiles["VGG19"][name].sparsity is the share of zeros of one layer, section 3.',
        "Take the smallest: min(vgg_layers, key=…).",
        accept=word(_least_sparse_convolution),
        because="It is in block 3: after it the share of zeros rises almost steadily.",
    ),
    "01.P1": Prediction(
        "The giraffe is not among the 1000 classes. Which animal will the network see in it?",
        ("a big cat, because of the spots", "a camel, because of the shape", "a horse or a zebra", "something else"),
        _giraffe,
    ),
    "01.P2": Prediction(
        "A ReLU makes zeros. Which share of all activations of the last layer, `head_relu`, is zero?",
        ("about 10 %", "about 50 %", "about 90 %"),
        _zeros_at_the_end,
    ),
    "01.P3": Prediction(
        "How many steps of 64 pictures does the network need until it reads three digits out of four correctly?",
        ("about 5", "about 50", "about 500"),
        _steps_to_three_of_four,
    ),
}

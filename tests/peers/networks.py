"""The networks of the comparisons: in Keras, and as twins in PyTorch with the same weights."""

import copy
import functools
from typing import NamedTuple

import keras
import numpy as np
import torch
from torch import nn
from zennit.layer import Sum

from helpers import digits, images, models

L = keras.layers


class Case(NamedTuple):
    name: str
    model: keras.Model  # raw pixels in, logits out
    twin: nn.Module  # the same, channels first: twin.preprocess, then twin.network
    pictures: np.ndarray  # (B, H, W, C)
    targets: np.ndarray  # (B,)
    layer: str  # of the Keras network, the last one before the head; the twin's own is twin.network.last

    def with_copy(self):
        """With a twin of its own: some peers leave theirs changed."""
        return self._replace(twin=copy.deepcopy(self.twin))

    @property
    def tensor(self):
        return channels_first(self.pictures)

    @property
    def classes(self):
        return torch.tensor(self.targets)

    @property
    def one_hot(self):
        return np.eye(self.model.output_shape[-1], dtype="float32")[self.targets]


def channels_first(pictures):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(pictures, -1, 1)))


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


class Scale(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


class Twin(nn.Module):
    def __init__(self, preprocess, network):
        super().__init__()
        self.preprocess, self.network = preprocess, network

    def forward(self, x):
        return self.network(self.preprocess(x))


def _convolution(layer, **options):
    kernel, bias = layer.get_weights()
    depthwise = isinstance(layer, L.DepthwiseConv2D)
    kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    inputs, groups = (len(kernel), len(kernel)) if depthwise else (kernel.shape[1], 1)
    twin = nn.Conv2d(inputs, len(kernel), kernel.shape[2:], groups=groups, **options)
    return _filled(twin, kernel, bias)


def _dense(layer, shape=None):
    """A dense layer; `shape`, (h, w, c), if it follows a flattened map, whose order is another one here."""
    kernel, bias = layer.get_weights()
    if shape:
        kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return _filled(nn.Linear(*kernel.shape), kernel.T, bias)


def _filled(twin, kernel, bias):
    twin.weight.data, twin.bias.data = torch.tensor(np.ascontiguousarray(kernel)), torch.tensor(bias)
    return twin


class _Digits(nn.Module):
    def __init__(self, get):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = _convolution(get("conv1"), padding=2), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.last, self.pool2 = _convolution(get("conv2"), padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.logits = _dense(get("logits"), (7, 7, 32))

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.last(self.conv2(x)))
        return self.logits(x.flatten(1))


@functools.cache
def digit_case():
    """The bundled `mnist_cnn`, and three digits."""
    model = models.load("mnist_cnn")
    _, (pictures, labels) = digits.load()
    twin = Twin(Scale(1 / 255, 0), _Digits(model.get_layer)).eval()
    return Case("mnist_cnn", model, twin, pictures[:3], labels[:3], "conv2")


class _Skip(nn.Module):
    def __init__(self, get):
        super().__init__()
        self.stem, self.relu1 = _convolution(get("stem"), padding=1), nn.ReLU()
        self.branch, self.relu2, self.join = _convolution(get("branch"), padding=1), nn.ReLU(), Sum()
        self.pool1 = nn.MaxPool2d(2)
        self.depthwise, self.relu3 = _convolution(get("depthwise"), padding=1), nn.ReLU()
        self.deep = _convolution(get("deep"))
        # ε is a part of the variance here: zennit folds BatchNorm into the convolution and leaves ε behind, which
        # makes the network smaller by 1 / √(1 + ε), by 5e-4.
        self.norm = nn.BatchNorm2d(16, eps=0.0)
        gamma, beta, mean, variance = map(torch.tensor, get("norm").get_weights())
        self.norm.weight.data, self.norm.bias.data = gamma, beta
        self.norm.running_mean, self.norm.running_var = mean, variance + get("norm").epsilon
        self.last, self.pool2 = nn.ReLU(), nn.AvgPool2d(2)
        self.hidden, self.relu5 = _dense(get("hidden"), (7, 7, 16)), nn.ReLU()
        self.logits = _dense(get("logits"))

    def forward(self, x):
        x = self.relu1(self.stem(x))
        x = self.join(torch.stack([x, self.relu2(self.branch(x))], -1))
        x = self.relu3(self.depthwise(self.pool1(x)))
        x = self.pool2(self.last(self.norm(self.deep(x))))
        return self.logits(self.relu5(self.hidden(x.flatten(1))))


@functools.cache
def skip_case():
    """A small network for photographs: skip connection, depthwise convolution, BatchNorm, both kinds of pooling."""
    keras.utils.set_random_seed(3)
    picture = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 128, -0.9, name="preprocess")(picture)
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(x)
    x = L.Add(name="join")([x, L.Conv2D(8, 3, padding="same", activation="relu", name="branch")(x)])
    x = L.MaxPooling2D(name="pool1")(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = L.BatchNormalization(name="norm")(L.Conv2D(16, 3, name="deep")(x))
    x = L.AveragePooling2D(2, name="pool2")(L.ReLU(name="last")(x))
    x = L.Dense(12, activation="relu", name="hidden")(L.Flatten(name="flatten")(x))
    model = keras.Model(picture, L.Dense(5, name="logits")(x), name="skip")
    random = np.random.default_rng(3)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif "kernel" not in variable.name:
            variable.assign(random.normal(0, 0.1, variable.shape))
    twin = Twin(Scale(1 / 128, -0.9), _Skip(model.get_layer)).eval()
    pictures = images.batch(*map(images.sample, ("koala", "scarlet_macaw")), size=32)
    return Case("skip", model, twin, pictures, model(pictures).numpy().argmax(1), "last")


@functools.cache
def photograph_case():
    """The bundled `efficientnet_lite0` and a photograph, for peers that work in Keras."""
    pictures = images.batch(images.sample("koala"))
    return Case("efficientnet_lite0", models.load("efficientnet_lite0"), None, pictures, np.array([105]), "head_relu")

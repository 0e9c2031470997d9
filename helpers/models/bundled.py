"""The graphs of the bundled networks, without their weights: raw pixels in, logits (`vgg19`: features) out."""

import keras
from keras import layers

# (repeats, kernel size, stride of the first repeat, expansion, output channels): table 1 of EfficientNet
# (Tan and Le, 2019, arXiv:1905.11946). Lite0 drops its squeeze-and-excitation and replaces swish by ReLU6.
EFFICIENTNET_STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
VGG19_BLOCKS = [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)]
VGG19_MEAN_RGB = (123.68, 116.779, 103.939)


def efficientnet_lite0(height=224, width=224):
    """EfficientNet-Lite0, 1000 logits; its BatchNorm is folded into the convolutions."""

    def rectified(x, name):
        return layers.ReLU(max_value=6, name=f"{name}_relu")(x)

    def convolution(x, channels, name, size=1, stride=1):
        return layers.Conv2D(channels, size, stride, padding="same", name=name)(x)

    image = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1 / 128, -127 / 128, name="preprocess")(image)
    x = rectified(convolution(x, 32, "stem", size=3, stride=2), "stem")
    for stage, (repeats, size, first_stride, expansion, channels) in enumerate(EFFICIENTNET_STAGES, start=1):
        for repeat in range(repeats):
            block, shortcut = f"block{stage}{'abcd'[repeat]}", x
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                x = rectified(convolution(x, expansion * x.shape[-1], f"{block}_expand"), f"{block}_expand")
            name = f"{block}_depthwise"
            x = rectified(layers.DepthwiseConv2D(size, stride, padding="same", name=name)(x), name)
            x = convolution(x, channels, f"{block}_project")
            if repeat > 0:
                x = layers.Add(name=f"{block}_add")([shortcut, x])
    x = rectified(convolution(x, 1280, "head"), "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(1000, name="logits")(x), name="efficientnet_lite0")


def vgg19(height=224, width=224):
    """Convolutional base of VGG19 (Simonyan and Zisserman, 2014, arXiv:1409.1556), `block1_conv1` … `block5_pool`."""
    image = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1.0, [-mean for mean in VGG19_MEAN_RGB], name="preprocess")(image)
    for block, (convolutions, channels) in enumerate(VGG19_BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(image, x, name="vgg19")


def mnist_cnn(height=28, width=28):
    """A small digit classifier without BatchNorm, 10 logits; trained by `data/train_mnist.py`."""
    image = keras.Input((height, width, 1), name="image")
    x = layers.Rescaling(1 / 255, name="preprocess")(image)
    x = layers.Conv2D(16, 5, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="mnist_cnn")

"""Train the bundled `mnist_cnn` on the bundled digits and write mnist_cnn.npz: about a minute on two cores.

    python data/train_mnist.py
"""

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))

from helpers import digits, models  # noqa: E402  (the repository is not installed as a package)

EPOCHS = 15
BATCH = 64


def train(verbose=2):
    """The trained network and its accuracy on the bundled test images. No BatchNorm: that trains reproducibly."""
    import keras

    keras.utils.set_random_seed(0)
    (images, labels), test = digits.load()
    model = models.load("mnist_cnn", weights=None)
    steps = EPOCHS * -(-len(images) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    random = np.random.default_rng(0)
    for _ in range(EPOCHS):
        model.fit(shifted(images, random), labels, batch_size=BATCH, verbose=verbose)
    return model, model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]


def shifted(images, random, reach=2):
    """Each image moved by up to `reach` pixels, paper coming in at the edge."""
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    offsets = random.integers(0, 2 * reach + 1, (len(images), 2))
    return np.stack([image[y : y + 28, x : x + 28] for image, (y, x) in zip(padded, offsets, strict=True)])


def main():
    model, accuracy = train()
    print(f"accuracy on the bundled test images: {accuracy:.4f}")
    arrays = {}
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            arrays.update({f"{layer.name}/kernel": kernel, f"{layer.name}/bias": bias})
    np.savez_compressed(DATA / "mnist_cnn.npz", **arrays)


if __name__ == "__main__":
    main()

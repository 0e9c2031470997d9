"""Train the bundled `mnist_cnn` on the bundled digits and write mnist_cnn.npz: under a minute on two cores.

python data/train_mnist.py
"""

import sys
from pathlib import Path

import cv2
import numpy as np

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))  # the repository is not installed as a package

from helpers import digits, models  # noqa: E402

EPOCHS = 25
BATCH = 64


def train():
    """The trained network and its accuracy on the bundled test images."""
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
        model.fit(distorted(images, random), labels, batch_size=BATCH, verbose=2)
    return model, model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]


def distorted(images, random):
    """Each image turned (±10°), scaled (±8 %), slanted (±10 %) and moved (±1 pixel)."""
    result = np.empty_like(images)
    for index, image in enumerate(images):
        angle, scale = np.deg2rad(random.uniform(-10, 10)), random.uniform(0.92, 1.08)
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = scale * np.array(turn) @ [[1, random.uniform(-0.1, 0.1)], [0, 1]]
        center = np.full(2, 13.5)
        offset = center - matrix @ center + random.uniform(-1, 1, 2)
        result[index, ..., 0] = cv2.warpAffine(image, np.column_stack([matrix, offset]), (28, 28))
    return result


def main():
    model, accuracy = train()
    print(f"accuracy on the bundled test images: {accuracy:.4f}")
    arrays = {}
    for layer in model.layers:
        if layer.weights:
            arrays[f"{layer.name}/kernel"], arrays[f"{layer.name}/bias"] = layer.get_weights()
    np.savez_compressed(DATA / "mnist_cnn.npz", **arrays)


if __name__ == "__main__":
    main()

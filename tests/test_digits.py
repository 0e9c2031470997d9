import numpy as np

from helpers import digits, models


def test_shapes_types_and_ranges():
    (images, labels), (test_images, test_labels) = digits.load()
    assert images.shape == (10_000, 28, 28, 1) and test_images.shape == (2_000, 28, 28, 1)
    assert labels.shape == (10_000,) and test_labels.shape == (2_000,)
    assert images.dtype == np.float32 and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 255


def test_the_first_labels_are_those_of_mnist():
    (_, labels), (_, test_labels) = digits.load()
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).min() > 800 and np.bincount(test_labels).min() > 170


def test_ink_is_bright_and_in_the_middle():
    (images, _), _ = digits.load()
    mean = images.mean(axis=(0, 3))
    assert mean[0].max() < 1 and mean[12:16, 12:16].min() > 60


def test_no_test_image_was_trained_on():
    (images, _), (test_images, _) = digits.load()
    trained = {image.tobytes() for image in images}
    assert not any(image.tobytes() in trained for image in test_images)


def test_the_bundled_classifier_reads_them():
    _, (images, labels) = digits.load()
    logits = models.load("mnist_cnn").predict(images, batch_size=500, verbose=0)
    assert (logits.argmax(axis=1) == labels).mean() >= 0.985

"""Speed and memory of dreams: prints ratios that were measured side by side in one run. Never a test.

Run: python -m tests.benchmarks.dream
"""

import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

import helpers
from helpers import dream, images, models, submodels
from tests.benchmarks.core import row, side_by_side

STEPS, SCALE, OCTAVES, SIZE = 10, 1.4, 3, 224

LARGE = """
import resource, sys, time
from helpers import dream, images, models
picture = images.sample("koala", 2048)
name, layer, tile = sys.argv[1:]
started = time.perf_counter()
octaves = dream.deep_dream(
    models.load(name, size="any"), picture, layer, octaves=2, steps=2, tile=int(tile), progress=False
).octaves
assert all(octave.after > octave.before for octave in octaves)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def speed(name, layer):
    """A dream, as many plain compiled gradient steps of the same sizes, and the eager loop of the tutorials."""
    model = models.load(name, size="any")
    network = submodels.activations(model, layer)
    picture = images.sample("koala", SIZE).astype("float32")
    sizes = [round(SIZE / SCALE**n) for n in reversed(range(OCTAVES))]

    def gradient(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            value = tf.reduce_mean(tf.square(network(image)[layer]))
        return tape.gradient(value, image)

    def steps(gradient):
        for size in sizes:
            image = tf.constant(images.resize(picture, size)[None])
            for _ in range(STEPS):
                slope = gradient(image)
                image = tf.clip_by_value(image + slope / tf.reduce_mean(tf.abs(slope)), 0, 255)
        return image

    def dreaming():
        dream.deep_dream(model, picture, layer, octaves=OCTAVES, octave_scale=SCALE, steps=STEPS, progress=False)

    compiled = tf.function(gradient)  # one trace for each size, so that nothing about the shapes is left open
    ours, plain = side_by_side(dreaming, lambda: steps(compiled), rounds=5)
    label = f"{name} {layer}, {OCTAVES} octaves × {STEPS} steps to {SIZE} px: "
    row(f"{label}dream ÷ plain compiled steps", f"{ours / plain:.2f} ×", "≤ 1.2 ×")
    start = time.perf_counter()
    steps(gradient)
    eager = time.perf_counter() - start
    row(f"{label}eager loop ÷ dream", f"{eager / ours:.1f} ×", "≥ 5 × where Python is the cost: EfficientNet")
    print(f"    dream {ours:.2f} s, plain compiled {plain:.2f} s, eager {eager:.2f} s")


def memory(name, layer, tile):
    """A picture of 2048 × 2048 in a process of its own."""
    command = [sys.executable, "-c", LARGE, name, layer, str(tile)]
    seconds, megabytes = map(float, subprocess.check_output(command, text=True).split())
    label = f"2048 × 2048, {name} {layer}, tile={tile}, 2 octaves × 2 steps ({seconds:.0f} s): "
    row(f"{label}peak memory", f"{megabytes:.0f} MB", "≤ 2500 MB")


if __name__ == "__main__":
    print(f"{time.strftime('%Y-%m-%d')}, TensorFlow {tf.__version__}, numpy {np.__version__}, {helpers.__name__}\n")
    speed("efficientnet_lite0", "block5c_add")
    speed("vgg19", "block3_conv3")
    memory("efficientnet_lite0", "block5c_add", 512)
    memory("vgg19", "block3_conv3", 512)

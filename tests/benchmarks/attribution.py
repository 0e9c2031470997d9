"""Speed and memory of attribution: ratios measured side by side in one run. Never a test.

Run: python -m tests.benchmarks.attribution [--quick] [--write]

Each row is time ÷ (passes × the best compiled pass of the network as it is, BatchNorm not folded), for one picture a
pass of one picture. A pass is forward, or forward and backward where the method needs gradients. Peers are timed where
they are installed (tests/peers). With --write the tables go to tests/benchmarks/attribution.md; --quick leaves out
VGG19 and the peers.
"""

import argparse
import importlib.util
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import helpers  # noqa: F401
from helpers import cam, engine, gradients, images, models, perturbation
from helpers.attribution import shared
from tests import zoo

BATCH = 16
CLASS = 105  # koala


def of_class(outputs):
    return outputs[:, CLASS]


class Bench:
    """One network, its best compiled passes, and rows of measurements."""

    def __init__(self, name, model, target, score, rounds=5):
        self.name, self.model, self.target, self.rounds = name, model, target, rounds
        self.picture = images.batch(images.sample("koala"))
        batch = tf.constant(np.repeat(self.picture, BATCH, 0))
        forward = engine.compiled(model)

        @tf.function(reduce_retracing=True)
        def backward(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = score(model(x, training=False))
            return tape.gradient(value, x)

        self.passes = {"forward": lambda n: forward(batch[:n]), "gradient": lambda n: backward(batch[:n])}
        self.best = {
            kind: min((1, 4, 8, BATCH), key=lambda n: _seconds(run, n) / n) for kind, run in self.passes.items()
        }
        self.rows = []

    def row(self, method, passes, kind, ours, **peers):
        """Time `ours` and the peers in turn with the best pass."""
        count = 1 if passes == 1 else self.best[kind]
        plain = [lambda: self.passes[kind](count)] * max(1, min(8, math.ceil(passes / count)))
        rivals = {"ours": ours, **peers}
        for name, function in list(rivals.items()):  # compiles
            try:
                function()
            except Exception as error:  # a peer that cannot do it is a row of the table too
                if name == "ours":
                    raise
                rivals.pop(name)
                print(f"  {name} fails at {method}: {type(error).__name__}: {error}"[:160], flush=True)
        times, one = {name: [] for name in rivals}, []
        for _ in range(12 if passes == 1 else self.rounds if passes <= 50 else 2 if passes < 500 else 1):
            start = time.perf_counter()
            for run in plain:
                run()
            one.append((time.perf_counter() - start) / (count * len(plain)))
            for name, function in rivals.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
        unit = statistics.median(one) * passes
        ratios = {name: statistics.median(values) / unit for name, values in times.items()}
        self.rows.append((method, passes, ratios))
        print(f"{self.name:<20} {method:<34} {passes:>5}  {_words(ratios)}", flush=True)


def _seconds(run, count):
    run(count)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(count)
        times.append(time.perf_counter() - start)
    return min(times)


def _words(ratios):
    return "  ".join(f"{name} {value:.2f}" for name, value in ratios.items())


def methods(bench, peers):
    """All rows of one network."""
    model, picture, target = bench.model, bench.picture, bench.target
    quiet, samples, masks = {"progress": False}, 50, 1000
    patch, stride, windows = 32, 16, 13**2
    channels = model.get_layer(shared.spatial_layer(model)).output.shape[-1]
    bench.row(
        "saliency, 1 picture", 1, "gradient", lambda: gradients.saliency(model, picture, target), **peers.saliency(1)
    )
    sixteen = np.repeat(picture, 16, 0)
    bench.row(
        "saliency, 16 pictures",
        16,
        "gradient",
        lambda: gradients.saliency(model, sixteen, target),
        **peers.saliency(16),
    )
    bench.row("Grad-CAM, 1 picture", 1, "forward", lambda: cam.grad_cam(model, picture, target), **peers.grad_cam(1))
    bench.row(
        "Grad-CAM, 16 pictures", 16, "forward", lambda: cam.grad_cam(model, sixteen, target), **peers.grad_cam(16)
    )
    bench.row(
        f"SmoothGrad, {samples} samples",
        samples,
        "gradient",
        lambda: gradients.smoothgrad(model, picture, target, samples=samples, **quiet),
        **peers.smoothgrad(samples),
    )
    bench.row(
        f"integrated gradients, {samples} steps",
        samples,
        "gradient",
        lambda: gradients.integrated_gradients(model, picture, target, steps=samples, **quiet),
        **peers.integrated_gradients(samples),
    )
    bench.row(
        f"occlusion, {windows} windows, plain",
        windows,
        "forward",
        lambda: perturbation.occlusion(
            model, picture, target, patch=patch, stride=stride, fill=0, resume=None, **quiet
        ),
        **peers.occlusion(patch, stride),
    )
    bench.row(
        f"occlusion, {windows} windows, resumed",
        windows,
        "forward",
        lambda: perturbation.occlusion(model, picture, target, patch=patch, stride=stride, fill=0, **quiet),
    )
    bench.row(
        f"RISE, {masks} masks",
        masks,
        "forward",
        lambda: perturbation.rise(model, picture, target, masks=masks, **quiet),
        **peers.rise(masks),
    )
    bench.row(
        f"Score-CAM, all {channels} channels",
        channels,
        "forward",
        lambda: cam.score_cam(model, picture, target, **quiet),
        **peers.score_cam(channels),
    )


class Peers:
    """The same work in other libraries; each method gives `{name: function}` for those that are installed."""

    def __init__(self, model=None, picture=None, without=()):
        self.model, self.picture, self.without = model, picture, without

    def _installed(self, **makers):
        if self.model is None:
            return {}
        names = [name for name in makers if name not in self.without and importlib.util.find_spec(name)]
        return {name: makers[name] for name in names}

    def _pictures(self, count):
        return np.repeat(self.picture, count, 0)

    def _xplique(self, method, count=1, **options):
        import xplique.attributions as attributions

        pictures = self._pictures(count)
        classes = tf.one_hot([CLASS] * count, self.model.outputs[0].shape[-1])
        explainer = getattr(attributions, method)(self.model, batch_size=BATCH, **options)
        return lambda: explainer(pictures, classes)

    def _tf_keras_vis(self, method, count=1, **options):
        import tf_keras_vis.gradcam
        import tf_keras_vis.saliency
        import tf_keras_vis.scorecam
        from tf_keras_vis.utils.scores import CategoricalScore

        classes = {
            "Saliency": tf_keras_vis.saliency.Saliency,
            "Gradcam": tf_keras_vis.gradcam.Gradcam,
            "Scorecam": tf_keras_vis.scorecam.Scorecam,
        }
        explainer, pictures = classes[method](self.model, clone=False), self._pictures(count)
        return lambda: explainer(CategoricalScore([CLASS] * count), pictures, **options)

    def _tf_explain(self, method, count=1, **options):
        import tf_explain.core

        module = {
            "GradCAM": "grad_cam",
            "SmoothGrad": "smoothgrad",
            "IntegratedGradients": "integrated_gradients",
        }[method]
        importlib.import_module(f"tf_explain.core.{module}")
        explainer = getattr(getattr(tf_explain.core, module), method)()
        pictures = self._pictures(count)
        return lambda: explainer.explain((pictures, None), self.model, CLASS, **options)

    def _saliency(self, method, **options):
        import saliency.core

        @tf.function(reduce_retracing=True)
        def slopes(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = self.model(x, training=False)[:, CLASS]
            return tape.gradient(value, x)

        def call(x, call_model_args=None, expected_keys=None):
            return {saliency.core.INPUT_OUTPUT_GRADIENTS: slopes(tf.constant(x, tf.float32)).numpy()}

        explainer, picture = getattr(saliency.core, method)(), self.picture[0]
        if options.pop("smooth", None):
            return lambda: explainer.GetSmoothedMask(picture, call, magnitude=False, **options)
        return lambda: explainer.GetMask(picture, call, **options)

    def _made(self, found):
        return {name: make() for name, make in self._installed(**found).items()}

    def saliency(self, count):
        found = {
            "tf_keras_vis": lambda: self._tf_keras_vis("Saliency", count),
            "xplique": lambda: self._xplique("Saliency", count),
        }
        if count == 1:
            found["saliency"] = lambda: self._saliency("GradientSaliency")
        return self._made(found)

    def grad_cam(self, count):
        return self._made(
            {
                "tf_keras_vis": lambda: self._tf_keras_vis("Gradcam", count, penultimate_layer=-1),
                "xplique": lambda: self._xplique("GradCAM", count),
                "tf_explain": lambda: self._tf_explain("GradCAM", count),
            }
        )

    def smoothgrad(self, samples):
        return self._made(
            {
                "tf_keras_vis": lambda: self._tf_keras_vis("Saliency", smooth_samples=samples),
                "xplique": lambda: self._xplique("SmoothGrad", nb_samples=samples),
                "tf_explain": lambda: self._tf_explain("SmoothGrad", num_samples=samples),
                "saliency": lambda: self._saliency("GradientSaliency", smooth=True, nsamples=samples),
            }
        )

    def integrated_gradients(self, steps):
        return self._made(
            {
                "xplique": lambda: self._xplique("IntegratedGradients", steps=steps),
                "tf_explain": lambda: self._tf_explain("IntegratedGradients", n_steps=steps),
                "saliency": lambda: self._saliency("IntegratedGradients", x_steps=steps, batch_size=BATCH),
            }
        )

    def occlusion(self, patch, stride):
        return self._made(
            {"xplique": lambda: self._xplique("Occlusion", patch_size=patch, patch_stride=stride, occlusion_value=0.0)}
        )

    def rise(self, masks):
        return self._made({"xplique": lambda: self._xplique("Rise", nb_samples=masks)})

    def score_cam(self, channels):
        return self._made(
            {"tf_keras_vis": lambda: self._tf_keras_vis("Scorecam", penultimate_layer=-1, max_N=channels)}
        )


MEMORY = """
import resource, sys
from helpers import cam, gradients, images, models, perturbation
model, picture = models.load("efficientnet_lite0"), images.batch(images.sample("koala"))
method, count = sys.argv[1], int(sys.argv[2])
{
    "SmoothGrad": lambda: gradients.smoothgrad(model, picture, 105, samples=count, progress=False),
    "integrated gradients": lambda: gradients.integrated_gradients(model, picture, 105, steps=count, progress=False),
    "RISE": lambda: perturbation.rise(model, picture, 105, masks=count, progress=False),
}[method]()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory():
    """Peak memory with few and with many passes, each in a process of its own."""
    found = []
    for method, counts in (("SmoothGrad", (32, 256)), ("integrated gradients", (32, 256)), ("RISE", (64, 1024))):
        peaks = [
            float(subprocess.run([sys.executable, "-c", MEMORY, method, str(n)], capture_output=True, text=True).stdout)
            for n in counts
        ]
        found.append((method, counts, peaks))
        print(f"{method}: {counts[0]} and {counts[1]} passes, peak {peaks[0]:.0f} and {peaks[1]:.0f} MB", flush=True)
    return found


def processor():
    """The name of the CPU, as the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def table(benches, memories):
    """The measurements as Markdown."""
    lines = [
        "# What attribution costs",
        "",
        f"{time.strftime('%Y-%m-%d')}, {processor()}, TensorFlow {tf.__version__}, Keras {keras.__version__}. Time ÷ "
        "(passes × the best compiled pass of the network, BatchNorm not folded; for one picture a pass of one "
        "picture), measured side by side: "
        "`python -m tests.benchmarks.attribution --write`.",
        "",
        "| network | method | passes | ours | peers |",
        "|---|---|---|---|---|",
    ]
    for bench in benches:
        for method, passes, ratios in bench.rows:
            peers = ", ".join(
                f"{name.replace('_', '-')} {value:.2f}" for name, value in ratios.items() if name != "ours"
            )
            lines.append(f"| {bench.name} | {method} | {passes} | {ratios['ours']:.2f} | {peers or '–'} |")
    lines += ["", "| peak memory, EfficientNet-Lite0 | passes | MB |", "|---|---|---|"]
    for method, counts, peaks in memories:
        lines += [f"| {method} | {n} | {peak:.0f} |" for n, peak in zip(counts, peaks, strict=True)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--write", action="store_true")
    options = options.parse_args()
    memories = memory()  # first: a child process counts the peak of its parent as its own
    benches = [
        Bench("EfficientNet-Lite0", zoo.efficientnet_lite0(), CLASS, of_class),
        Bench("MobileNetV2", models.load("mobilenet_v2", weights=None), CLASS, of_class),
    ]
    for bench in benches:
        methods(bench, Peers() if options.quick else Peers(bench.model, bench.picture))
    if not options.quick:
        vgg = models.load("vgg19", size=(224, 224))
        means = keras.Model(vgg.input, keras.layers.GlobalAveragePooling2D()(vgg.output))  # in place of its classes
        benches.append(Bench("VGG19", means, CLASS, of_class, rounds=2))
        # tf-explain takes all 50 pictures at once, which would be 15 GB.
        methods(benches[-1], Peers(means, benches[-1].picture, without=("tf_explain",)))
    written = table(benches, memories)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(written, encoding="utf-8")

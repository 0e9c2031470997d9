"""What holds for the project as a whole: its style, and that its texts say what is there."""

import ast
import re
import shutil
import subprocess
import sys
import warnings

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


# The house is thin: what it may have at most, and what its rooms may ask of each other.

HOUSE = nb.ROOT / "helpers"
FILES = {path.relative_to(HOUSE).as_posix(): path.read_text("utf-8") for path in sorted(HOUSE.rglob("*.py"))}
LONGEST_FILE, LONGEST_FUNCTION, TARGET = 450, 60, 11_200  # lines; the last for all files together
PICTURE_LIBRARIES = {"matplotlib", "PIL", "skimage", "sklearn", "cv2"}
# Rooms, and what has been imported by none of them and those above; Keras itself brings Matplotlib and OpenCV.
IMPORTED_IN_TURN = [
    ("submodels models units space training", "PIL.ImageOps skimage sklearn.linear_model ipywidgets"),
    ("images gradients cam relevance dream inversion plots perturbation", "skimage sklearn.linear_model ipywidgets"),
    ("explore", "skimage sklearn.linear_model"),  # which are imported where they are used
]


def imported(source):
    """Each import of a file, also within functions: (dots before it, module, name)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.partition(".")[0], "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, (node.module or "").partition(".")[0], alias.name) for alias in node.names)


def test_files_and_public_functions_are_short():
    hidden = [name for name in FILES if re.search(r"(^|/)_", name.replace("__init__.py", ""))]
    long = [name for name, source in FILES.items() if source.count("\n") > LONGEST_FILE]
    for name, source in FILES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                lines = node.end_lineno - node.lineno + 1
                long += [f"{name}: {node.name} has {lines} lines"] if lines > LONGEST_FUNCTION else []
    assert not hidden + long, "\n".join(["too long, or underscored:", *hidden, *long])
    if (total := sum(source.count("\n") for source in FILES.values())) > TARGET:
        warnings.warn(f"helpers has {total} lines; the target is {TARGET}", stacklevel=1)


def test_the_core_stands_by_itself_and_widgets_stay_upstairs():
    found = {name: set(imported(source)) for name, source in FILES.items()}
    for name in (name for name in FILES if name.startswith("submodels/")):
        assert {item for level, _, item in found[name] if level > 1} <= {"checks"}, name
        assert not {module for _, module, _ in found[name]} & PICTURE_LIBRARIES, name
    widgets = {name.partition("/")[0] for name in FILES if (0, "ipywidgets") in {one[:2] for one in found[name]}}
    assert widgets == {"explorers", "exercises"}


def test_a_room_does_not_import_the_libraries_of_another():
    steps = [
        f"from helpers import {name}\nprint('{name}', *sys.modules)"
        for name in " ".join(rooms for rooms, _ in IMPORTED_IN_TURN).split()
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *steps])], cwd=nb.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    modules = {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines()}
    for rooms, libraries in IMPORTED_IN_TURN:
        for room in rooms.split():
            assert not modules[room] & set(libraries.split()), room
    assert modules["explore"] >= {"PIL.ImageOps", "ipywidgets"}  # which is where they are


def test_every_name_on_the_map_is_there():
    import helpers

    assert len(helpers.__all__) > 15 and all(getattr(helpers, name).__name__ for name in helpers.__all__)


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


def test_every_technique_that_the_readme_lists_is_there():
    import helpers

    table = README.partition("### Which technique is where")[2].partition("\n### ")[0]
    names = re.findall(r"`(\w+)\.(\w+)`", table)
    assert len(names) > 40
    assert [f"{room}.{name}" for room, name in names if not callable(getattr(getattr(helpers, room), name, None))] == []


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

"""The environment check: fine where all is well, and in words where it is not."""

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest

from helpers import environment


@pytest.fixture
def pretend(monkeypatch):
    """Make `import name` give a module of some version, or raise."""
    real = importlib.import_module

    def install(name, outcome):
        def imported(asked, *rest):
            if asked != name:
                return real(asked, *rest)
            if isinstance(outcome, Exception):
                raise outcome
            return types.SimpleNamespace(__version__=outcome)

        monkeypatch.setattr(environment.importlib, "import_module", imported)

    return install


def test_all_is_well_here(capsys):
    environment.check()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(environment.LIBRARIES)
    assert all(line.startswith("ok ") for line in lines), lines
    assert not any(character.isdigit() for line in lines for character in line), "versions do not belong there"


def test_every_library_that_is_checked_is_a_requirement():
    assert {name for name, _ in environment.LIBRARIES.values()} <= environment._ranges().keys()


def test_every_requirement_that_helpers_imports_is_checked():
    """Found in the sources, so that a library which is taken up later is asked for too."""
    modules = set()
    for file in Path(environment.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.split(".")[0])
    ours = modules - set(sys.stdlib_module_names) - {"helpers", "IPython", "packaging", "traitlets"}
    assert ours <= environment.LIBRARIES.keys()


BARE = """
import sys
class Broken:
    def find_spec(self, name, *rest):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
sys.meta_path.insert(0, Broken())
exec(sys.stdin.read())
import keras, numpy as np
from helpers import environment, gradients, images
photograph = np.zeros((32, 32, 3), "uint8")
model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
for function, *given in ((images.contour, photograph, np.eye(4)), (gradients.xrai, model, photograph, 0)):
    try:
        function(*given)
    except ImportError as error:
        print(str(error).replace(chr(10), " "))
images.overlay(photograph, np.eye(4))
environment.check()
"""


def test_where_opencv_cannot_be_imported_every_notebook_begins_and_two_functions_say_what_is_missing():
    lines = set()
    for file in Path("notebooks").glob("*.ipynb"):
        for cell in nbformat.read(file, as_version=4).cells:
            code = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))
            if cell.cell_type == "code":
                nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, (ast.Import, ast.ImportFrom))]
                lines.update(map(ast.unparse, nodes))
    assert any("exercises" in line for line in lines) and any("gradients" in line for line in lines)
    imports = "\n".join(sorted(line for line in lines if "google.colab" not in line))
    done = subprocess.run([sys.executable, "-c", BARE], input=imports, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    contour, regions, *checked = done.stdout.splitlines()
    for words, needs in ((contour, "images.contour"), (regions, "gradients.xrai")):
        assert words.startswith(f"opencv-python is needed: {needs}") and "libGL" in words and "headless" in words
    assert any(line.startswith("LOOK  opencv-python: libGL.so.1") for line in checked)
    assert sum(line.startswith("LOOK") for line in checked) == 1


def test_opencv_on_a_bare_server_names_the_system_packages(pretend, capsys):
    pretend("cv2", ImportError("libGL.so.1: cannot open shared object file"))
    environment.check()
    out = capsys.readouterr().out
    assert "LOOK  opencv-python: libGL.so.1" in out
    packages = (environment.Path(environment.__file__).parents[1] / "apt.txt").read_text().split()
    assert packages
    for package in packages:
        assert package in out


def test_another_python_is_named_with_those_that_were_tested(monkeypatch, capsys):
    monkeypatch.setattr(environment.platform, "python_version_tuple", lambda: ("3", "14", "0"))
    environment.check()
    assert "tested with 3.11 to 3.13." in capsys.readouterr().out


def test_a_missing_library_is_named_with_the_way_to_get_it(pretend, capsys):
    pretend("skimage", ModuleNotFoundError("No module named 'skimage'", name="skimage"))
    environment.check()
    assert "LOOK  scikit-image: not installed. Run: python -m pip install" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "word"), [("2.19.1", "too old"), ("2.99.0", "newer")])
def test_versions_outside_the_range(pretend, capsys, version, word):
    pretend("tensorflow", version)
    environment.check()
    assert f"LOOK  tensorflow: tensorflow {version} is {word}" in capsys.readouterr().out


def test_require_is_silent_where_all_is_well(capsys):
    environment.require()
    assert capsys.readouterr().out == ""


def test_require_refuses_old_versions(pretend):
    pretend("keras", "3.12.0")
    with pytest.raises(ImportError, match=r"keras 3\.12\.0 is too old"):
        environment.require()


def test_on_colab_nothing_is_to_be_installed(pretend, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    pretend("tensorflow", "2.19.0")
    with pytest.raises(ImportError, match=r"tensorflow 2\.19\.0 is too old.*Runtime version: Latest") as raised:
        environment.require()
    assert "pip" not in str(raised.value)


def test_require_notes_newer_versions(pretend, capsys):
    pretend("keras", "4.0.0")
    environment.require()
    assert "keras 4.0.0 is newer" in capsys.readouterr().out


def test_versions_lists_every_library(pretend, capsys):
    pretend("cv2", ImportError("libGL.so.1"))
    environment.versions()
    out = capsys.readouterr().out
    assert "opencv-python cannot be imported" in out
    assert f"numpy {importlib.import_module('numpy').__version__}" in out

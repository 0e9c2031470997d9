"""The environment check: fine where all is well, and in words where it is not."""

import importlib
import sys
import types

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


def test_opencv_on_a_bare_server_names_the_system_packages(pretend, capsys):
    pretend("cv2", ImportError("libGL.so.1: cannot open shared object file"))
    environment.check()
    out = capsys.readouterr().out
    assert "LOOK  opencv-python: libGL.so.1" in out
    packages = (environment.Path(environment.__file__).parents[1] / "apt.txt").read_text().split()
    assert packages
    for package in packages:
        assert package in out


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

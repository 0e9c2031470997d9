"""The collection with the versions of Colab. Run: make test-colab (elsewhere, skipped tests say so).

That command also runs the other notebooks there and compares what they print, as `make test` does.
"""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.tools import checks, execute
from tests.tools import notebook as nb

from .conftest import PRETEND

PINS = re.findall(r"^(\w\S+)==(\S+)$", Path(__file__).with_name("requirements.txt").read_text("utf-8"), re.MULTILINE)

pytestmark = [
    pytest.mark.colab,
    pytest.mark.skipif(
        version("ipython") != dict(PINS)["ipython"],
        reason="Colab's versions are not installed; they have an environment of their own: make test-colab",
    ),
]


def test_the_versions_are_the_pinned_ones():
    assert {name: version(name) for name, _ in PINS} == dict(PINS)


def test_first_notebook_as_opened_from_its_badge(colab, tmp_path, monkeypatch):
    """Colab has the one notebook only, in an empty /content, and imports google.colab before the first cell."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00_colab.py").write_text(PRETEND)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name, value in colab.environment.items():
        monkeypatch.setenv(name, value)
    notebook = nb.read(nb.START)
    cell = nb.code_cells(notebook)[0]
    cell.source = colab.here(cell.source)
    executed, _ = execute.execute(notebook, folder=colab.content)
    assert checks.has_no_errors(executed, nb.START) == []
    execute.normalise(executed)
    for before, after in zip(nb.code_cells(notebook), nb.code_cells(executed), strict=True):
        if nb.is_compared(before):
            assert nb.texts(after) == nb.texts(before), before.source

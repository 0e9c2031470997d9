"""Whether the peers are there. All other files of this folder are left out where they are not."""

import re
from importlib.metadata import version

import pytest

from .conftest import HERE, MISSING


@pytest.mark.skipif(
    bool(MISSING), reason="the peers are not installed; they have an environment of their own: make test-peers"
)
def test_the_peers_are_those_that_the_requirements_name():
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8")
    for name, wanted in re.findall(r"^([\w-]+)==(\S+)$", lines, re.MULTILINE):
        assert version(name).split("+")[0] == wanted, name

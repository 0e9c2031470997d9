"""What JupyterLab and Voilà are told reaches them, and what others have told them stays."""

import json
import os
import re
import subprocess
import sys

from tests.tools import notebook as nb
from tests.tools import settings

README = (nb.ROOT / "README.md").read_text(encoding="utf-8")


def test_a_server_finds_the_settings_in_its_environment(tmp_path):
    """However it is started. (Voilà proves it in a browser, with a page that takes long.)"""
    settings.write(tmp_path / "etc" / "jupyter")
    found = {"JUPYTER_CONFIG_PATH": str(tmp_path / "etc" / "jupyter"), "JUPYTER_CONFIG_DIR": str(tmp_path / "none")}
    command = [sys.executable, "-m", "jupyter_server", "--show-config-json"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **found}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ServerApp"]["tornado_settings"] == settings.TORNADO


def test_what_others_have_set_is_kept(tmp_path):
    path = tmp_path / "jupyter_server_config.json"
    path.write_text('{"ServerApp": {"port": 9999}, "FileManager": {"x": 1}}')
    for _ in range(2):
        settings.write(tmp_path)
    told = json.loads(path.read_text())
    assert told == {"ServerApp": {"port": 9999, "tornado_settings": settings.TORNADO}, "FileManager": {"x": 1}}


def test_every_way_to_install_writes_them():
    """`make venv` (Codespaces too), the lines for Windows and conda, Binder."""
    command = "python -m tests.tools.settings"
    makefile, binder = ((nb.ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "postBuild"))
    assert re.search(rf"^venv: .*\n\t@\$\(BIN\)/{command}$", makefile, re.MULTILINE)
    assert binder.splitlines() == ["#!/bin/sh", command]
    assert os.access(nb.ROOT / "postBuild", os.X_OK)
    windows, conda = README.partition("On Windows")[2].partition("With conda")[::2]
    assert windows.index(rf".venv\Scripts\{command}") < windows.index(r"Scripts\jupyter lab")
    assert conda.index(f"`{command}`") < conda.index("`jupyter lab")

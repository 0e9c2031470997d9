"""The two flagships in JupyterLab, as a reader runs them: up to the first prediction and what it is about."""

import pytest
from playwright.sync_api import expect

from tests.browser import lab, servers
from tests.tools import checks

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MINUTES = 10
CELLS = {"01_layer_by_layer.ipynb": 9, "02_deconv_dream_reconstruction.ipynb": 6}


@pytest.fixture(scope="module")
def jupyterlab(browser, tmp_path_factory):
    first = {name: lambda number, _, count=count: number < count for name, count in CELLS.items()}
    folder = servers.workspace(tmp_path_factory.mktemp("collection"), first)
    with servers.jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield folder, address


@pytest.mark.parametrize("name", CELLS)
def test_run_all_cells(page, jupyterlab, shoot, name):
    folder, address = jupyterlab
    path = folder / "notebooks" / name
    lab.open_notebook(page, f"{address}/notebooks/{name}")
    executed = lab.run_all(page, path, MINUTES)
    shoot(page, f"lab_{path.stem}")
    assert checks.has_no_errors(executed, path) == []
    assert checks.is_executed_in_order(executed, path) == []
    expect(page.locator(".jp-OutputArea img").first).to_be_attached()
    expect(page.locator(".widget-toggle-buttons").first).to_be_attached()

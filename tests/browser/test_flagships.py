"""The two flagships in JupyterLab, as a reader runs them."""

import pytest

from tests.browser import lab, servers
from tests.tools import checks

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MINUTES = {"01_layer_by_layer.ipynb": 10, "02_deconv_dream_reconstruction.ipynb": 20}


@pytest.fixture(scope="module")
def jupyterlab(browser, tmp_path_factory):
    folder = servers.workspace(tmp_path_factory.mktemp("collection"), *MINUTES)
    with servers.jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield folder, address


@pytest.mark.parametrize("name", MINUTES)
def test_run_all_cells(page, jupyterlab, shoot, name):
    folder, address = jupyterlab
    path = folder / "notebooks" / name
    lab.open_notebook(page, f"{address}/notebooks/{name}")
    executed = lab.run_all(page, path, MINUTES[name])
    shoot(page, f"lab_{path.stem}")
    assert checks.has_no_errors(executed, path) == []
    assert checks.is_executed_in_order(executed, path) == []

"""Comparisons with libraries that we did not write, and the table of what they found.

Run: make test-peers (or, where the peers are installed, `pytest tests/peers`). With `--write-results` the table is
also written to tests/peers/RESULTS.md, if nothing failed. Where the peers are not installed, one skipped test says so.
"""

import datetime
import importlib.util
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
MODULES = {
    "tf_keras_vis": "tf-keras-vis",
    "xplique": "xplique",
    "tf_explain": "tf-explain",
    "saliency": "saliency",
    "lime": "lime",
    "shap": "shap",
    "torch": "torch",
    "captum": "captum",
    "zennit": "zennit",
    "pytorch_grad_cam": "grad-cam",
}
MISSING = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]

if MISSING:
    collect_ignore = [path.name for path in HERE.glob("test_*.py") if path.name != "test_installed.py"]
else:
    # PyTorch would load Triton, and with it a second LLVM beside that of TensorFlow: the process aborts. On a CPU
    # nothing needs it.
    sys.modules.setdefault("triton", None)


def pytest_addoption(parser):
    parser.addoption("--write-results", action="store_true", help="write the table of tests/peers to RESULTS.md")


def pytest_configure(config):
    config.addinivalue_line("markers", "peers: compares with other libraries; leave out with MARK='not peers'")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("peers")


def difference(ours, theirs):
    """Largest difference, as a share of their largest magnitude."""
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    assert np.isfinite(theirs).all() and theirs.any(), "nothing to compare with"
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def correlation(ours, theirs):
    """Pearson's, over all pixels."""
    return np.corrcoef(np.ravel(ours), np.ravel(theirs))[0, 1]


class Compare:
    """Assertions that leave a row in the table."""

    def __init__(self, record):
        self.record = record

    def same(self, method, network, peer, ours, theirs, remark="", at_most=1e-4):
        """Equal but for rounding: the largest difference is at most this share of the largest value."""
        found = difference(ours, theirs)
        verdict = "equal to" if found <= at_most else "NOT equal:"
        self.record("row", [method, network, peer, f"{verdict} {found:.0e}", remark])
        assert found <= at_most, f"{method}, {peer}: differ by {found:.2e}"

    def alike(self, method, network, peer, ours, theirs, above, remark=""):
        """Both are estimates, or the two are not meant to be equal: their correlation is above a number."""
        found = correlation(ours, theirs)
        self.record("row", [method, network, peer, f"correlation {found:.3f} (> {above})", remark])
        assert found > above, f"{method}, {peer}: correlation {found:.4f}"

    def differs(self, method, network, peer, ours, theirs, formula, remark, at_most=1e-4):
        """Not equal, and the formula of theirs, written out in the test, is the whole reason."""
        found, explained = difference(ours, theirs), difference(formula, theirs)
        agreement = f"differ by {found:.0e}, correlation {correlation(ours, theirs):.3f}"
        self.record("row", [method, network, peer, agreement, f"{remark} (their formula: equal to {explained:.0e})"])
        assert explained <= at_most, f"{method}, {peer}: the explanation leaves {explained:.2e}"
        assert found > at_most, f"{method}, {peer}: they agree now ({found:.2e}), and the remark is out of date"


@pytest.fixture
def compare(record_property):
    import torch

    torch.manual_seed(0)  # the other generators are seeded for all tests
    return Compare(record_property)


def pytest_terminal_summary(terminalreporter, config):
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "when")]
    rows = [row for report in reports if report.when == "call" for key, row in report.user_properties if key == "row"]
    if not rows:
        return
    rows.sort(key=lambda row: [cell.lower() for cell in row[:3]])
    head = ["method", "network", "peer", "agreement", "remark"]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(4)]
    terminalreporter.section("peers")
    for row in [head, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        terminalreporter.write_line("  ".join([*cells, row[4]]).rstrip())
    if config.getoption("--write-results", default=False) and not terminalreporter.stats.get("failed"):
        (HERE / "RESULTS.md").write_text(_results(head, rows), encoding="utf-8")


def _results(head, rows):
    versions = ", ".join(f"{name} {version(name)}" for name in ["tensorflow", "keras", *MODULES.values()])
    table = [head, ["---"] * len(head), *rows]
    return "\n".join(
        [
            "# Our attributions beside those of other libraries",
            "",
            "Written by `make test-peers ARGS=--write-results`. Each row is checked by a test in this folder, and each",
            "deviation is explained there. *equal to*: largest difference, as a share of the largest value. *differ",
            "by*: the same where the formulas are two; the remark says what theirs does, and how exactly that explains",
            "it. *correlation*: over all pixels, where chance or an interpolation has a part.",
            "",
            f"{datetime.date.today()} · {_processor()} · Python {platform.python_version()} · {versions}",
            "",
            *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table),
            "",
        ]
    )


def _processor():
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor()


@pytest.fixture(params=["digit_case", "skip_case"], ids=["mnist_cnn", "skip"])
def case(request):
    """A small network and its twin."""
    from . import networks

    return getattr(networks, request.param)().with_copy()

"""Worksheets on paper: one sheet and a page of answers, A4 or Letter, and nothing cut off."""

import re

import pytest

from tests.tools import notebook as nb
from tests.tools import worksheet

pytestmark = pytest.mark.browser

CUT_OFF = """[...document.querySelectorAll("section, article, .room, .row")]
    .filter(part => part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1)
    .map(part => part.textContent.slice(0, 80))"""
LEAST = 40  # pixels: room for two lines in a box


@pytest.mark.parametrize("path", nb.paths(), ids=lambda path: path.stem)
def test_two_pages_and_the_answers(page, tmp_path, path):
    def outcome(id):
        return 0, "A sentence with the numbers, for which there has to be room even if it takes two lines: 1, 2, 3."

    file = tmp_path / f"{path.stem}.html"
    file.write_text(worksheet.page(nb.read(path), outcome), encoding="utf-8")
    page.goto(file.as_uri())
    page.evaluate("MathJax.startup.promise.then(() => null)")
    page.emulate_media(media="print")
    assert page.evaluate(CUT_OFF) == []
    assert min(box.bounding_box()["height"] for box in page.locator(".room").all()) > LEAST
    for paper in ("A4", "Letter"):
        assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format=paper))) == 3

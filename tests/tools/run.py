"""Execute every notebook into build/ and write a gallery that opens without a server: python -m tests.tools.run"""

import html
import re
import sys
from importlib import resources
from pathlib import Path

from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm import tqdm
from traitlets.config import Config

from tests.tools import gallery
from tests.tools import notebook as nb
from tests.tools.execute import execute

BUILD = nb.ROOT / "build"
TEMPLATE = Path(__file__).with_name("page.html.j2")
DOLLARS = 'MathJax = {tex: {inlineMath: [["$", "$"]]}};'

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>See what a convolutional network sees</title>
<style>
  body {{ font: 17px/1.5 system-ui, sans-serif; color: #222; background: #f4f4f2; margin: 0 auto; padding: 2rem 1rem;
         max-width: 76rem; }}
  h1 {{ font-size: clamp(1.5rem, 5vw, 2.4rem); line-height: 1.2; margin: 0 0 1.5rem; }}
  main {{ display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }}
  a {{ display: block; overflow: hidden; border-radius: 10px; background: #fff; color: inherit; text-decoration: none;
      box-shadow: 0 1px 4px #0003; }}
  a:hover, a:focus-visible {{ box-shadow: 0 4px 16px #0004; }}
  img {{ display: block; width: 100%; height: auto; border-bottom: 1px solid #eee; }}
  h2 {{ font-size: 1.15rem; line-height: 1.3; margin: 1rem 1rem .25rem; }}
  p {{ margin: 0 1rem 1.1rem; color: #555; }}
</style>
<h1>See what a convolutional network sees</h1>
<main>
{cards}
</main>
</html>
"""

CARD = """<a href="{name}.html"><img src="thumbnails/{name}.jpg" width="640" height="400" alt="">
<h2>{title}</h2><p>{summary}</p></a>"""


def page(notebook, name):
    """The executed notebook as one HTML file that needs no network; links to other notebooks lead to their pages."""
    kinds = HTMLExporter().default_config.NbConvertBase.display_data_priority
    with_gif = Config(NbConvertBase={"display_data_priority": ["image/gif", *kinds]})
    exporter = HTMLExporter(config=with_gif, raw_template=TEMPLATE.read_text(encoding="utf-8"))
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": nb.title(notebook)}})
    body = re.sub(r'(href="[\w-]+)\.ipynb', r"\1.html", body)
    body = re.sub(r'<img alt="Open in Colab"[^>]*>', "Open in Colab", body)
    sections = re.findall(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"', body, re.DOTALL)
    items = "\n".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in sections)
    body = body.replace("<!-- contents -->", f"<details><summary>Contents</summary><ol>{items}</ol></details>", 1)
    return with_formulas(body)


def with_formulas(page):
    """MathJax stands in each page as a whole, so that formulas can be read without a network."""
    mathjax = resources.files("mathjax").joinpath("static/mathjax/es5/tex-svg.js").read_text(encoding="utf-8")
    return page.replace("</head>", f"<script>{DOLLARS}</script>\n<script>{mathjax}</script>\n</head>", 1)


def card(notebook, name):
    title, summary = html.escape(nb.title(notebook)), html.escape(nb.summary(notebook))
    return CARD.format(name=name, title=title, summary=summary)


def index(notebooks):
    """The gallery page of `notebooks` (name → executed notebook)."""
    return PAGE.format(cards="\n".join(card(notebook, name) for name, notebook in notebooks.items()))


def write(notebook, name, folder):
    """Write the page and the thumbnail of an executed notebook into `folder`."""
    (folder / "thumbnails").mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.html").write_text(page(notebook, name), encoding="utf-8")
    gallery.thumbnail(notebook).save(folder / "thumbnails" / f"{name}.jpg", quality=85)


def main():
    sources = {path.stem: nb.read(path) for path in nb.paths()}
    done = {}
    with tqdm(total=sum(len(nb.code_cells(notebook)) for notebook in sources.values()), unit="cell") as bar:
        for name, notebook in sources.items():
            bar.set_description(name)
            try:
                done[name], _ = execute(notebook, progress=bar.update)
            except CellExecutionError as error:
                return f"{name} failed:\n{error}"
            write(done[name], name, BUILD)
    (BUILD / "index.html").write_text(index(done), encoding="utf-8")
    print(f"Open {(BUILD / 'index.html').as_uri()}")


if __name__ == "__main__":
    sys.exit(main())

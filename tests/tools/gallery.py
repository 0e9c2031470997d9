"""Thumbnails and the gallery of README.md, from the executed notebooks: python -m tests.tools.gallery"""

import html
import io

from PIL import Image, ImageChops, ImageOps

from tests.tools import notebook as nb

THUMBNAILS = nb.FOLDER / "thumbnails"
SIZE = (640, 400)  # pixels, width and height
README = nb.ROOT / "README.md"
MARKS = {
    name: (f"<!-- {name}: written by `make gallery` -->", f"<!-- end of {name} -->") for name in ("film", "gallery")
}


def thumbnail(notebook):
    """The picture of the notebook as a card of `SIZE`, without its white margin. None if there is no picture.

    A part of it, chosen by a tag `crop-…`, fills the card, so that no small letters are on it; the whole gets an edge.
    """
    source = nb.thumbnail_source(notebook)
    if source is None:
        return None
    picture = Image.open(io.BytesIO(source)).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(paper, picture).convert("RGB")
    margin = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).convert("L")
    picture = picture.crop(margin.point(lambda value: 255 * (value > 16)).getbbox())
    if crop := nb.thumbnail_crop(notebook):
        sides = (picture.width, picture.height) * 2
        picture = picture.crop([round(share * side / 100) for share, side in zip(crop, sides, strict=True)])
        return ImageOps.fit(picture, SIZE, Image.Resampling.LANCZOS)
    scale = min((SIZE[0] - 16) / picture.width, (SIZE[1] - 16) / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    card = Image.new("RGB", SIZE, "white")
    card.paste(picture, ((SIZE[0] - picture.width) // 2, (SIZE[1] - picture.height) // 2))
    return card


def _cell(path):
    notebook = nb.read(path)
    title, summary = html.escape(nb.title(notebook)), html.escape(nb.summary(notebook))
    link = f"notebooks/{path.name}"
    return (
        f'<td width="50%" valign="top">\n'
        f'<a href="{link}"><img src="notebooks/thumbnails/{path.stem}.jpg" alt="{title}" width="100%"></a><br>\n'
        f'<b><a href="{link}">{title}</a></b><br>\n'
        f'{summary} <a href="{nb.colab_url(path.stem)}">Open in Colab</a>\n'
        f"</td>"
    )


def table(paths):
    """The gallery as the HTML that GitHub shows in a README: two notebooks in a row."""
    cells = [_cell(path) for path in paths]
    rows = ["<tr>\n" + "\n".join(cells[i : i + 2]) + "\n</tr>" for i in range(0, len(cells), 2)]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def moving(paths):
    """The first film of the collection, in front of everything else, with what it shows."""
    path = next((path for path in paths if nb.film(nb.read(path))), None)
    if path is None:
        return ""
    picture = (
        f'<img src="notebooks/thumbnails/{path.stem}.gif" alt="{html.escape(nb.title(nb.read(path)))}" width="480">'
    )
    return f'<p align="center"><a href="notebooks/{path.name}">{picture}</a></p>'


def with_gallery(readme, paths):
    """The text `readme` with the parts between the marks written anew."""
    for name, part in {"film": moving(paths), "gallery": table(paths)}.items():
        begin, end = MARKS[name]
        before, _, rest = readme.partition(begin)
        _, mark, after = rest.partition(end)
        if not mark:
            raise ValueError(f"README.md has lost the lines {begin} and {end} between which the {name} stands")
        readme = f"{before}{begin}\n{part}\n{end}{after}"
    return readme


def main():
    THUMBNAILS.mkdir(exist_ok=True)
    for path in nb.paths():
        picture = thumbnail(nb.read(path))
        if picture is None:
            raise ValueError(f"{path.name} has no picture among its outputs; execute it with `make notebooks`")
        picture.save(THUMBNAILS / f"{path.stem}.jpg", quality=92, optimize=True)
        if film := nb.film(nb.read(path)):
            (THUMBNAILS / f"{path.stem}.gif").write_bytes(film)
    README.write_text(with_gallery(README.read_text(encoding="utf-8"), nb.paths()), encoding="utf-8")


if __name__ == "__main__":
    main()

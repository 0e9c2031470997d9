"""Attribution by random masks: RISE (Petsiuk et al. 2018) and Sobol indices (Fel et al. 2021)."""

import numpy as np

from .. import checks
from ..submodels import engine
from . import masking, shared


def rise(
    model, images, target=None, *, masks=1000, cells=7, p=0.5, fill=0.0, shift=True, interpolate=True,
    return_error=False, seed=0, batch=16, progress=True,
):  # fmt: skip
    """Which pixels are visible when the score is high? Show random parts of the picture, and average.

    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (2018). With random
    masks M_k, each cell of a coarse grid visible with probability p, map = Σ_k f(x ⊙ M_k) · M_k / (N · p) estimates the
    mean score when a pixel is visible. The paper's score is a probability: a function as target.

    Args:
        model, images, target, fill, batch, progress: as for `occlusion`; the fill 0 is the paper's x ⊙ M.
        masks: N, how many. The error falls as 1 / √N; the paper takes 4000 to 8000.
        cells: along each side of the grid, or (down, across).
        p: probability that a cell is visible, above 0 and at most 1.
        shift: move each grid by up to one cell, so that the map has no edges of cells.
        interpolate: soft masks, bilinear between cells. Without it and without `shift` cells are hard squares.
        return_error: return also the standard error of the map at each pixel.
        seed: of the masks. Each picture of a batch gets the same.

    Returns:
        `(B, H, W)` float32, in units of the score; or `(map, error)`.

    Raises:
        ValueError: as `occlusion`; no mask (one, for the error), more cells than pixels, p out of range.
    """
    task = shared.prepare(model, images, target)
    masks, size = checks.whole(masks, "masks", 2 if return_error else 1), task.images.shape[1:3]
    cells, p = checks.pair(cells, "cells", most=size), checks.real(p, "p", above=0, most=1)
    fills, enlarged = masking.fills(task, fill, seed), masking.cell_masks(size, cells, shift, interpolate)
    name, also = ("rise", size, cells, shift, interpolate), [lambda outputs, masks: masks]
    function = masking.passes(task, name, lambda rows: enlarged(rows[:, 2:], rows[:, :2]), also)
    options, (sums, squares) = {"batch": batch, "progress": progress}, np.zeros((2, *task.images.shape[:3]))
    for index in range(len(sums)):
        rows = engine.Counted(_shifts_and_cells(masks, cells, p, seed), masks)
        for scores, kept in masking.stream(task, function, index, fills, rows, label="RISE", **options):
            # No matrix product: the threads of numpy's would go on waiting in those of the next pass.
            sums[index] += np.einsum("n,nhw->hw", scores, kept)
            squares[index] += np.einsum("n,nhw->hw", scores**2, kept**2) if return_error else 0
    found = task.answer(sums / (masks * p))
    if not return_error:
        return found
    variance = np.maximum(squares / masks - (sums / masks) ** 2, 0)
    return found, task.answer(np.sqrt(variance / (masks - 1)) / p)


def _shifts_and_cells(count, cells, p, seed):
    """Rows of random numbers: how far each mask is shifted, two in 0 … 1, and which of its cells are visible."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        row = random.random(2 + cells[0] * cells[1], "float32")
        row[2:] = row[2:] < p
        yield row


def sobol(
    model, images, target=None, *, cells=8, designs=32, fill="mean", upsample=True, seed=0, batch=16, progress=True
):
    """How much of the score's variation comes from each region, alone or together with others?

    Fel et al., "Look at the Variance!" (2021). Each of d cells is dimmed to a random degree in [0, 1]. The total
    Sobol index of cell i is the share of the variance of the score that is left when all other cells are held. Jansen
    (1999) estimates it as Tᵢ = Σ (f(A) − f(Aᵢ))² / (2 N · Var f), with A and B independent quasi-random draws of N
    rows, and Aᵢ the draws A with column i of B. The indices have no sign, and add up to 1 if cells do not interact, to
    more if they do.

    Args:
        model, images, target, fill, batch, progress: as for `occlusion`; a cell is dimmed towards the fill.
        cells: cells along each side of the grid, or (down, across).
        designs: N, a power of 2. There are N · (d + 2) passes: 2112 for 8 × 8 cells and 32 designs.
        upsample: False keeps the grid of cells, `(B, h, w)`.
        seed: of the draws.

    Returns:
        `(B, H, W)` float32, 0 or more, without unit; zeros where the score does not vary at all.

    Raises:
        ValueError: as `occlusion`; more cells than pixels, designs that are no power of 2 (at least 2).
    """
    from scipy.stats import qmc  # a second of import that nothing else here needs

    task = shared.prepare(model, images, target)
    size = task.images.shape[1:3]
    cells, designs = checks.pair(cells, "cells", most=size), checks.whole(designs, "designs")
    if designs == 1 or designs & (designs - 1):
        raise ValueError(f"designs={designs}: give a power of 2, at least 2, which is what the sequence is even for.")
    fills, count = masking.fills(task, fill, seed), cells[0] * cells[1]
    one, two = np.split(qmc.Sobol(2 * count, seed=seed).random_base2(designs.bit_length() - 1).astype("float32"), 2, 1)

    def draws():
        yield from (*one, *two)
        for cell in range(count):
            yield from np.where(np.arange(count) == cell, two, one)

    function = masking.passes(task, ("sobol", size, cells), masking.cell_masks(size, cells))
    indices = np.zeros((len(task.images), *cells), "float32")
    for index in range(len(task.images)):
        rows = engine.Counted(draws(), designs * (count + 2))
        (scores,) = masking.run(task, function, index, fills, rows, batch=batch, progress=progress, label="Sobol")
        scores = scores.astype("float64").reshape(count + 2, designs)
        variance = scores[:2].var()
        if variance > (1e-6 * np.abs(scores).max()) ** 2:  # else it is rounding
            indices[index] = (((scores[2:] - scores[0]) ** 2).mean(1) / (2 * variance)).reshape(cells)
    return task.answer(shared.upsample(indices, size) if upsample else indices)

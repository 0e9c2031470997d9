"""Figures, by what they are made of: arrays, scales, labels and places, not pixels."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from helpers import images, plots

RNG = np.random.default_rng(0)
MAPS = [RNG.random((4, 4)), 10 * RNG.random((8, 8)), RNG.random((2, 6)) + 3]
PHOTO = images.sample("koala", 64)


def drawn(figure):
    """Every picture or map of a figure, colour bars excluded."""
    return [image for axis in figure.axes for image in axis.images]


def clims(figure):
    return [image.get_clim() for image in drawn(figure)]


def mosaic(figure):
    (image,) = drawn(figure)
    return image.get_array()


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def bars(figure):
    return [axis for axis in figure.axes if hasattr(axis, "_colorbar")]


def tile_at(array, row, column, shape, rows, columns):
    """The tile at a place, with its repeated pixels taken back."""
    height, gap = place(array.shape[0], rows, shape[0], shape)
    width, _ = place(array.shape[1], columns, shape[1], shape)
    part = array[row * (height + gap) :, column * (width + gap) :][:height, :width]
    return part[:: height // shape[0], :: width // shape[1]]


def place(length, count, pixels, shape):
    """Side of a tile and gap in a mosaic of `count` tiles, found by what fits the length."""
    for enlarge in range(1, 100):
        gap = -(-enlarge * max(shape) // 20)
        if count * (enlarge * pixels + gap) - gap == length:
            return enlarge * pixels, gap
    raise AssertionError(f"no mosaic of {count} tiles of {pixels} is {length} long")


def test_shared_scale_is_one_for_all_and_has_a_bar():
    figure = plots.grid(MAPS, shared=True)
    lowest, highest = min(m.min() for m in MAPS), max(m.max() for m in MAPS)
    assert clims(figure) == [pytest.approx((lowest, highest))] * 3 and len(bars(figure)) == 1


def test_own_scales_are_each_of_their_map_and_have_no_bar():
    figure = plots.grid(MAPS, shared=False)
    assert clims(figure) == [pytest.approx((m.min(), m.max())) for m in MAPS] and not bars(figure)


def test_signed_maps_diverge_around_zero():
    figure = plots.grid([MAPS[0] - 2, MAPS[1]], shared=True)
    assert clims(figure) == [pytest.approx((-MAPS[1].max(), MAPS[1].max()))] * 2
    assert {image.get_cmap().name for image in drawn(figure)} == {plots.DIVERGING}
    assert clims(plots.grid([np.full((2, 2), -3.0)])) == [(-3, 3)]


def test_colour_maps_are_not_rainbows():
    for name in (plots.SEQUENTIAL,):
        lightness = matplotlib.colormaps[name](np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(lightness) > 0).all()
    half = matplotlib.colormaps[plots.DIVERGING](np.linspace(0, 1, 65))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert 30 <= half.argmax() <= 34 and half[0] < 0.3 > half[-1]


def test_grid_mixes_photographs_and_maps_and_hides_what_is_left():
    figure = plots.grid([PHOTO, *MAPS, PHOTO[..., 0]], ["photo", "a", "b", "c", "grey"], columns=3, rows=["up", "down"])
    first, *maps = drawn(figure)
    assert (first.get_array() == PHOTO).all()
    for image, expected in zip(maps, [*MAPS, PHOTO[..., 0]], strict=True):
        np.testing.assert_allclose(image.get_array(), expected, rtol=1e-6)
    assert [axis.get_title() for axis in figure.axes] == ["photo", "a", "b", "c", "grey", ""]
    assert [axis.get_ylabel() for axis in figure.axes][::3] == ["up", "down"]


def test_titles_for_columns_stand_above_the_first_row():
    figure = plots.grid(MAPS + MAPS, ["x", "y", "z"], columns=3)
    assert [axis.get_title() for axis in figure.axes] == ["x", "y", "z", "", "", ""]


def test_a_grid_has_no_room_left_between_its_rows():
    figure = plots.grid([PHOTO] * 6, [LONG] * 3 + [""] * 3, columns=3, title=LONG)
    figure.encoded()  # lays it out
    above, below = (figure.axes[place].get_window_extent() for place in (0, 3))
    assert 0 <= above.y0 - below.y1 < 0.1 * above.height


def test_constant_maps_can_be_drawn():
    for figure in (plots.grid([np.zeros((3, 3))]), plots.sheet(np.ones((2, 3, 3)), shared=False)):
        assert all(low < high for low, high in clims(figure))
        figure.encoded()


def test_sheet_puts_each_tile_in_its_place():
    tiles = RNG.random((5, 7, 6)).astype("float32")
    array = mosaic(plots.sheet(tiles, columns=3))
    for number, tile in enumerate(tiles):
        assert (tile_at(array, number // 3, number % 3, (7, 6), 2, 3) == tile).all()
    assert np.ma.is_masked(tile_at(array, 1, 2, (7, 6), 2, 3))


def test_sheet_of_large_tiles_is_not_enlarged():
    tiles = RNG.integers(0, 256, (4, 60, 60, 3)).astype("float32")
    array = mosaic(plots.sheet(tiles, columns=2))
    assert array.dtype == np.uint8 and (array[:60, :60] == tiles[0]).all() and (array[-60:, -60:] == tiles[3]).all()


def test_sheet_scales():
    tiles = RNG.random((4, 8, 8)) * np.array([1, 2, 3, 4])[:, None, None]
    shared, own = plots.sheet(tiles), plots.sheet(tiles, shared=False)
    assert clims(shared) == [pytest.approx((tiles.min(), tiles.max()))] and len(bars(shared)) == 1
    assert clims(own) == [(0, 1)] and not bars(own)
    for row in range(2):
        for column in range(2):
            tile, given = tile_at(mosaic(own), row, column, (8, 8), 2, 2), tiles[2 * row + column]
            np.testing.assert_allclose([tile.min(), tile.max()], [given.min() / given.max(), 1], rtol=1e-5)
    assert clims(plots.sheet(tiles - 1, shared=False)) == [(-1, 1)]


def test_labels_lie_in_the_corners_of_their_tiles():
    figure = plots.sheet(
        np.zeros((4, 48, 48)), columns=2, labels=["a", "b", "c", "d"], heads=["l", "r"], rows=["o", "u"]
    )
    axis = figure.axes[0]
    spots = {text.get_text(): text.get_position() for text in axis.texts}
    assert spots["a"] < (48, 48) and spots["b"][0] > 48 > spots["b"][1] and spots["c"][1] > 48 > spots["c"][0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["l", "r"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["o", "u"]


def test_strongest_channels_come_first_with_their_numbers():
    maps = RNG.random((6, 6, 5)) * np.array([1, -9, 3, 0, 5])
    assert plots.strongest(maps).tolist() == [1, 4, 2, 0, 3]
    figure = plots.channels(maps, count=3, columns=3)
    assert texts(figure) == ["1", "4", "2"]
    assert (tile_at(mosaic(figure), 0, 1, (6, 6), 1, 3) == maps[..., 4].astype("float32")).all()


def test_filters_on_colours_have_grey_for_zero():
    kernel = RNG.normal(size=(3, 3, 3, 4))
    kernel[1, 1, :, 0], kernel[..., 3] = 0, 0
    kernel[..., 2] *= 1000
    array = mosaic(plots.filters(kernel, columns=4))
    for number in range(4):
        tile = tile_at(array, 0, number, (3, 3), 1, 4).astype(float) - 127.5
        largest = np.abs(kernel[..., number]).max() or 1
        np.testing.assert_allclose(tile, 127.5 * kernel[..., number] / largest, atol=0.51)


@pytest.mark.parametrize("shape", [(5, 5, 1, 6), (5, 5, 6, 1)])
def test_filters_without_colours_are_maps_symmetric_around_zero(shape):
    kernel = RNG.normal(size=shape)
    figure = plots.filters(kernel, columns=3)
    assert clims(figure) == [(-1, 1)]
    slices = kernel.reshape(5, 5, 6)
    for number in range(6):
        expected = slices[..., number] / np.abs(slices[..., number]).max()
        tile = tile_at(mosaic(figure), number // 3, number % 3, (5, 5), 2, 3)
        np.testing.assert_allclose(tile, expected, rtol=1e-5)


def test_deeper_kernels_have_a_row_for_each_input():
    kernel = RNG.normal(size=(3, 3, 4, 20)).astype("float32")
    array = mosaic(plots.filters(kernel, count=16, shared=True))
    for source in range(4):
        for target in range(4):
            assert (tile_at(array, source, target, (3, 3), 4, 4) == kernel[:, :, source, target]).all()


def test_film_has_a_row_for_each_channel_on_its_own_scale():
    frames = RNG.normal(size=(5, 6, 6, 2)) * np.array([1, 100])
    figure = plots.filmstrip(frames, [0, 1, 2, 4, 8])
    for channel in range(2):
        for step in range(5):
            expected = frames[step, ..., channel] / np.abs(frames[..., channel]).max()
            tile = tile_at(mosaic(figure), channel, step, (6, 6), 2, 5)
            np.testing.assert_allclose(tile, expected, rtol=1e-5)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "1", "2", "4", "8"]
    assert not bars(figure) and len(bars(plots.filmstrip(frames, range(5), shared=True))) == 1
    assert clims(plots.filmstrip(frames, range(5), shared=True)) == [
        pytest.approx((-np.abs(frames).max(),) + (np.abs(frames).max(),))
    ]


def test_overlays_are_those_of_images():
    figure = plots.overlays(PHOTO, MAPS, ["a", "b", "c"])
    first, *others = drawn(figure)
    assert (first.get_array() == PHOTO).all()
    for image, heatmap in zip(others, MAPS, strict=True):
        assert (image.get_array() == images.overlay(PHOTO, heatmap, 0.8, fade=True)).all()
    assert [axis.get_title() for axis in figure.axes] == ["the photograph", "a", "b", "c"]


def test_overlays_on_one_scale_and_signed_overlays():
    limits = min(m.min() for m in MAPS), max(m.max() for m in MAPS)
    shared = drawn(plots.overlays(PHOTO, MAPS, shared=True))[1]
    assert (shared.get_array() == images.overlay(PHOTO, MAPS[0], 0.8, limits=limits, fade=True)).all()
    signed = drawn(plots.overlays(PHOTO, [MAPS[0] - 0.5]))[1]
    expected = images.overlay(PHOTO, MAPS[0] - 0.5, 0.8, plots.DIVERGING, "symmetric", fade=True)
    assert (signed.get_array() == expected).all()


def test_curves_have_a_panel_for_each_quantity_and_a_tick_for_each_layer():
    layers = [f"block{n}_relu" for n in range(12)]
    figure = plots.curves({"sparsity": np.arange(12) / 12, "energy": np.arange(1, 13)}, layers, log=("energy",))
    sparsity, energy = figure.axes
    assert (sparsity.lines[0].get_ydata() == np.arange(12) / 12).all()
    assert (sparsity.get_yscale(), energy.get_yscale()) == ("linear", "log")
    assert [label.get_text() for label in energy.get_xticklabels()] == layers


def test_curves_of_training_have_a_legend_and_keep_step_zero():
    steps = [0, 1, 2, 4, 800]
    figure = plots.curves({"loss": {"training": steps, "test": steps[::-1]}}, steps, log=("x",), xlabel="step")
    (axis,) = figure.axes
    assert axis.get_xscale() == "symlog" and axis.get_xlabel() == "step"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["training", "test"]
    assert axis.lines[1].get_ydata().tolist() == steps[::-1] and axis.lines[1].get_xdata().tolist() == steps


def test_matrix_writes_its_numbers_and_shares_one_scale():
    values = np.array([[[1, 0.25], [0.25, 1]], [[1, -0.001], [10.25, 1]]])
    figure = plots.matrix(values, ["a", "b"], ["first", "last"])
    assert texts(figure)[:8] == ["1.00", "0.25", "0.25", "1.00", "1.00", "0.00", "10.25", "1.00"]
    assert clims(figure) == [(-10.25, 10.25)] * 2
    assert clims(plots.matrix(values[0], ["a", "b"], limits=(0, 1))) == [(0, 1)]


def test_dots_show_every_number_in_the_row_of_its_group():
    figure = plots.dots({"first": {"own": [1, 2, 3], "other": [-1]}, "second": {"own": [5], "other": []}}, zero=0.5)
    (axis,) = figure.axes
    rows = [np.rint(np.asarray(points.get_offsets())[:, 1]) for points in axis.collections]
    assert [list(np.asarray(points.get_offsets())[:, 0]) for points in axis.collections] == [[1, 2, 3], [-1], [5], []]
    assert list(map(list, rows)) == [[0, 0, 0], [0], [1], []]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    assert axis.lines[0].get_xdata()[0] == 0.5 and len(figure.legends[0].texts) == 2


def test_pixels_of_figures_of_one_size_are_frames():
    first, second = (plots.curves({"a": values}, [0, 1], width=4).pixels() for values in ([0, 1], [0, 10_000]))
    assert first.shape == second.shape and first.shape[1:] == (400, 3) and first.dtype == np.uint8
    assert (first != second).any()


def test_boxes_are_where_they_belong_and_all_of_them_is_seen():
    figure = plots.boxes(PHOTO, [(10, 20, 30, 50), (-20, 0, 40, 100)], ["small", "large"])
    axis = figure.axes[0]
    small, large = axis.patches
    assert small.get_bbox().extents.tolist() == [20, 10, 50, 30] and large.get_bbox().extents.tolist() == [
        0,
        -20,
        100,
        40,
    ]
    assert axis.get_xlim()[1] > 100 and axis.get_ylim()[1] < -20 and axis.get_ylim()[0] > 64
    assert tuple(drawn(figure)[0].get_extent()) == (0, 64, 64, 0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["small", "large"]


def test_patches_of_different_sizes_share_a_mosaic():
    small, large = RNG.integers(0, 256, (3, 4, 4, 3)), RNG.integers(0, 256, (2, 96, 96, 3))
    figure = plots.patches([small, large], ["shallow", "deep"], [[3, 2, 1], [0.5, 0.25]], side=96)
    array = mosaic(figure)
    assert (tile_at(array, 0, 2, (96, 96), 2, 3)[::24, ::24] == small[2]).all()
    assert (tile_at(array, 1, 1, (96, 96), 2, 3) == large[1]).all()
    assert (tile_at(array, 1, 2, (96, 96), 2, 3) == 255).all()
    assert texts(figure) == ["3", "2", "1", "0.5", "0.25", ""]


def test_predictions_are_bars_of_the_probabilities():
    answers = [[(105, "koala", 0.9), (1, "teddy", 0.05)], [(2, "panda", 0.6), (3, "ice bear", 0.3)]]
    figure = plots.predictions([PHOTO, PHOTO[::-1]], answers, ["one", "two"])
    assert (drawn(figure)[1].get_array() == PHOTO[::-1]).all()
    widths = [[bar.get_width() for bar in axis.patches] for axis in figure.axes if axis.patches]
    assert widths == [[0.9, 0.05], [0.6, 0.3]]
    assert texts(figure) == ["90%  koala", "5%  teddy", "60%  panda", "30%  ice bear"]


LONG = "a finding that needs many words because it is about everything that a network does " * 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.grid(MAPS, [LONG] * 3, shared=True, title=LONG, rows=["row"]),
        lambda: plots.sheet(
            RNG.random((12, 9, 9)), columns=6, heads=["step 1000"] * 6, rows=["one", "two"], title=LONG
        ),
        lambda: plots.curves({LONG: np.arange(33)}, ["block7a_depthwise_relu"] * 33, title=LONG),
        lambda: plots.matrix(np.eye(8), ["german_shepherd"] * 8, title=LONG),
        lambda: plots.boxes(PHOTO, [(1, 2, 3, 4)], ["block2a: 31 pixels"], title=LONG),
        lambda: plots.predictions([PHOTO] * 3, [[(0, "koala", 0.1)]] * 3, [LONG] * 3, title=LONG),
    ],
)
def test_nothing_is_cut_off(draw):
    figure = draw()
    figure.encoded()  # lays it out
    whole = figure.bbox
    inside = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    assert inside.x0 >= -1 and inside.y0 >= -1 and inside.x1 <= whole.x1 + 1 and inside.y1 <= whole.y1 + 1
    assert figure.get_figwidth() <= 10


def test_figure_shows_itself_once_and_leaves_nothing_open(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, metadata, raw: shown.append((bundle, metadata)))
    figure = plots.grid([images.sample("koala")])
    figure._ipython_display_()
    figure.large()._ipython_display_()
    (bundle, plain), (large, metadata) = shown
    assert set(bundle) == {"image/jpeg", "text/plain"} and "with 1 Axes" in bundle["text/plain"] and plain == {}
    # Twice as many dots, in the same room.
    assert images.load(large["image/jpeg"]).shape[1] // 2 == metadata["image/jpeg"]["width"]
    assert metadata["image/jpeg"]["width"] == pytest.approx(images.load(bundle["image/jpeg"]).shape[1], abs=1)
    assert plt.get_fignums() == []


def test_figures_are_small_on_white():
    noisy = plots.sheet(RNG.random((64, 60, 60)), title="the worst that can happen")
    for figure in (noisy, plots.curves({"loss": [1, 2, 3]}, [1, 2, 3]), plots.grid([images.sample("bison")] * 12)):
        mime, content = figure.encoded()
        picture = images.load(content)
        assert len(content) <= 150_000 and mime == Image.MIME[Image.open(io.BytesIO(content)).format]
        assert (picture[0, :10] >= 240).all() and picture.std() > 5  # JPEG rings a little
    assert plots.curves({"loss": [1, 2, 3]}, [1, 2, 3]).encoded()[0] == "image/png"


def test_style_of_the_caller_is_left_alone():
    before = dict(matplotlib.rcParams)
    plots.grid(MAPS)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "draw, says",
    [
        (lambda: plots.grid([]), "empty"),
        (lambda: plots.grid(MAPS, ["only one"]), "1 titles for 3"),
        (lambda: plots.grid(MAPS, rows=["a", "b"]), "2 row names for 1"),
        (lambda: plots.grid([np.full((2, 2), np.nan)]), "NaN"),
        (lambda: plots.sheet(np.zeros((2, 3))), r"\(2, 3\)"),
        (lambda: plots.sheet(np.zeros((2, 3, 3)), labels=["a"]), "1 labels for 2"),
        (lambda: plots.channels(np.zeros((1, 4, 4, 8))), r"\(H, W, C\)"),
        (lambda: plots.filters(np.zeros((3, 3))), r"\(3, 3\)"),
        (lambda: plots.filmstrip(np.zeros((5, 3, 3, 1, 8)), range(5)), "Choose fewer"),
        (lambda: plots.filmstrip(np.zeros((5, 3, 3, 2)), range(4)), "4 steps for 5"),
        (lambda: plots.overlays(PHOTO, MAPS, ["a"]), "1 titles for 3"),
        (lambda: plots.curves({"loss": [1, 2]}, [1, 2, 3]), "loss.*2 values for 3"),
        (lambda: plots.matrix(np.zeros((2, 3)), ["a", "b"]), "square"),
        (lambda: plots.dots({"a": {"own": [1]}, "b": {"other": [1]}}), "Row 'b'.*other"),
        (lambda: plots.boxes(PHOTO, [(0, 0, 1, 1)], ["a", "b"]), "2 labels for 1"),
        (lambda: plots.predictions([PHOTO], []), "0 lists of answers for 1"),
    ],
)
def test_impossible_figures_say_why(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()


def test_flows_are_red_above_zero_and_blue_below_and_as_thick_as_they_are_large():
    places = {"x": (0, 0), "h": (1, 1), "y": (2, 0)}
    values = {"x": 1.0, "h": -2.0, "y": 3.0}
    panels = {name: (values, {("x", "h"): 2.0, ("h", "y"): -1.0}) for name in ("one", "two")}
    figure = plots.flows(places, panels | {"still": (values, {("x", "y"): 0.0})}, "a title")
    one, _, still = figure.axes
    assert (one.get_title(), figure.get_suptitle()) == ("one", "a title")
    assert {"+2.0", "-1.0", "x\n1.0", "h\n-2.0", "y\n3.0"} == {text.get_text() for text in one.texts}
    strong, weak = one.lines
    assert strong.get_linewidth() > weak.get_linewidth() > still.lines[0].get_linewidth()
    red, blue = (np.subtract(*matplotlib.colors.to_rgb(line.get_color())[::2]) for line in (strong, weak))
    assert red > 0.3 and blue < -0.3

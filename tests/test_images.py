"""Pictures: every kind of file, the one crop, overlays against their formula, and composites against their halves."""

import io
import struct
import zlib

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageSequence

from helpers import images

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.indices((16, 24))
SMOOTH = np.stack([COLUMNS * 10, ROWS * 10, np.full((16, 24), 128)], -1).astype("uint8")
NOISE = RNG.integers(0, 256, (16, 24, 3), dtype="uint8")


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_of_16_bits(values):
    """A colour PNG written by hand, because Pillow cannot write 16 bits of colour."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


# Reading


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_files_without_loss_come_back_exactly(format):
    assert (images.load(encoded(Image.fromarray(NOISE), format)) == NOISE).all()


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_files_with_loss_come_back_in_the_right_channel_order(format):
    loaded = images.load(encoded(Image.fromarray(SMOOTH), format, quality=95))
    assert loaded.shape == SMOOTH.shape and loaded.dtype == np.uint8
    assert np.abs(loaded.astype(int) - SMOOTH).mean() < 4


def test_path_text_bytes_memoryview_array_and_pil_image_agree(tmp_path):
    path = tmp_path / "picture with spaces é.png"
    Image.fromarray(NOISE).save(path)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), NOISE, Image.fromarray(NOISE)):
        assert (images.load(source) == NOISE).all()


def test_what_is_loaded_is_a_copy():
    array = NOISE.copy()
    images.load(array)[:] = 0
    assert (array == NOISE).all()


def test_first_frame_of_a_gif():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (images.load(data) == [255, 0, 0]).all()


def test_grey_of_16_bits_is_scaled_to_8():
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    loaded = images.load(encoded(Image.fromarray(values), "PNG"))
    assert loaded.shape == (64, 64, 3) and (loaded[..., 0] == loaded[..., 2]).all()
    assert np.abs(loaded[..., 0] - values / 257).max() < 1


def test_colour_of_16_bits_is_scaled_to_8():
    values = RNG.integers(0, 65536, (8, 5, 3), dtype=np.uint16)
    assert np.abs(images.load(png_of_16_bits(values)) - values / 257).max() < 1


def test_grey_and_black_and_white_files_get_three_channels():
    grey = Image.fromarray(NOISE[..., 0])
    assert (images.load(encoded(grey, "PNG")) == NOISE[..., :1]).all()
    assert set(np.unique(images.load(encoded(grey.convert("1"), "PNG")))) == {0, 255}


def test_transparency_is_laid_on_white():
    rgba = np.dstack([NOISE, RNG.integers(0, 256, NOISE.shape[:2], dtype="uint8")])
    rgba[0, 0], rgba[0, 1] = (10, 20, 30, 0), (10, 20, 30, 255)
    share = rgba[..., 3:] / 255
    expected = share * NOISE + (1 - share) * 255
    for source in (rgba, encoded(Image.fromarray(rgba), "PNG"), Image.fromarray(rgba)):
        loaded = images.load(source)
        assert np.abs(loaded - np.where(share == 0, 255, np.where(share == 1, rgba[..., :3], expected))).max() <= 1
        assert tuple(loaded[0, 0]) == (255, 255, 255) and tuple(loaded[0, 1]) == (10, 20, 30)


def test_palette_with_and_without_a_transparent_colour():
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for column in range(3):
        picture.putpixel((column, 0), column)
    assert images.load(encoded(picture, "PNG")).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    see_through = images.load(encoded(picture, "PNG", transparency=1))
    assert see_through.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_cmyk():
    cyan, black = (255, 0, 0, 0), (0, 0, 0, 255)
    for colour, expected in ((cyan, (0, 255, 255)), (black, (0, 0, 0))):
        loaded = images.load(encoded(Image.new("CMYK", (16, 16), colour), "JPEG", quality=95))
        assert np.abs(loaded.astype(int) - expected).max() <= 3


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_rotation_noted_by_the_camera_is_applied(orientation):
    note = Image.Exif()
    note[0x0112] = orientation
    loaded = images.load(encoded(Image.fromarray(NOISE), "PNG", exif=note))
    assert (loaded == UPRIGHT[orientation](NOISE)).all()


def test_arrays_of_numbers_are_pixel_values():
    assert (images.load(NOISE.astype("float64")) == NOISE).all()
    assert images.load(np.array([[0.4, 254.6]]))[..., 0].tolist() == [[0, 255]]
    assert (images.load(NOISE[..., :1]) == NOISE[..., :1]).all() and (
        images.load(NOISE[..., 0]) == NOISE[..., :1]
    ).all()
    assert images.load(np.array([[True, False]]))[..., 0].tolist() == [[255, 0]]
    assert (images.load(np.zeros((2, 2, 3), "float32")) == 0).all()


@pytest.mark.parametrize(
    "array, says",
    [
        (np.full((2, 2, 3), 256.0), "0 to 255"),
        (np.full((2, 2, 3), -1), "0 to 255"),
        (np.full((2, 2, 3), 0.5), "multiply them by 255"),
        (np.full((2, 2, 3), np.nan), "NaN"),
        (np.zeros((2, 2, 2)), "not one picture"),
        (np.zeros((1, 2, 2, 3)), "not one picture"),
        (np.zeros((0, 2, 3)), "not one picture"),
        (np.zeros(3), "not one picture"),
        (7, "int"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_named(array, says):
    with pytest.raises(ValueError, match=says):
        images.load(array)


def test_missing_file_folder_empty_file_and_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*koalas.png"):
        images.load(tmp_path / "koalas.png")
    with pytest.raises(FileNotFoundError, match=r'images\.sample\("koala"\)'):
        images.load("koala")
    with pytest.raises(ValueError, match="folder"):
        images.load(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="empty"):
        images.load(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("no picture at all")
    with pytest.raises(ValueError, match="text.jpg: not a picture.*JPEG"):
        images.load(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="0 bytes: empty"):
        images.load(b"")


def test_postscript_is_not_read_because_that_starts_a_program():
    with pytest.raises(ValueError, match="not a picture"):
        images.load(encoded(Image.fromarray(NOISE), "EPS"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_files_that_were_cut_off(format, share):
    data = encoded(Image.fromarray(NOISE), format)
    with pytest.raises(ValueError, match="damaged|not a picture"):
        images.load(data[: int(len(data) * share)])


def test_a_hundred_megapixels_are_refused_before_they_are_decoded():
    bomb = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    for side, says in ((10_000, "10000 × 10000"), (30_000, "exceeds limit")):
        bomb[16:24] = struct.pack(">II", side, side)
        bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
        with pytest.raises(ValueError, match=says):
            images.load(bytes(bomb))


# The bundled photographs


def test_every_sample_can_be_loaded():
    names = images.samples()
    assert len(names) >= 28 and {"koala", "german_shepherd", "coffee", "astronaut"} <= set(names)
    for name in names:
        picture = images.sample(name)
        assert picture.ndim == 3 and picture.shape[-1] == 3 and picture.dtype == np.uint8 and picture.std() > 20


def test_sample_of_a_size_is_what_batch_makes_of_it():
    assert (images.sample("moose", 32) == images.batch(images.sample("moose"), size=32)[0]).all()


def test_unknown_sample_gets_the_nearest_names():
    with pytest.raises(ValueError, match="koala"):
        images.sample("koalla")
    with pytest.raises(ValueError, match="panda"):
        images.sample("koala+pnada")


# Sizes


def test_crop_is_the_largest_centred_part():
    array = np.arange(6 * 10).reshape(6, 10).astype("float32")
    assert (images.crop(array, 6) == array[:, 2:8]).all()
    assert (images.crop(array.T, 6) == array.T[2:8]).all()
    assert (images.crop(array, (3, 5)) == images.resize(array, (3, 5))).all()
    assert (images.crop(array, (6, 3)) == array[:, 3:6]).all()


def test_shrinking_to_blocks_is_their_mean():
    array = RNG.random((12, 12)).astype("float32")
    expected = array.reshape(3, 4, 3, 4).mean((1, 3))
    np.testing.assert_allclose(images.resize(array, 3, "box"), expected, atol=1e-6)


def test_shrinking_does_not_alias():
    stripes = np.tile([0.0, 1.0], (64, 32))
    assert np.abs(images.resize(stripes, 16) - 0.5).max() < 0.1
    stripes = np.uint8(255) * (np.arange(64) % 2).astype("uint8") * np.ones((64, 1), "uint8")
    assert np.abs(images.resize(stripes, 16)[2:-2, 2:-2].astype(int) - 127).max() <= 8


def test_enlarging_interpolates_between_pixel_centres():
    np.testing.assert_allclose(images.resize(np.array([[0.0, 1.0]]), (1, 4)), [[0, 0.25, 0.75, 1]], atol=1e-6)
    assert images.resize(np.array([[0.0, 1.0]]), (1, 4), "nearest").tolist() == [[0, 0, 1, 1]]


def test_one_axis_can_shrink_while_the_other_grows():
    array = np.array([[0.0, 2.0], [2.0, 4.0]])
    np.testing.assert_allclose(images.resize(array, (1, 4)), [[1, 1.5, 2.5, 3]], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 200])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_number_of_channels(channels, dtype):
    array = (RNG.random((7, 9, channels)) * 255).astype(dtype)
    resized = images.resize(array, (5, 20))
    assert resized.shape == (5, 20, channels) and resized.dtype == dtype
    for channel in range(channels):
        assert (resized[..., channel] == images.resize(array[..., channel], (5, 20))).all()


def test_dtypes_and_masks():
    assert images.resize(np.zeros((4, 4), "int64"), 2).dtype == np.float32
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    assert images.resize(mask, 2, "box").tolist() == [[True, True], [False, False]]


def test_same_size_changes_nothing():
    assert (images.resize(NOISE, NOISE.shape[:2]) == NOISE).all() and (
        images.crop(NOISE, NOISE.shape[:2]) == NOISE
    ).all()


@pytest.mark.parametrize("size", [0, -3, 2.5, (3,), (3, 4, 5), (3, 0)])
def test_impossible_sizes(size):
    with pytest.raises(ValueError, match="size="):
        images.crop(NOISE, size)


def test_impossible_arrays_and_methods():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\)"):
        images.resize(np.zeros((2, 3, 4, 5)), 2)
    with pytest.raises(ValueError, match="bicubic"):
        images.resize(NOISE, 2, "lanczos7")


def test_batch():
    wide = np.zeros((10, 30, 3), "uint8")
    wide[:, 10:20] = 200
    made = images.batch(wide, wide.transpose(1, 0, 2), size=10)
    assert made.shape == (2, 10, 10, 3) and made.dtype == np.float32 and (made == 200).all()
    assert images.batch(NOISE, size=None).shape == (1, 16, 24, 3)
    assert images.batch(NOISE).shape == (1, 224, 224, 3)
    with pytest.raises(ValueError, match=r"\(10, 30\), \(16, 24\)"):
        images.batch(wide, NOISE, size=None)
    with pytest.raises(ValueError, match="at least one"):
        images.batch()


# Maps as pictures

TABLE = (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(int)


def test_overlay_is_the_blend_of_picture_and_colour_table():
    heatmap = np.arange(16 * 24).reshape(16, 24) / 7
    places = np.minimum((heatmap / heatmap.max() * 256).astype(int), 255)
    assert (images.overlay(NOISE, heatmap, alpha=0) == NOISE).all()
    assert np.abs(images.overlay(NOISE, heatmap, alpha=1) - TABLE[places]).max() <= 3  # one step of the table
    expected = 0.7 * NOISE + 0.3 * TABLE[places]
    assert np.abs(images.overlay(NOISE, heatmap, alpha=0.3) - expected).max() <= 1.5
    assert images.overlay(NOISE, heatmap).dtype == np.uint8


def test_an_overlay_that_fades_leaves_the_picture_alone_where_the_map_says_nothing():
    grey = np.full((8, 24, 3), 100, "uint8")
    rising = np.tile(np.arange(24.0), (8, 1))
    expected = 100 + 0.6 * (rising / 23)[..., None] * (images.colorize(rising) - 100.0)
    assert np.abs(images.overlay(grey, rising, 0.6, fade=True) - expected).max() <= 1
    around_zero = rising - 11.5
    drawn = images.overlay(grey, around_zero, 1, "RdBu_r", "symmetric", fade=True)
    expected = 100 + abs(around_zero / 11.5)[..., None] * (images.colorize(around_zero, "RdBu_r", "symmetric") - 100.0)
    assert np.abs(drawn - expected).max() <= 1 and np.abs(drawn[:, 11:13] - 100.0).max() < 10
    assert (images.overlay(grey, np.zeros((8, 24)), 1, fade=True) == grey).all()


def test_overlay_of_a_constant_map_is_the_low_end():
    for value in (0, 3.5, -2):
        assert np.abs(images.overlay(NOISE, np.full((4, 6), value), alpha=1) - TABLE[0]).max() <= 1


def test_overlay_scales_the_map_to_the_picture():
    heatmap = np.array([[0.0, 1.0]])
    drawn = images.overlay(np.zeros((10, 20, 3), "uint8"), heatmap, alpha=1)
    assert drawn.shape == (10, 20, 3) and np.abs(drawn[:, 0] - TABLE[0]).max() <= 1
    assert np.abs(drawn[:, -1] - TABLE[255]).max() <= 1
    shrunk = images.overlay(np.zeros((4, 4, 3), "uint8"), np.eye(64), alpha=1)
    assert shrunk.shape == (4, 4, 3) and shrunk[0, 0].sum() > shrunk[0, 3].sum()


def test_overlay_lies_where_the_network_looked():
    wide = np.full((10, 30, 3), 50, "uint8")
    drawn = images.overlay(wide, RNG.random((5, 5)), alpha=1)
    changed = (drawn != wide).any((0, 2))
    assert drawn.shape == wide.shape and changed[10:20].all() and not changed[:10].any() and not changed[20:].any()
    square = images.crop(wide, 10)
    heatmap = RNG.random((10, 10))
    assert (images.overlay(wide, heatmap)[:, 10:20] == images.overlay(square, heatmap)).all()


def test_coarse_grids_of_the_pictures_own_proportions_cover_it_all():
    for grid in ((7, 7), (7, 8), (14, 15)):
        drawn = images.overlay(np.full((224, 231, 3), 50, "uint8"), np.arange(grid[0] * grid[1]).reshape(grid), alpha=1)
        assert (drawn != 50).any(-1).all()


def test_overlay_of_a_batch():
    batch, maps = RNG.integers(0, 256, (3, 8, 8, 3)).astype("float32"), RNG.random((3, 4, 4))
    drawn = images.overlay(batch, maps)
    assert drawn.shape == (3, 8, 8, 3)
    for one, picture, heatmap in zip(drawn, batch, maps, strict=True):
        assert (one == images.overlay(picture, heatmap)).all()
    scaled = images.overlay(batch, maps * np.array([1, 10, 100])[:, None, None])
    assert np.abs(scaled.astype(int) - drawn).max() <= 2


def test_symmetric_limits_put_zero_in_the_middle():
    middle = matplotlib.colormaps["RdBu_r"](0.5, bytes=True)[:3]
    colours = images.colorize([-1.0, 0.0, 4.0], "RdBu_r", "symmetric")
    assert tuple(colours[1]) == middle
    assert tuple(colours[2]) == matplotlib.colormaps["RdBu_r"](1.0, bytes=True)[:3]
    assert tuple(colours[0]) == matplotlib.colormaps["RdBu_r"](0.375, bytes=True)[:3]
    assert (images.colorize(np.zeros((2, 2)), "RdBu_r", "symmetric") == middle).all()


def test_limits_put_several_maps_on_one_scale():
    low, high = images.colorize([[0.0, 0.5]], limits=(0, 1)), images.colorize([[0.5, 1.0]], limits=(0, 1))
    assert (low[0, 1] == high[0, 0]).all()
    assert (images.colorize([-5.0, 5.0], limits=(0, 1)) == images.colorize([0.0, 1.0], limits=(0, 1))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_without_a_scale(bad):
    heatmap = np.zeros((4, 4))
    heatmap[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        images.overlay(NOISE, heatmap)


def test_overlays_that_cannot_be():
    with pytest.raises(ValueError, match="does not belong|one map for each"):
        images.overlay(np.zeros((2, 4, 4, 3)), np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="does not belong"):
        images.overlay(NOISE, np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="alpha=1.5"):
        images.overlay(NOISE, np.zeros((4, 4)), alpha=1.5)
    with pytest.raises(ValueError, match="limits"):
        images.overlay(NOISE, np.zeros((4, 4)), limits=(1, 0))
    with pytest.raises(ValueError, match="limits"):
        images.colorize(np.zeros((4, 4)), limits="log")
    with pytest.raises(ValueError, match="cmap|colou?rmap"):
        images.colorize(np.zeros((4, 4)), "no such map")


# Several pictures in one


@pytest.mark.parametrize("tail", [(), (3,)])
def test_tile_puts_each_picture_in_its_place(tail):
    pictures = RNG.integers(0, 256, (5, 4, 6, *tail), dtype="uint8")
    mosaic = images.tile(pictures, columns=3, gap=2, fill=7)
    assert mosaic.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, *tail) and mosaic.dtype == np.uint8
    left = np.full(mosaic.shape, True)
    for place, picture in enumerate(pictures):
        top, start = place // 3 * 6, place % 3 * 8
        assert (mosaic[top : top + 4, start : start + 6] == picture).all()
        left[top : top + 4, start : start + 6] = False
    assert (mosaic[left] == 7).all()


def test_tile_is_nearly_square_and_accepts_maps():
    assert images.tile(np.zeros((9, 2, 2)), gap=0).shape == (6, 6)
    assert np.isnan(images.tile(np.zeros((3, 2, 2), "float32"), fill=np.nan)[3:, 3:]).any()
    assert images.tile(np.zeros((2, 2, 2), "float32"), columns=5, gap=1).shape == (2, 14)
    with pytest.raises(ValueError, match="one shape"):
        images.tile([np.zeros((2, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="one shape"):
        images.tile([])


@pytest.mark.parametrize("size", [224, 31, (30, 44)])
def test_composite_is_two_halves_and_the_masks_say_where(size):
    image, masks = images.composite("koala", "panda", size)
    upper, lower = masks["koala"], masks["panda"]
    assert image.shape[:2] == upper.shape == lower.shape and (upper ^ lower).all()
    for name, mask in masks.items():
        rows = int(mask[:, 0].sum())
        assert (image[mask].reshape(rows, -1, 3) == images.sample(name, (rows, image.shape[1]))).all()


def test_composites_are_samples_too():
    for name in images.COMPOSITES:
        image, found = images.composite(*name.split("+"))
        assert (images.sample(name) == image).all() and list(found) == name.split("+")
        assert all((images.masks(name)[part] == found[part]).all() for part in found)
    assert images.sample("koala+panda", 32).shape == (32, 32, 3)
    assert images.masks("koala+panda", size=32)["koala"].shape == (32, 32)


def test_impossible_composites():
    with pytest.raises(ValueError, match="two different"):
        images.composite("koala", "koala")
    with pytest.raises(ValueError, match="two halves"):
        images.composite("koala", "panda", 1)
    with pytest.raises(ValueError, match="not a composite"):
        images.masks("koala")
    with pytest.raises(ValueError, match="not a composite"):
        images.sample("koala+panda+sheep")


def test_animation_has_every_frame_in_order():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = np.stack([np.full((4, 6, 3), colour, "uint8") for colour in colours])
    with Image.open(io.BytesIO(images.animation(frames, fps=5, width=60))) as film:
        assert film.format == "GIF" and film.size == (60, 40) and film.n_frames == 3 and film.info["loop"] == 0
        for place, colour in enumerate(colours):
            film.seek(place)
            assert film.info["duration"] == 200
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - colour).max() <= 2


def test_animation_keeps_the_pixels_of_small_maps_and_is_small():
    board = np.uint8(255) * (np.indices((4, 4)).sum(0) % 2).astype("uint8")
    with Image.open(io.BytesIO(images.animation([board], width=40))) as film:
        assert (np.asarray(film.convert("L")) == board.repeat(10, 0).repeat(10, 1)).all()
    still = [images.sample("koala", 64)] * 10
    assert len(images.animation(still)) < 3 * len(images.animation(still[:1]))


def test_animation_labels_stand_in_the_corner_of_their_frames():
    grey = np.full((64, 96, 3), 90, np.uint8)
    with Image.open(io.BytesIO(images.animation([grey, grey], labels=["i", "a long one"]))) as film:
        inked = []
        for frame in ImageSequence.Iterator(film):
            changed = np.abs(np.array(frame.convert("RGB"), int) - 90).max(-1) > 60
            assert changed.any() and not changed[:32].any()
            inked.append(changed.sum())
    assert inked[1] > 3 * inked[0]


def test_impossible_animations():
    with pytest.raises(ValueError, match="1 labels for 2 frames"):
        images.animation([NOISE, NOISE], labels=["one"])
    with pytest.raises(ValueError, match="at least one"):
        images.animation([])
    with pytest.raises(ValueError, match="fps"):
        images.animation([NOISE], fps=0)


# Masks and outlines


def ramp():
    return np.tile(np.arange(64.0), (64, 1))


def test_masked_keeps_the_strongest_share_and_dims_the_rest():
    picture = np.full((64, 64, 3), 200, np.uint8)
    shown = images.masked(picture, ramp(), share=0.25, dim=0.1)
    assert (shown[:, 48:] == 200).all() and (shown[:, :48] == 20).all()
    np.testing.assert_array_equal(images.masked(picture, np.ones((7, 7))), picture)  # a constant map keeps all


def test_masked_scales_a_coarse_map():
    picture, grid = np.full((64, 64, 3), 200, np.uint8), np.zeros((4, 4))
    grid[1, 2] = 1
    shown = images.masked(picture, grid, share=1 / 16, dim=0)
    assert shown[24, 40, 0] > 150 and shown[60, 4, 0] == 0


def test_contour_encloses_the_share_and_leaves_the_rest_alone():
    picture = np.full((64, 64, 3), 200, np.uint8)
    shown = images.contour(picture, ramp(), shares=(0.25,), width=1)
    changed = set(np.flatnonzero((shown[32] != 200).any(-1)).tolist())  # on the middle row; the frame has all columns
    assert {48, 63} <= changed <= {*range(45, 52), *range(60, 64)}  # the line, its edge, and their smoothing
    np.testing.assert_array_equal(images.contour(picture, np.zeros((5, 5))), picture)  # nothing stands out


def test_masks_and_outlines_take_batches_and_refuse_nonsense():
    pictures, maps = np.full((2, 64, 64, 3), 200, np.uint8), np.stack([ramp(), ramp().T])
    for draw in (images.masked, images.contour, images.overlay):
        np.testing.assert_array_equal(draw(pictures, maps)[1], draw(pictures[1], maps[1]))
        with pytest.raises(ValueError, match="2 pictures and 1 maps"):
            draw(pictures, maps[:1])
        with pytest.raises(ValueError, match="NaN"):
            draw(pictures[0], np.full((8, 8), np.nan))
    with pytest.raises(ValueError, match="share=0"):
        images.masked(pictures[0], maps[0], share=0)
    with pytest.raises(ValueError, match="each between 0 and 1"):
        images.contour(pictures[0], maps[0], shares=(2,))


def test_signed_pixels_put_zero_at_mid_grey():
    pixels = np.array([[[-2.0, 0.0, 1.0], [2.0, 4.0, 0.5]]])
    np.testing.assert_array_equal(images.signed(pixels, 100), [[[64, 128, 159], [191, 255, 143]]])
    assert (images.signed(np.zeros((3, 3, 3))) == 128).all()
    lonely = np.zeros((50, 50, 3))
    lonely[3, 3] = 7
    assert images.signed(lonely).max() == 255  # also where the percentile is zero
    with pytest.raises(ValueError, match="NaN"):
        images.signed(np.full((2, 2, 3), np.nan))


@pytest.mark.parametrize("name", images.faces())
def test_eyes_and_nose_lie_where_the_face_has_them(name):
    face, marks = images.face(name, 112)
    (left, right), nose = (np.array(marks[f"eye on the {side}"]) for side in ("left", "right")), marks["nose"]
    assert face.shape == (112, 112, 3) and face.dtype == np.uint8
    assert np.hypot(*(left - right)) == pytest.approx(112 / 3.5, rel=0.01)
    assert left[1] < right[1] and nose[0] > (left[0] + right[0]) / 2
    assert all(8 < value < 104 for place in marks.values() for value in place)


def test_marks_are_on_what_they_name():
    """The lemur's eyes are orange, and its nose is black."""
    face, marks = images.face("lemur")
    colours = {
        part: face[round(row) - 4 : round(row) + 5, round(column) - 4 : round(column) + 5].mean((0, 1))
        for part, (row, column) in marks.items()
    }
    assert all(colours[f"eye on the {side}"][0] > 1.8 * colours[f"eye on the {side}"][2] for side in ("left", "right"))
    assert colours["nose"].max() < 90


def test_a_photograph_without_a_marked_face():
    with pytest.raises(ValueError, match="face.*koala"):
        images.face("koalas")

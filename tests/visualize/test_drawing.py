"""What is drawn, by the pixels and the letters of figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tipping.visualize import Beside, Explanation, Portrait, draw
from tipping.visualize.colours import heated_pixels, image_pixels, signal_pixels
from tipping.visualize.draw import GAP, SIDE, TEXT, TOP, draw_pictures, picture_beside
from tipping.visualize.lettering import DOTS, SIZES, fitted
from tipping.visualize.side_by_side import similarity

LONG = "encoder.stages.3.blocks.11.attention_free_mixing.depthwise_convolution_of_the_second_branch, filter 1023"
NAMES = ["a cat", "golden retriever, Labrador; " * 6, "猫 $x_$", "\u05d7\u05ea\u05d5\u05dc", "tab\tand\nbreak"]


def portrait(channels: int = 3, side: int = 9, images: int = 2, **values: Any) -> Portrait:
    rng = np.random.default_rng(0)
    shape = (images, channels, side, side)
    plain: dict[str, Any] = {"label": 0, "name": "conv1, filter 0", "layer": "conv1", "channel": 0, "maps": "relu1"}
    plain |= {"weight": 0.5, "drop": 0.01, "images_K": np.arange(images), "responses_K": np.ones(images)}
    signals = {rule: rng.normal(size=shape).astype("float32") for rule in ("guided", "deconvnet")}
    return Portrait(**plain | {"crops_KCHW": rng.random(shape).astype("float32"), "signals": signals} | values)


def explanation(channels: int = 3, side: int = 9, **values: Any) -> Explanation:
    rng = np.random.default_rng(0)
    heats = rng.random((1, side, side))
    plain: dict[str, Any] = {"label": 0, "predicted": 0, "names": ["conv1, filter 0"], "contributions": [0.25]}
    plain |= {"image_CHW": rng.random((channels, side, side)), "heats_THW": heats, "combined_HW": heats[0]}
    return Explanation(**plain | values)


def letters(figure: Figure) -> list[tuple[str, Any]]:
    """Each text of a figure, with its box in inches from the upper left corner."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    height = figure.get_size_inches()[1]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in figure.axes[0].texts]
    return [
        (text, (box.x0 / DOTS, height - box.y1 / DOTS, box.x1 / DOTS, height - box.y0 / DOTS)) for text, box in boxes
    ]


def centre(pixels: np.ndarray, x: float, y: float) -> np.ndarray:
    """The colour in the middle of a small picture at a place in inches."""
    return pixels[round((y + SIDE / 2) * DOTS), round((x + SIDE / 2) * DOTS), :3] / 255


def test_images_are_in_colours_only_where_they_have_three_channels(rng: np.random.Generator) -> None:
    for channels in (1, 2, 3, 4):
        image_CHW = rng.random((channels, 4, 5))
        for i, j in np.ndindex(4, 5):
            expected = image_CHW[:, i, j] if channels == 3 else [image_CHW[:, i, j].mean()] * 3
            assert np.allclose(image_pixels(image_CHW)[i, j], expected)
    assert image_pixels(np.array([[[-1.0]], [[0.5]], [[2]]])).ravel().tolist() == [0, 0.5, 1]


def test_one_pixel_does_not_darken_a_signal(rng: np.random.Generator) -> None:
    signal_CHW = np.zeros((3, 20, 20))
    signal_CHW[:, 5:15, 5:15] = rng.uniform(-1, 1, (3, 10, 10))
    signal_CHW[0, 7, 7] = 1000.0
    sizes = sorted(abs(value) for value in signal_CHW.ravel() if value)
    at = 0.995 * (len(sizes) - 1)
    full = sizes[int(at)] + (at % 1) * (sizes[int(at) + 1] - sizes[int(at)])
    assert full < 1
    pixels = signal_pixels(signal_CHW)
    assert (pixels[:5] == 0.5).all(), "grey where nothing comes back"
    assert np.allclose(pixels, np.clip(signal_CHW / full / 2 + 0.5, 0, 1).transpose(1, 2, 0))
    assert (signal_pixels(np.zeros((3, 4, 4))) == 0.5).all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_signals_of_other_images_are_summed(rng: np.random.Generator, channels: int) -> None:
    signal_CHW = rng.normal(size=(channels, 6, 6))
    sums_HW = signal_CHW.sum(0)
    full = np.percentile(np.abs(sums_HW), 99.5)
    colours = matplotlib.colormaps["berlin"](np.clip(sums_HW / full / 2 + 0.5, 0, 1))[..., :3]
    assert np.allclose(signal_pixels(signal_CHW), colours)
    black = signal_pixels(np.zeros((channels, 1, 1)))
    assert black.max() < 0.1


def test_heat_covers_a_muted_image_where_it_is_hot(rng: np.random.Generator) -> None:
    image_CHW = rng.random((3, 4, 4))
    cold = heated_pixels(image_CHW, np.zeros((4, 4)))
    assert np.allclose(cold, cold[..., :1]), "grey"
    brightness = 0.299 * image_CHW[0] + 0.587 * image_CHW[1] + 0.114 * image_CHW[2]
    assert np.corrcoef(cold[..., 0].ravel(), brightness.ravel())[0, 1] == pytest.approx(1)
    hot = heated_pixels(image_CHW, np.ones((4, 4)))
    assert np.abs(hot - matplotlib.colormaps["inferno"](1.0)[:3]).max() < 0.15


@pytest.mark.parametrize("width", [0.9, 1.8, 9.0])
@pytest.mark.parametrize(
    "text", [LONG, "W" * 90, "l" * 300, "a b " * 40, "word\nand_another/word", "", *NAMES], ids=repr
)
def test_lines_fit_and_lose_nothing(text: str, width: float) -> None:
    lines = fitted(text, width, height=1.0)
    figure = Figure(figsize=(20, 20), dpi=DOTS)
    figure.add_axes((0, 0, 1, 1)).text(0, 0.5, lines.text, fontsize=lines.size, parse_math=False)
    ((_, (left, top, right, bottom)),) = letters(figure)
    assert right - left <= width + 2 / DOTS
    assert bottom - top <= lines.height + 0.05
    assert lines.height <= 1.0 or lines.size == SIZES[-1]
    shown = text.replace("\t", "\\t") if text in NAMES else text
    kept = "".join(lines.text.split()).replace("□", "猫")
    assert kept == "".join(shown.split())
    if lines.size < SIZES[0]:
        larger = fitted(text, width, sizes=SIZES[: SIZES.index(lines.size)][-1:])
        assert larger.height > 1.0, "no smaller than need be"


@pytest.mark.parametrize(("label", "channels"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 3)])
def test_names_are_drawn_whole_and_in_letters_that_there_are(label: int, channels: int) -> None:
    """Warnings are errors: matplotlib warns of letters that its font lacks."""
    shown = portrait(channels, label=label, name=LONG)
    why = explanation(channels, label=label, predicted=(label + 1) % len(NAMES), names=[LONG])
    drawn = draw_pictures([shown], [why], NAMES)
    captions = {name: picture.caption for name, picture in drawn.items()}
    printed = NAMES[label].replace("\t", "\\t").replace("\n", "\\n")
    assert captions[f"class_{label}"].startswith(f"class {printed}: {LONG} (+0.50)")
    assert captions["image_0"].startswith(f"class {printed}, taken for ")
    remark = f"mean of {channels} channels"
    assert all((remark in caption) == (channels in (2, 4)) for caption in captions.values())
    for picture in drawn.values():
        texts = letters(picture.figure)
        words = "".join(text for text, _ in texts).replace("\n", "").replace(" ", "")
        assert LONG.replace(" ", "") in words
        assert printed.replace(" ", "").replace("猫", "□") in words
        assert (f"class{label}(□" in words) == ("猫" in printed), "by its number where letters are missing"
        width, height = picture.figure.get_size_inches()
        for text, (left, top, right, bottom) in texts:
            assert left >= -0.01, text
            assert top >= -0.01, text
            assert right <= width + 0.03, text
            assert bottom <= height + 0.01, text
        assert picture.png().startswith(b"\x89PNG")
    texts = dict(letters(drawn[f"class_{label}"].figure))
    (caption,) = (text for text in texts if "weight" in text)
    assert texts[caption][2] <= TEXT, "beside the pictures"


def test_without_names_classes_have_their_numbers() -> None:
    drawn = draw_pictures([portrait(label=7)], [explanation(label=None, predicted=3)])
    assert drawn["class_7"].caption == "class 7: conv1, filter 0 (+0.50)"
    assert drawn["image_0"].caption == "taken for class 3: conv1, filter 0"
    assert "class 7" in {text for text, _ in letters(drawn["class_7"].figure)}


@pytest.mark.parametrize(("side", "shape"), [(3, (3, 3)), (40, (40, 40)), (300, (300, 300)), (9, (9, 18))])
def test_each_crop_is_drawn_in_its_place_and_colours(side: int, shape: tuple[int, int]) -> None:
    colours = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3]])
    crops = np.broadcast_to(colours[:, :, None, None], (2, 3, *shape))
    signals = {"guided": np.stack([np.ones((3, *shape)), -np.ones((3, *shape))])}
    (picture,) = draw_pictures([portrait(side=side, crops_KCHW=crops, signals=signals)], []).values()
    pixels = picture.pixels
    for column, colour in enumerate((colours.mean(0), *colours)):
        assert np.allclose(centre(pixels, TEXT + column * (SIDE + GAP), TOP), colour, atol=0.01)
    for column, value in ((1, 1), (2, 0)):
        assert np.allclose(centre(pixels, TEXT + column * (SIDE + GAP), TOP + SIDE + GAP), value, atol=0.01)


def test_networks_beside_each_other_are_drawn_in_colours() -> None:
    rng = np.random.default_rng(0)
    images = np.broadcast_to(np.array([0.9, 0.2, 0.1])[None, :, None, None], (2, 3, 8, 8))
    signals = rng.normal(size=(2, 2, 3, 8, 8))
    alike = {"guided": similarity(signals[0], signals[1])}
    both = Beside([LONG, "conv1, filter 0"], images, {"guided": signals[0]}, {"guided": signals[1]}, alike)
    picture = picture_beside(both, ("trained", "only:encoder.stages.3.blocks.11"))
    texts = letters(picture.figure)
    assert any(text.replace("\n", "").replace(" ", "") == LONG.replace(" ", "") for text, _ in texts)
    heads = [text for text, _ in texts]
    assert any(text.replace("\n", "") == "only:encoder.stages.3.blocks.11" for text in heads)
    low = max(box[3] for text, box in texts if text.startswith("only"))
    first = min(box[1] for text, box in texts if text == "conv1, filter 0") - SIDE - GAP - SIDE / 2
    assert low <= first + 0.1, "above the pictures"
    tops = picture.pixels[:, round((TEXT + SIDE / 2) * DOTS), :3] / 255
    assert (np.abs(tops - [0.9, 0.2, 0.1]).max(1) < 0.01).sum() >= 2 * SIDE * DOTS - 4, "two images"


def test_a_picture_holds_so_many_filters_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "LARGEST", 700_000)
    many = [replace(portrait(), name=f"conv1, filter {number}") for number in range(9)]
    (picture,) = draw_pictures(many, []).values()
    assert picture.pixels.shape[0] * picture.pixels.shape[1] < 900_000
    texts = [text for text, _ in letters(picture.figure)]
    drawn = sum("weight" in text for text in texts)
    assert 1 < drawn < 9
    assert picture.caption.endswith(f"; the first {drawn} are drawn")
    assert all(one.name in picture.caption for one in many)
    monkeypatch.setattr(draw, "LARGEST", 1)
    (least,) = draw_pictures(many, []).values()
    assert least.caption.endswith("; the first 1 are drawn")

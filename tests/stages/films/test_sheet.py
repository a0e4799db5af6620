from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from storyreel.stages.films.config import FilmsConfig, SheetConfig
from storyreel.stages.films.fonts import Fonts
from storyreel.stages.films.sheet import FONT_SIZE, ContactSheet, plan_sheet, wrap
from storyreel.stages.films.stage import FilmsStage

RED = (200, 20, 20)


def sheet_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet.convert("RGB")).astype(int)


def blank(captions: list[str], config: SheetConfig, path: Path) -> np.ndarray:
    times = list(range(0, 4 * len(captions), 4))
    plan = plan_sheet("a story", captions, times, config)
    ContactSheet(plan, aspect=1.0, font=Fonts(config.font, FONT_SIZE), config=config).save(path)
    return sheet_pixels(path)


def test_the_sheet_shows_every_keyframe_and_frames_between_them(job: Any) -> None:
    job.add_story("fox", ["one", "two", "three", "four"], [16, 2, 8])
    film = job.film("fox")
    reds = (np.abs(sheet_pixels(job.folder / film.sheet_path) - RED).max(axis=2) < 60).sum()
    keyframes, between = 4 * 240 * 240, (4 + 0 + 4) * 60 * 60
    assert reds == pytest.approx((keyframes + between) / 2, rel=0.02)


def test_keyframes_stand_in_reading_order() -> None:
    plan = plan_sheet("fox", ["a", "b", "c"], [0, 15, 16], SheetConfig(frames_per_shot=2))
    assert plan.cells == {0: (0, 0), 5: (0, 1), 10: (0, 2), 15: (1, 0), 16: (2, 0)}


def test_rows_wrap(tmp_path: Path) -> None:
    config = SheetConfig(columns=3)
    heights = [blank(["x"] * n, config, tmp_path / "s.png").shape[0] for n in (3, 4, 6, 7)]
    assert heights[0] < heights[1] == heights[2] < heights[3]


def test_the_sheet_of_an_endless_story_stays_small_and_says_so(tmp_path: Path) -> None:
    config = SheetConfig(max_keyframes=8)
    times = list(range(0, 4000, 4))
    plan = plan_sheet("fox", [str(k) for k in range(1000)], times, config)
    assert len(plan.keyframes) == 8
    assert (plan.keyframes[0], plan.keyframes[-1]) == (0, 999)
    assert plan.captions[-1] == "999"
    assert plan.heading == "fox - 8 of 1000 keyframes"
    assert set(plan.cells) <= set(range(3997))


@pytest.mark.parametrize("caption", ["Zo\u00eb", "\u041b\u0438\u0441\u0430", "\u03c6\u03c9\u03c2"])
def test_letters_beyond_ascii_are_drawn(caption: str, tmp_path: Path) -> None:
    config = SheetConfig()
    drawn = blank([caption], config, tmp_path / "a.png")
    missing = blank(["\U000fffff" * len(caption)], config, tmp_path / "b.png")
    assert not np.array_equal(drawn, missing)


@pytest.mark.parametrize("caption", ["\u72d0\u72f8" * 60, "\U00013080", "\u0644\u064a\u0644", ""])
def test_a_caption_the_font_lacks_does_not_stop_a_film(caption: str, tmp_path: Path) -> None:
    assert blank([caption], SheetConfig(), tmp_path / "s.png").size


def test_a_font_that_cannot_be_read_is_named_before_any_film(tmp_path: Path) -> None:
    config = FilmsConfig(sheet=SheetConfig(font=str(tmp_path / "none.ttf")))
    with pytest.raises(ValueError, match=r"films\.sheet\.font .*none\.ttf"):
        FilmsStage(output_url=str(tmp_path), config=config)


def test_long_captions_are_cut_visibly_and_stay_in_their_cell() -> None:
    font = ImageFont.load_default(14)
    for text in ("word " * 100, "x" * 500, "a " + "y" * 500):
        lines = wrap(text, font, width=200, lines=3)
        assert len(lines) == 3
        assert lines[-1].endswith("...")
        assert max(map(font.getlength, lines)) <= 200


def test_short_captions_are_not_cut() -> None:
    font = ImageFont.load_default(14)
    assert wrap("two words", font, width=200, lines=3) == ["two words"]
    assert wrap("", font, width=200, lines=1) == [""]
    words = "the quick brown fox jumps over the lazy dog"
    assert " ".join(wrap(words, font, width=120, lines=4)) == words


def test_a_letter_that_no_font_has_is_a_question_mark_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")  # no fontconfig
    fonts = Fonts(None, FONT_SIZE)
    assert fonts.getlength("a\U00012000a") == fonts.getlength("a?a")
    assert "no font of this system has" in caplog.text


def test_letters_that_the_first_font_lacks_come_from_another() -> None:
    fonts = Fonts(None, FONT_SIZE)
    assert fonts.getlength("Zoë läuft") == ImageFont.truetype(
        fonts._first.path, FONT_SIZE
    ).getlength("Zoë läuft")
    assert fonts.getlength("\u2654") > 0  # a sign of chess, of DejaVu where that is installed

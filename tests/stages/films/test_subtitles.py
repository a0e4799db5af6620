import pytest

from storyreel.stages.films.subtitles import Cue, make_cues, to_sample, to_srt, to_vtt


def cue(start_ms: int, end_ms: int, text: str) -> Cue:
    return Cue(start_ms=start_ms, end_ms=end_ms, text=text)


def test_a_caption_stands_until_the_next_one_and_the_last_to_the_end() -> None:
    assert make_cues(["one", "two", "three"], [0, 8, 12], 17, 8) == [
        cue(0, 1000, "one"),
        cue(1000, 1500, "two"),
        cue(1500, 2125, "three"),
    ]


def test_beats_of_a_panel_are_one_cue() -> None:
    assert make_cues(["one", "one", "two", "two"], [0, 8, 16, 24], 25, 8) == [
        cue(0, 2000, "one"),
        cue(2000, 3125, "two"),
    ]


def test_an_empty_caption_shows_nothing_and_ends_the_one_before() -> None:
    assert make_cues(["one", " \n", "one", ""], [0, 8, 16, 20], 25, 8) == [
        cue(0, 1000, "one"),
        cue(2000, 2500, "one"),
    ]


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("a\n\n2\n00:00:00,000 --> 00:00:01,000\nb", "a\n2\n00:00:00,000 -> 00:00:01,000\nb"),
        ("  spaced \t out\r\nnext ", "spaced out\nnext"),
        ("end --->\u2028more", "end ->\nmore"),
        ("bell\x07nul\x00", "bell nul"),
    ],
)
def test_a_caption_cannot_break_the_subtitle_file(caption: str, shown: str) -> None:
    made = make_cues([caption], [0], 8, 8)
    assert " ".join(cue.text for cue in made).split() == shown.split()
    for cue in made:
        assert to_srt([cue]).count("-->") == to_vtt([cue]).count("-->") == 1
        assert "\n\n" not in to_srt([cue]).removesuffix("\n\n")


def test_times_beyond_an_hour_are_written_in_full() -> None:
    assert to_srt([cue(3_723_004, 36_000_000, "late")]) == (
        "1\n01:02:03,004 --> 10:00:00,000\nlate\n\n"
    )


def test_frame_rates_that_do_not_divide_a_second_drift_by_less_than_a_millisecond() -> None:
    (made,) = make_cues(["all"], [0], 7 * 3600 + 1, 7)
    assert made.end_ms == 3_600_143


def test_a_sample_counts_bytes_not_characters() -> None:
    assert to_sample(cue(0, 1, "Zo\u00eb")) == b"\x00\x04Zo\xc3\xab"


def test_a_caption_that_no_cue_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="65536 bytes, must be at most 65535"):
        make_cues(["x" * 65536], [0], 8, 8)


def test_a_long_caption_is_shown_in_parts_that_share_its_time() -> None:
    words = "word " * 40
    made = make_cues([words], [0], 80, 8)
    assert " ".join(cue.text for cue in made).split() == words.split()
    assert [cue.start_ms for cue in made[1:]] == [cue.end_ms for cue in made[:-1]]
    assert (made[0].start_ms, made[-1].end_ms) == (0, 10_000)


def test_web_subtitles_escape_what_would_be_marks() -> None:
    assert to_vtt([cue(0, 1500, "a <b> & c")]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt;b&gt; &amp; c\n\n"
    )

from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.captions import LINE, LINES, reading_s, split_caption, width


def test_a_short_caption_is_one_line() -> None:
    assert split_caption("A fox ran.") == ["A fox ran."]
    assert split_caption(" ") == []


def test_a_longer_one_has_two_lines_of_about_the_same_length() -> None:
    assert split_caption("Zoë walked in the park on a sunny day, and she held her kite.") == [
        "Zoë walked in the park on a sunny\nday, and she held her kite."
    ]


def test_the_parts_of_a_long_one_end_at_clauses() -> None:
    text = (
        "When the work was done, they patiently watched him sow the seed, and then they"
        " waited until he had gone home with his horse."
    )
    parts = split_caption(text)
    assert len(parts) == 2
    assert parts[0].endswith("seed,")


def test_wide_letters_count_twice() -> None:
    (part,) = split_caption("雪の山を、きつねが歩く。" * 3)
    assert max(width(line) for line in part.split("\n")) <= LINE


def test_the_time_to_read_has_a_least() -> None:
    assert 1.2 <= reading_s("Oh!") < 1.21
    assert 2.0 <= reading_s("x" * 34) < 2.01
    assert reading_s("") == reading_s("Oh!", 0) == 0


@given(st.text(alphabet="ab ,.雪\n", max_size=400))
def test_no_letter_is_lost_and_every_part_has_two_lines(text: str) -> None:
    parts = split_caption(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    for part in parts:
        assert len(part.split("\n")) <= LINES
        assert all(width(line) <= LINE for line in part.split("\n"))

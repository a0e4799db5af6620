import pytest

from storyreel.stages.prompts.narrative import narrative

BOOK = """The Project Gutenberg eBook of Little Tales

Title: Little Tales

*** START OF THE PROJECT GUTENBERG EBOOK LITTLE TALES ***

[Illustration: A miller at his door]

CHAPTER I.

THE MILLER AND THE GEESE

Mr. Brown, the miller, lived by a _very_ slow river with his wife, Mrs.
Brown. Every morning he walked down to the water.[1] "Good day," said
he, and the geese--there were nine of them--answered him.

       *       *       *       *       *

At 6 a.m. the miller rose.

[1] A river in the north.

*** END OF THE PROJECT GUTENBERG EBOOK LITTLE TALES ***
"""


def test_of_a_book_only_what_it_tells_is_left() -> None:
    assert narrative(BOOK).split("\n\n") == [
        "Mr. Brown, the miller, lived by a very slow river with his wife, Mrs. Brown. Every morning"
        ' he walked down to the water. "Good day," said he, and the geese\u2014there were nine of'
        " them\u2014answered him.",
        "At 6 a.m. the miller rose.",
    ]


@pytest.mark.parametrize(
    "apart", ["* * *", "***", "# # #", "Chapter One", "CHAPTER IV.", "Part 2: The river", "The End"]
)
def test_breaks_and_headings_are_no_pictures(apart: str) -> None:
    assert narrative(f"A fox ran.\n\n{apart}\n\nIt slept.") == "A fox ran.\n\nIt slept."


@pytest.mark.parametrize(
    "told",
    ["Part of the wall fell.", "RUN, ALL!", "He saw [a sign]--red.", "Chapter One"],
)
def test_what_is_told_stays(told: str) -> None:
    assert narrative(told) == told

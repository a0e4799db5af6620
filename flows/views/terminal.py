"""Text of others in a terminal."""

from rich.text import Text


def plain(text: str) -> Text:
    """Text on one line, unable to style, or to move the cursor of, a terminal."""
    one_line = " ".join(text.split())
    return Text("".join(c if c.isprintable() else "?" for c in one_line))

"""Says together what many rows were refused for: 68 equal lines are one."""

from collections.abc import Iterable, Iterator

from storyreel.stages.input.parsing import Rejection

MAX_REASONS = 20
"""Different reasons that are told; of the others only their number."""
MAX_ROWS = 5
"""Rows that a reason names."""


class Refusals:
    """The refused rows of an input by their reason, in the order of the first of each."""

    def __init__(self, rejections: Iterable[Rejection] = ()) -> None:
        self._places: dict[tuple[str, str], list[int]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self.num_rows = 0
        for rejection in rejections:
            self.add(rejection)

    def add(self, rejection: Rejection) -> None:
        """Count one more row."""
        self.num_rows += 1
        key = rejection.source_file, _reason(rejection)
        if key in self._counts or len(self._counts) < MAX_REASONS:
            self._counts[key] = self._counts.get(key, 0) + 1
            places = self._places.setdefault(key, [])
            if rejection.source_row and len(places) < MAX_ROWS:
                places.append(rejection.source_row)

    def lines(self) -> Iterator[str]:
        """A line for each reason: the file, the rows, what is wrong."""
        for (file, reason), count in self._counts.items():
            rows = ", ".join(map(str, self._places[file, reason]))
            more = count - len(self._places[file, reason])
            noun = "row" if count == 1 else "rows"
            place = f" {noun} {rows}" if rows else ""
            yield f"{file}{place}{f' and {more} more' if rows and more else ''}: {reason}"
        if told := self.num_rows - sum(self._counts.values()):
            yield f"and {told} more rows for other reasons"


def _reason(rejection: Rejection) -> str:
    """The message without its place."""
    place = rejection.source_file
    if rejection.source_row:
        place = f"{place} row {rejection.source_row}"
    return rejection.message.removeprefix(f"{place}: ")

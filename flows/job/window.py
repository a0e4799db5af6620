"""The render window: the hours of the day in which a job may hold the cluster.

A window is wall-clock time in a named zone, such as `22:00-06:00 Europe/Berlin`. Its openings are
exact moments (UTC), so that a night of a change to or from summer time is an hour shorter or
longer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

FORM = re.compile(r"(\d{1,2}:\d{2})\s*-\s*(\d{1,2}:\d{2})\s+(\S+)")
EXAMPLE = "22:00-06:00 Europe/Berlin"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One night of a window: from the moment `start` until, but not at, the moment `end` (UTC)."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of every day, in the wall-clock time of a zone; across midnight if `end < start`.

    A time that the clock skips in spring counts as the moment of the change; one that it shows
    twice in autumn counts the first time.
    """

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HH:MM-HH:MM ZONE`, the zone by its IANA name.

        Raises:
            ValueError: says what is wrong with `text` and what is allowed.
        """
        form = FORM.fullmatch(text.strip())
        if form is None:
            raise ValueError(f"window {text!r}: must be HH:MM-HH:MM ZONE, such as {EXAMPLE}")
        start, end = _time(text, form[1]), _time(text, form[2])
        if start == end:
            raise ValueError(f"window {text!r}: must not end when it starts")
        return cls(start=start, end=end, zone=_zone(text, form[3]))

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone.key}"

    @property
    def length_s(self) -> float:
        """The length of a night without a change of the clock, seconds."""
        minutes = [60 * wall.hour + wall.minute for wall in (self.start, self.end)]
        return 60.0 * ((minutes[1] - minutes[0]) % (24 * 60))

    def opening_at(self, moment: datetime) -> Opening | None:
        """The opening that holds `moment` (aware), or none: the window is closed then."""
        opening = self.next_opening(moment)
        return opening if opening.start <= moment else None

    def next_opening(self, moment: datetime) -> Opening:
        """The opening that holds `moment` (aware), else the first one after it."""
        return next(opening for opening in self._openings(moment) if moment < opening.end)

    def _openings(self, moment: datetime) -> Iterator[Opening]:
        """The openings from the one of the day before `moment` on."""
        day = moment.astimezone(self.zone).date() - DAY
        while True:
            start = self._moment(day, self.start)
            end = self._moment(day if self.start < self.end else day + DAY, self.end)
            if start < end:  # else the clock never shows it on this day
                yield Opening(start=start, end=end)
            day += DAY

    def _moment(self, day: date, wall: time) -> datetime:
        local = datetime.combine(day, wall)
        while True:
            moment = local.replace(tzinfo=self.zone).astimezone(UTC)
            if moment.astimezone(self.zone).replace(tzinfo=None) == local:
                return moment
            local += MINUTE  # skipped by the clock; changes are at whole minutes


def _time(text: str, part: str) -> time:
    hour, minute = map(int, part.split(":"))
    try:
        return time(hour, minute)
    except ValueError as error:
        raise ValueError(f"window {text!r}: {part} is no time of the day: {error}") from None


def _zone(text: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a part of a name is a folder
        raise ValueError(
            f"window {text!r}: {name!r} is no IANA time zone, such as Europe/Berlin or UTC"
        ) from error

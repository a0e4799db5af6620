"""The render window: the hours of the day in which a job may use the cluster.

A window is wall-clock time in a named zone, such as `22:00-06:00 Europe/Berlin`. Its openings are
computed as moments in UTC, so that the night in which the clock changes to or from summer time is
an hour shorter or longer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from storyreel.stages.errors import InputError

FORM = re.compile(r"(\d{1,2}:\d{2})\s*-\s*(\d{1,2}:\d{2})\s+(\S+)")
EXAMPLE = "22:00-06:00 Europe/Berlin"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One night of a window: the half-open interval from `start` to `end`, both aware, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of every day in the wall-clock time of a zone; across midnight if `end < start`.

    A time that the clock skips in spring is taken as the moment of the change; a time that occurs
    twice in autumn is taken as its first occurrence.
    """

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HH:MM-HH:MM ZONE`, where ZONE is an IANA name.

        Raises:
            InputError: `text` has another form; the message says what is allowed.
        """
        form = FORM.fullmatch(text.strip())
        if form is None:
            raise InputError(f"window {text!r}: must be HH:MM-HH:MM ZONE, such as {EXAMPLE}")
        start, end = _time(text, form[1]), _time(text, form[2])
        if start == end:
            raise InputError(f"window {text!r}: start and end must differ")
        return cls(start=start, end=end, zone=_zone(text, form[3]))

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone.key}"

    @property
    def length_s(self) -> float:
        """Duration of a night in which the clock is not changed, seconds."""
        minutes = [60 * wall.hour + wall.minute for wall in (self.start, self.end)]
        return 60.0 * ((minutes[1] - minutes[0]) % (24 * 60))

    def opening_at(self, moment: datetime) -> Opening | None:
        """Return the opening that contains `moment` (aware), or `None` if the window is closed."""
        opening = self.next_opening(moment)
        return opening if opening.start <= moment else None

    def next_opening(self, moment: datetime) -> Opening:
        """Return the opening that contains `moment` (aware), else the first one after it."""
        return next(opening for opening in self._openings(moment) if moment < opening.end)

    def _openings(self, moment: datetime) -> Iterator[Opening]:
        """Yield the openings, from that of the day before `moment`, which may still be open."""
        day = moment.astimezone(self.zone).date() - DAY
        while True:
            start = self._moment(day, self.start)
            end = self._moment(day if self.start < self.end else day + DAY, self.end)
            if start < end:  # else the clock skips the whole window on this day
                yield Opening(start=start, end=end)
            day += DAY

    def _moment(self, day: date, wall: time) -> datetime:
        local = datetime.combine(day, wall)
        while True:
            moment = local.replace(tzinfo=self.zone).astimezone(UTC)
            if moment.astimezone(self.zone).replace(tzinfo=None) == local:
                return moment
            local += MINUTE  # the clock skips this time; changes are at whole minutes


def _time(text: str, part: str) -> time:
    hour, minute = map(int, part.split(":"))
    try:
        return time(hour, minute)
    except ValueError as error:
        raise InputError(f"window {text!r}: {part} is not a time of day: {error}") from None


def _zone(text: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # "Europe" is a folder: OSError
        raise InputError(
            f"window {text!r}: {name!r} is not an IANA time zone, such as Europe/Berlin or UTC"
        ) from error

"""Windows of time as people write them: `Mon-Fri 08:00-18:00, Sat 09:00-12:00`. One that ends before it begins ends on the next day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE = "Mon-Fri 08:00-18:00, Sat 09:00-12:00"
_DAY = 24 * 60
_DAYS = re.compile(r"([a-z]{3})[a-z]*(?:\s*-\s*([a-z]{3})[a-z]*)?")
_HOURS = re.compile(r"(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")
_WINDOW = re.compile(r"(?P<days>[a-z]+(?:\s*-\s*[a-z]+)?)?\s*(?P<hours>\d.*)?")


@dataclass(frozen=True, slots=True)
class _Window:
    """Minutes of some days."""

    days: frozenset[int]
    start: int
    end: int

    def has(self, day: int, minute: int) -> bool:
        """Whether a minute of a day of the week is in it."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def is_within(windows: str, zone: str, now: float) -> bool:
    """Whether the time lies in one of the windows, by the clocks of a zone. ValueError for windows or a zone that cannot be."""
    local = datetime.fromtimestamp(now, UTC).astimezone(parse_zone(zone))
    return any(one.has(local.weekday(), local.hour * 60 + local.minute) for one in parse_windows(windows))


@lru_cache(maxsize=1_000)
def parse_windows(text: str) -> tuple[_Window, ...]:
    """The windows that a text names. ValueError."""
    return tuple(_window(part.strip().lower(), text) for part in text.split(","))


@lru_cache(maxsize=100)
def parse_zone(name: str) -> tzinfo | None:
    """A time zone by name; ``: that of this host. ValueError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"found {name!r}, which is no time zone; allowed: Europe/Berlin, UTC, …") from error


def _window(part: str, whole: str) -> _Window:
    found = _WINDOW.fullmatch(part)
    if not part or found is None:
        raise ValueError(f"found {whole!r}; allowed: {EXAMPLE}")
    start, end = _hours(found["hours"], whole) if found["hours"] else (0, _DAY)
    return _Window(_days(found["days"], whole) if found["days"] else frozenset(range(7)), start, end)


def _days(text: str, whole: str) -> frozenset[int]:
    found = _DAYS.fullmatch(text)
    if found is None or any(day is not None and day not in DAYS for day in found.groups()):
        raise ValueError(f"found the days {text!r} in {whole!r}; allowed: {EXAMPLE}")
    first = DAYS.index(found[1])
    last = DAYS.index(found[2]) if found[2] else first
    return frozenset((first + number) % 7 for number in range((last - first) % 7 + 1))


def _hours(text: str, whole: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(text)
    numbers = [int(number) for number in found.groups()] if found else []
    start, end = (numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]) if found else (0, 0)
    if not found or numbers[1] > 59 or numbers[3] > 59 or start >= _DAY or end > _DAY or start == end:
        raise ValueError(f"found the hours {text!r} in {whole!r}; allowed: {EXAMPLE}")
    return start, end

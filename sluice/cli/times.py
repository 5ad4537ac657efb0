"""Times as people read them: by the clock on their wall, and from now."""

from datetime import datetime, timedelta

NOTHING = "-"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(time: timedelta) -> str:
    """Return how long that is, in its two largest units: `3 min 20 s`; below a minute to the tenth."""
    tenths = max(0, round(time.total_seconds() * 10))
    if tenths < MINUTE * 10:
        return f"{tenths / 10:g} s"
    seconds = (tenths + 5) // 10
    if seconds < HOUR:
        return _two(seconds, MINUTE, "min", 1, "s")
    return _two(seconds, HOUR, "h", MINUTE, "min") if seconds < DAY else _two(seconds, DAY, "d", HOUR, "h")


def moment(at: datetime | None, now: datetime) -> str:
    """Return when that is and how far from `now`: `14:03:20 (in 3 min 20 s)`; with the date on another day."""
    if at is None:
        return NOTHING
    away = timedelta(seconds=round((at - now).total_seconds()))
    relation = f"in {duration(away)}" if away > timedelta(0) else f"{duration(-away)} ago" if away else "now"
    return f"{clock(at, now)} ({relation})"


def clock(at: datetime | None, now: datetime) -> str:
    """Return when that is by the local clock; with the date on another day than `now`."""
    if at is None:
        return NOTHING
    local = at.astimezone()
    is_today = local.date() == now.astimezone().date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def stamp(at: datetime | None) -> str:
    """Return when that is for machines: RFC 3339, UTC, as the API has it; nothing for None."""
    return "" if at is None else at.isoformat().replace("+00:00", "Z")


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    count, rest = divmod(seconds, large)
    rest //= small
    return f"{count} {large_name} {rest} {small_name}" if rest else f"{count} {large_name}"

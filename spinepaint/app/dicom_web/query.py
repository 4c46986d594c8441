"""Query parameters of QIDO-RS (PS3.18 8.3.4) as conditions. No value of a query is in any message."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from spinepaint.imaging.errors import Refusal
from spinepaint.store.dicom_book import Match
from spinepaint.store.dicom_keys import BY_NAME, NAME_GROUPS, Level, MatchKey, comparable, padded_time

MAX_RESULTS = 1000
LEVELS: tuple[Level, ...] = ("study", "series", "instance")
_ONE_UID = r"(?=[0-9.]{1,64}(?:$|[,\\]))[0-9]+(?:\.[0-9]+)*"
UID = re.compile(_ONE_UID)
"""PS3.5 9.1, but for leading zeros of a component, which are found in the field."""
_UID_LIST = re.compile(rf"{_ONE_UID}(?:[,\\]{_ONE_UID})*")
_DATE = re.compile(r"[0-9]{8}")
_TIME = re.compile(r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_LAST_TIME = "235959.999999"
_MAX_VALUE = 2000
_MAX_WILDCARDS = 8


@dataclass(frozen=True)
class Query:
    """What is asked for: conditions, further attributes (tags, or all that are known) and which page.

    `unknown` says that attributes were asked for that this service does not know by that name.
    """

    matches: tuple[Match, ...]
    include: frozenset[str]
    include_all: bool
    limit: int
    offset: int
    fuzzy: bool = False
    unknown: bool = False


def parse_query(parameters: Iterable[tuple[str, str]], level: Level) -> Query:
    """The query of a search for studies, series or instances. Raises Refusal 400 for one that cannot be carried out."""
    matches: list[Match] = []
    include: set[str] = set()
    numbers = {"limit": MAX_RESULTS, "offset": 0}
    include_all = fuzzy = unknown = False
    for name, value in parameters:
        if name in numbers:
            numbers[name] = _number(name, value)
        elif name == "includefield":
            names = [item.strip() for item in value.split(",")]
            include_all = include_all or "all" in names
            tags = [_tag(item) for item in names if item != "all"]
            include.update(tag for tag in tags if tag)
            unknown = unknown or None in tags
        elif name == "fuzzymatching":
            if value.lower() not in ("true", "false"):
                raise _bad("fuzzymatching is neither true nor false.")
            fuzzy = fuzzy or value.lower() == "true"
        elif name != "accept":
            key = _key(name, level)
            include.add(key.tag)
            matches.extend(_match(key, value))
    limit = min(numbers["limit"], MAX_RESULTS)
    return Query(tuple(matches), frozenset(include), include_all, limit, numbers["offset"], fuzzy, unknown)


def _key(name: str, level: Level) -> MatchKey:
    key = BY_NAME.get(name) or BY_NAME.get(name.upper())
    if key is None:
        known = ", ".join(sorted({key.keyword for key in BY_NAME.values()}))
        raise _bad("An attribute of the query cannot be matched.", f"These can: {known}.")
    if LEVELS.index(key.level) > LEVELS.index(level):
        raise _bad(f"{key.keyword} cannot be matched here.", f"It is an attribute of the {key.level}.")
    return key


def _match(key: MatchKey, value: str) -> list[Match]:
    """The condition of one value; none where it matches everything (PS3.4 C.2.2.2.3)."""
    if len(value) > _MAX_VALUE:
        raise _bad(f"The value of {key.keyword} is too long.")
    if "\0" in value:  # which no value has (PS3.5 6.1.3), and PostgreSQL takes in no text
        raise _bad(f"The value of {key.keyword} has a control character that no value has.")
    value = value.strip()
    if value in ("", "*"):
        return []
    match key.vr:
        case "UI":
            if not _UID_LIST.fullmatch(value):
                raise _bad(f"{key.keyword} is not a list of UIDs.")
            return [Match(key, "any of", tuple(re.split(r"[,\\]", value)))]
        case "IS":
            if not re.fullmatch(r"[+-]?[0-9]{1,9}", value):
                raise _bad(f"{key.keyword} is not a whole number.")
            return [Match(key, "any of", (value,))]
        case "DA" | "TM":
            return [_moment(key, value)]
    if value.count("*") > _MAX_WILDCARDS:
        raise _bad(f"{key.keyword} has too many wildcards.", f"At most {_MAX_WILDCARDS} are matched.")
    return _name(key, value) if key.vr == "PN" and "=" in value else [_text(key, value)]


def _name(key: MatchKey, value: str) -> list[Match]:
    """A name by component groups (PS3.5 6.2.1.2): each that is given has to match its own. Without `=` it may be any of them."""
    groups = [group.strip() for group in value.split("=")]
    if len(groups) > len(NAME_GROUPS):
        raise _bad(f"{key.keyword} has too many component groups.", "They are alphabetic=ideographic=phonetic.")
    return [_text(key, group, number) for number, group in enumerate(groups) if group not in ("", "*")]


def _text(key: MatchKey, value: str, group: int | None = None) -> Match:
    if "*" in value or "?" in value:
        return Match(key, "pattern", (value.casefold() if key.vr == "PN" else value,), group)
    return Match(key, "any of", (comparable(key.vr, value),), group)


def _moment(key: MatchKey, value: str) -> Match:
    """A date or time, or a range of them, open at one end or not (PS3.4 C.2.2.2.5)."""
    is_one = _is_date if key.vr == "DA" else _TIME.fullmatch
    low, dash, high = value.partition("-")
    if any(part and not is_one(part) for part in (low, high)) or not (low or high):
        raise _bad(f"{key.keyword} is not a {'date' if key.vr == 'DA' else 'time'} or a range.")
    if not dash:
        return Match(key, "any of", (comparable(key.vr, low),))
    if key.vr == "TM":
        low, high = low and padded_time(low), high and padded_time(high, _LAST_TIME)
    return Match(key, "range", (low, high))


def _is_date(text: str) -> bool:
    """Whether it is a day of the calendar, as YYYYMMDD."""
    try:
        return bool(_DATE.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _tag(name: str) -> str | None:
    """The tag of an attribute to include; None for a keyword that is not known."""
    if name in BY_NAME:
        return BY_NAME[name].tag
    return name.upper() if _TAG.fullmatch(name) else None


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise _bad(f"{name} is not a whole number.")
    return int(value)


def _bad(title: str, detail: str = "") -> Refusal:
    return Refusal("bad-query", title, detail, status=400)

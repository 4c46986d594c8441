"""What a value may be under its value representation (PS3.5 6.2), whatever representation a file gave it."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from typing import Any

from pydicom.multival import MultiValue
from pydicom.uid import UID
from pydicom.valuerep import IS, DSfloat, PersonName

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_CODE = re.compile(r"[A-Z0-9 _]*")
_DAY = re.compile(r"\d{8}", re.ASCII)
_CLOCK = r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?"
_TIME = re.compile(rf"{_CLOCK}|([01]\d|2[0-3])[0-5]\d([0-5]\d|60)\.\d{{1,6}}", re.ASCII)
_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d$", re.ASCII)
_AGE = re.compile(r"\d{3}[DWMY]", re.ASCII)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)
_LONGEST_DECIMAL, _LONGEST_WHOLE, _LONGEST_CODE, _LONGEST_UID, _LONGEST_NAME = 16, 12, 16, 64, 64
_LONGEST_TEXT: dict[str, int | None] = {
    "AE": 16, "LO": 64, "SH": 16, "LT": 10240, "ST": 1024, "UT": None, "UC": None, "UR": None,
}  # fmt: skip
_LAYOUT = "\t\n\f\r"  # what a text that is one value may have of control characters (PS3.5 6.1.3)
_ONE_VALUE = ("LT", "ST", "UT", "UR")
_INTEGERS: dict[str, tuple[int, int]] = {
    "US": (0, 2**16 - 1), "SS": (-(2**15), 2**15 - 1), "UL": (0, 2**32 - 1), "SL": (-(2**31), 2**31 - 1),
    "UV": (0, 2**64 - 1), "SV": (-(2**63), 2**63 - 1),
}  # fmt: skip
_BYTES = ("OB", "OW", "OD", "OF", "OL", "OV", "UN")
LARGEST_WHOLE = 2**31 - 1
"""Of an IS (PS3.5 6.2)."""


class IllegalValueError(ValueError):
    """A value that its value representation does not allow. It is not quoted: it may name a person."""


def is_uid(text: str) -> bool:
    """Whether `text` is a UID: at most 64 characters, and no component with a leading zero (PS3.5 9.1)."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def legal_value(vr: str, vm: str, value: Any) -> Any:
    """`value` as one of the value representation `vr` and the multiplicity `vm`, such as "DS" and "1-n".

    A value that is legal comes back as it is; one that can be said legally, such as a number of too many digits, as that.
    An empty one is always legal (PS3.5 7.4). Raises IllegalValueError.
    """
    if vr in _BYTES:
        if value is not None and not isinstance(value, bytes):
            raise IllegalValueError
        return value
    several = isinstance(value, MultiValue | list | tuple)
    values = list(value) if several else [value]
    if not values or values in ([None], [""]):
        return value
    if vr in _ONE_VALUE and several:
        raise IllegalValueError
    _check_multiplicity(vm, len(values))
    convert = _CONVERTERS[vr]
    found = [convert(each) for each in values]
    if all(new is old for new, old in zip(found, values, strict=True)):
        return value
    return found if several else found[0]


def _check_multiplicity(vm: str, count: int) -> None:
    low, high, step = _multiplicity(vm)
    if count < low or (high is not None and count > high) or (count - low) % step:
        raise IllegalValueError


@cache
def _multiplicity(vm: str) -> tuple[int, int | None, int]:
    """Least, most (None where any) and step of a multiplicity of the dictionary, such as 2-2n."""
    low, _, high = vm.split(" or ")[0].partition("-")
    if high.endswith("n"):
        return int(low), None, int(high[:-1] or 1)
    return int(low), int(high or low), 1


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | int | float | PersonName):
        raise IllegalValueError
    return value if type(value) is str else str(value)


def _number(value: Any) -> float:
    """A finite number, from a text too."""
    text = _text(value).strip()
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise IllegalValueError
    return float(text)


def _integer(value: Any, low: int, high: int) -> int:
    text = _text(value).strip()
    number = int(text) if _WHOLE.fullmatch(text) and len(text) < _LONGEST_UID else _number(value)
    if number != int(number) or not low <= number <= high:
        raise IllegalValueError
    return int(number)


def _decimal(value: Any) -> Any:
    number = _number(value)
    if isinstance(value, DSfloat) and len(str(value)) <= _LONGEST_DECIMAL:
        return value
    return DSfloat(number, auto_format=True)


def _whole(value: Any) -> Any:
    number = _integer(value, -LARGEST_WHOLE - 1, LARGEST_WHOLE)
    return value if isinstance(value, IS) and len(str(value)) <= _LONGEST_WHOLE else IS(number)


def _binary(low: int, high: int) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        return value if type(value) is int and low <= value <= high else _integer(value, low, high)

    return convert


def _real(value: Any) -> Any:
    return value if type(value) is float and math.isfinite(value) else _number(value)


def _tag(value: Any) -> Any:
    if not isinstance(value, int):
        raise IllegalValueError
    return value


def _code(value: Any) -> Any:
    text = _text(value)
    code = text.strip().upper()  # readers compare without regard to case; the standard has capitals only
    if len(code) > _LONGEST_CODE or not _CODE.fullmatch(code):
        raise IllegalValueError
    return value if code == text else code


def _worded(longest: int | None, layout: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        text = _text(value)
        if (longest is not None and len(text) > longest) or not _is_clean(text, layout):
            raise IllegalValueError
        return value if isinstance(value, str) else text

    return convert


def _is_clean(text: str, layout: str = "") -> bool:
    return text.isprintable() or not any((c < " " and c not in layout) or c == "\x7f" for c in text)


def _name(value: Any) -> Any:
    text = _text(value)
    groups = text.split("=")
    if len(groups) > 3 or max(map(len, groups)) > _LONGEST_NAME or not _is_clean(text) or "\\" in text:
        raise IllegalValueError
    return value if isinstance(value, PersonName) else PersonName(text)


def _day(value: Any) -> Any:
    text = _text(value).strip()
    if text and not _is_day(text):
        raise IllegalValueError
    return value if text == value else text


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _time(value: Any) -> Any:
    text = _text(value).strip()
    if text and not _TIME.fullmatch(text):
        raise IllegalValueError
    return value if text == value else text


def _moment(value: Any) -> Any:
    text = _text(value).strip()
    plain = _ZONE.sub("", text)
    day, time = plain[:8], plain[8:]
    full = day if len(day) == 8 else day + "01010101"[len(day) - 8 :] if len(day) in (4, 6) else ""
    if text and (not _is_day(full) or (time and not _TIME.fullmatch(time))):
        raise IllegalValueError
    return value if text == value else text


def _age(value: Any) -> Any:
    text = _text(value).strip()
    if text and not _AGE.fullmatch(text):
        raise IllegalValueError
    return value if text == value else text


def _uid(value: Any) -> Any:
    text = _text(value).strip()
    if text and not is_uid(text):
        raise IllegalValueError
    return value if isinstance(value, UID) and text == value else UID(text)


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "AS": _age, "AT": _tag, "CS": _code, "DA": _day, "DS": _decimal, "DT": _moment, "FD": _real, "FL": _real, "IS": _whole,
    "PN": _name, "TM": _time, "UI": _uid,
    **{vr: _binary(*limits) for vr, limits in _INTEGERS.items()},
    **{vr: _worded(longest, _LAYOUT if vr in _ONE_VALUE else "") for vr, longest in _LONGEST_TEXT.items()},
}  # fmt: skip

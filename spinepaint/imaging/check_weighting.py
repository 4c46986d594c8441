"""Whether a series is T2-weighted, by its timing and, where that was stripped, by its description."""

import re
from typing import Literal, NamedTuple

from spinepaint.imaging.read_planes import Weighting

_SAYS_T2 = re.compile(r"(?<![A-Z0-9])T2(?!\s*(\*|STAR|[0-9]))")
_SAYS_OTHER = re.compile(r"(?<![A-Z0-9])(T1|PD|STIR|TIRM|FLAIR|DWI|EPI|DIFF|T2\s*(\*|STAR))|T2_?FL2D|SWI(?![A-Z])")
_SAYS_INVERSION = re.compile(r"(?<![A-Z])(STIR|TIRM|FLAIR)")
_SAYS_LOCALIZER = re.compile(r"(?<![A-Z])(LOC|LOCALI[SZ]ER|LOCALI[SZ]ERS|SCOUT|SURVEY|SMARTBRAIN)(?![A-Z])")


class T2Evidence(NamedTuple):
    """How sure it is that a series is T2-weighted, and in words why."""

    level: Literal["certain", "likely", "unknown", "no"]
    reason: str


def says_localizer(names: tuple[str, ...]) -> bool:
    """Whether one of the series' names, in capitals, says that it is a localizer."""
    return any(_SAYS_LOCALIZER.search(name) for name in names)


def t2_evidence(
    weighting: Weighting,
    *,
    certain_echo_time_ms: float = 80.0,
    least_echo_time_ms: float = 50.0,
    heavy_echo_time_ms: float = 250.0,
    least_repetition_time_ms: float = 2000.0,
) -> T2Evidence:
    """Judge the weighting: spin echo, TE and TR long, no inversion recovery.

    TE >= `certain_echo_time_ms` with TR >= `least_repetition_time_ms` is certain; TE down to `least_echo_time_ms`, or above
    `heavy_echo_time_ms`, is likely; with TE or TR missing, or TR short, the names decide; with nothing to go by it is unknown.
    """
    te, tr = weighting.echo_time_ms, weighting.repetition_time_ms
    if weighting.echo_planar:
        return T2Evidence("no", f"echo-planar imaging{_times(weighting)}, not T2 spin echo")
    if weighting.gradient_echo:
        kind = "an inversion-prepared gradient echo" if weighting.inversion else "a gradient echo"
        return T2Evidence("no", f"{kind}{_times(weighting)}, not T2 spin echo")
    if weighting.inversion or any(_SAYS_INVERSION.search(name) for name in weighting.names):
        return T2Evidence("no", f"inversion recovery{_times(weighting)}, as in STIR or FLAIR, not T2")
    says_other = any(_SAYS_OTHER.search(name) for name in weighting.names)
    says_t2 = any(_SAYS_T2.search(name) for name in weighting.names) and not says_other
    if te is not None and te < least_echo_time_ms:
        return T2Evidence("no", f"TE {te:g} ms is too short for T2")
    if te is None or tr is None:
        return _by_name(says_t2, says_other)
    if tr < least_repetition_time_ms:
        if says_t2:
            return T2Evidence("likely", f"T2 by its description, although TR is {tr:g} ms")
        return T2Evidence("no", f"TR {tr:g} ms is too short for T2")
    if te < certain_echo_time_ms:
        return T2Evidence("likely", f"probably T2, although TE is only {te:g} ms")
    if te > heavy_echo_time_ms:
        return T2Evidence("likely", f"very heavily T2-weighted, TE {te:g} ms")
    return T2Evidence("certain", f"T2 by TE {te:g} ms and TR {tr:g} ms")


def is_t1(weighting: Weighting, *, most_echo_time_ms: float = 35.0, most_repetition_time_ms: float = 1200.0) -> bool:
    """Whether a series is T1-weighted by its times: spin echo, TE and TR short, no inversion recovery."""
    te, tr = weighting.echo_time_ms, weighting.repetition_time_ms
    if te is None or tr is None or weighting.echo_planar or weighting.gradient_echo or weighting.inversion:
        return False
    return te <= most_echo_time_ms and tr <= most_repetition_time_ms


def _times(weighting: Weighting) -> str:
    """The times that are known, in brackets with a space before; empty where none is."""
    times = {"TE": weighting.echo_time_ms, "TR": weighting.repetition_time_ms, "TI": weighting.inversion_time_ms}
    known = [f"{name} {time:g} ms" for name, time in times.items() if time]
    return f" ({', '.join(known)})" if known else ""


def _by_name(says_t2: bool, says_other: bool) -> T2Evidence:
    if says_t2:
        return T2Evidence("likely", "T2 by its description alone: TE or TR is missing")
    if says_other:
        return T2Evidence("no", "another contrast by its description: TE or TR is missing")
    return T2Evidence("unknown", "TE or TR is missing and the description does not say T2")

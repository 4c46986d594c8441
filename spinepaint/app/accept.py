"""What a client accepts (RFC 9110 12.5.1)."""

import re
from dataclasses import dataclass

_PARAMETER = re.compile(r';\s*([A-Za-z0-9_-]+)\s*=\s*(?:"([^"]*)"|([^";,\s]*))')
_ITEM = re.compile(r'(?:[^",]|"[^"]*"?)+')


@dataclass(frozen=True)
class MediaRange:
    """One range of an Accept header; names in small letters."""

    media_type: str
    parameters: dict[str, str]
    quality: float

    @property
    def part(self) -> str:
        """What a part of it is: the `type` of a multipart range."""
        return self.parameters.get("type", "*/*").lower()


def media_ranges(accept: str) -> list[MediaRange]:
    """The ranges of an Accept header, best first; those with q=0 are left out."""
    return sorted((media for media in ranges_as_written(accept) if media.quality > 0), key=lambda media: -media.quality)


def ranges_as_written(accept: str) -> list[MediaRange]:
    """The ranges of an Accept header (its first 2000 characters), in their order; those with q=0 too."""
    found = []
    for item in _ITEM.findall(accept[:2000]):
        parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(item)}
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if item.strip():
            found.append(MediaRange(item.partition(";")[0].strip().lower(), parameters, quality))
    return found

"""Media types of DICOMweb requests and responses (RFC 9110 12.5.1, PS3.18 8.7)."""

from collections.abc import Collection
from dataclasses import dataclass

from fastapi import Request

from spinepaint.app.accept import MediaRange, media_ranges
from spinepaint.imaging.errors import Refusal

DICOM_JSON = "application/dicom+json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
RELATED = "multipart/related"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE_LITTLE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE)
COMPRESSED = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
}
"""Media type of a compressed frame by its transfer syntax (PS3.18 8.7.3.3.2)."""


def accepted_by(request: Request) -> list[MediaRange]:
    """What the client accepts: the query parameter `accept` (PS3.18 8.3.3.1), else the header, else anything."""
    return media_ranges(request.query_params.get("accept") or request.headers.get("accept") or "*/*")


def require_json(request: Request) -> None:
    """Raise Refusal 406 where the client does not take DICOM JSON."""
    if not any(m.media_type in (DICOM_JSON, "application/json", "application/*", "*/*") for m in accepted_by(request)):
        raise not_acceptable(DICOM_JSON)


@dataclass(frozen=True)
class Representation:
    """How instances or frames go out: `transfer_syntax` None is as stored, `multipart` whether as parts."""

    media_type: str
    transfer_syntax: str | None
    multipart: bool = True


def instance_representation(request: Request, stored: Collection[str], *, single: bool) -> Representation:
    """How to send instances that are stored in these transfer syntaxes.

    Without a `transfer-syntax` it is Explicit VR Little Endian (PS3.18 8.7.3.5.2); `*` is as stored. Raises Refusal 406.
    """
    for media in accepted_by(request):
        if media.media_type in (RELATED, "multipart/*", "*/*") and media.part in (DICOM, "application/*", "*/*"):
            multipart = True
        elif media.media_type == DICOM and single:
            multipart = False
        else:
            continue
        asked = media.parameters.get("transfer-syntax", EXPLICIT_LITTLE)
        if asked == "*" or set(stored) == {asked}:
            return Representation(DICOM, None, multipart)
        if asked == EXPLICIT_LITTLE:
            return Representation(DICOM, EXPLICIT_LITTLE, multipart)
    raise not_acceptable(f'{RELATED}; type="{DICOM}", with transfer-syntax {EXPLICIT_LITTLE}, * or the stored one')


def frame_representation(request: Request, stored: str, *, single: bool) -> Representation:
    """How to send frames of an instance that is stored in this transfer syntax.

    `application/octet-stream` is uncompressed little endian, with a `transfer-syntax` of `*` too; a compressed media type, or
    any image for which the `transfer-syntax` is `*` or the stored one, is the frame as it is stored. Where a `single` frame is
    asked for, a range that is not multipart gives it as the body. Raises Refusal 406.
    """
    own_type = COMPRESSED.get(stored, OCTETS)
    for media in accepted_by(request):
        multipart, kind = _multipart_of(media)
        if not (multipart or single):
            continue
        asked = media.parameters.get("transfer-syntax")
        if kind in (own_type, "image/*", "*/*") and own_type != OCTETS and asked in ("*", stored):
            return Representation(own_type, None, multipart)
        if kind in (own_type, "image/*") and own_type != OCTETS and asked is None:
            return Representation(own_type, None, multipart)
        native = (None, EXPLICIT_LITTLE, "*", *([stored] if own_type == OCTETS else []))
        if kind in (OCTETS, "application/*", "*/*") and asked in native:
            return Representation(OCTETS, None if stored in NATIVE_LITTLE else EXPLICIT_LITTLE, multipart)
    alone = f", or {OCTETS} itself" if single else ""
    raise not_acceptable(f'{RELATED}; type="{OCTETS}"{alone}, or as stored: {own_type}')


def bulk_representation(request: Request) -> Representation:
    """How to send bulk data, which are octets: as one part, or as the body. Raises Refusal 406."""
    for media in accepted_by(request):
        multipart, kind = _multipart_of(media)
        asked = media.parameters.get("transfer-syntax", EXPLICIT_LITTLE)
        if kind in (OCTETS, "application/*", "*/*") and asked in ("*", EXPLICIT_LITTLE):
            return Representation(OCTETS, EXPLICIT_LITTLE, multipart)
    raise not_acceptable(f'{RELATED}; type="{OCTETS}", or {OCTETS} itself')


def _multipart_of(media: MediaRange) -> tuple[bool, str]:
    """Whether a range is one of multipart bodies, and of what; where anything is taken, it is multipart (PS3.18 8.7.3.2)."""
    multipart = media.media_type in (RELATED, "multipart/*", "*/*")
    return multipart, media.part if multipart else media.media_type


def not_acceptable(offered: str) -> Refusal:
    """406, with what there is instead."""
    return Refusal("not-acceptable", "None of the accepted media types can be given.", f"There is {offered}.", status=406)

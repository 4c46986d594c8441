"""Delivery by STOW-RS (PS3.18 10.5): all instances in one request, streamed."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from spinepaint.destinations import StowDestination
from spinepaint.worker.delivery import DeliveryFailed, Outgoing

_DUPLICATE = 0x0111  # the destination has that SOP Instance UID already: an earlier try got as far as this
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_PROCESSING_FAILURE = 0x0110
_BUSY_STATUSES = (408, 425, 429)


class StowSender:
    """Stores instances at a DICOMweb service."""

    def __init__(self, destination: StowDestination) -> None:
        """`destination` gives the address, and what to send as Authorization."""
        self._url = str(destination.url).rstrip("/") + "/studies"
        secret = destination.authorization
        self._headers = {} if secret is None else {"Authorization": secret.get_secret_value()}

    def __call__(self, instances: Sequence[Outgoing], *, timeout_s: float, alive: Callable[[], None]) -> None:
        """Send all in one request. Raises DeliveryFailed."""
        boundary = secrets.token_hex(16)
        headers = self._headers | {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(_length(instances, boundary)),
            "Accept": "application/dicom+json",
        }
        try:
            # Environment proxies are for the open internet; a destination is named by whoever runs the service.
            with httpx.Client(timeout=timeout_s, trust_env=False) as client:
                response = client.post(self._url, headers=headers, content=_body(instances, boundary, alive))
        except httpx.InvalidURL:
            raise DeliveryFailed("The address of the destination cannot be used.", again=False) from None
        except httpx.TransportError as error:
            raise DeliveryFailed(f"The destination did not answer ({type(error).__name__}).", again=True) from None
        _check(response, instances)


def _opening(boundary: str) -> bytes:
    # Without a transfer-syntax parameter: Orthanc's plugin 1.7 passes over parts that have one, and answers 200.
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _length(instances: Sequence[Outgoing], boundary: str) -> int:
    """Bytes of `_body`: some services take no chunked requests."""
    return sum(len(_opening(boundary)) + i.size + 2 for i in instances) + len(boundary) + 6


def _body(instances: Sequence[Outgoing], boundary: str, alive: Callable[[], None]) -> Iterator[bytes]:
    for instance in instances:
        alive()
        yield _opening(boundary)
        yield from instance.stream()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _check(response: httpx.Response, instances: Sequence[Outgoing]) -> None:
    """Raise DeliveryFailed unless the destination says of every instance that it has it (PS3.18 10.5.3)."""
    status, count = response.status_code, len(instances)
    answer = _dataset(response)
    failed = _items(answer, "00081198")
    refused = [item for item in failed if _reason(item) != _DUPLICATE]
    if status in (200, 202, 409) and not refused:
        taken = {_uid(item) for item in [*_items(answer, "00081199"), *failed]}
        missing = sum(instance.sop_instance_uid not in taken for instance in instances)
        if not missing:
            return
        if status == 200:
            detail = f"It answered with HTTP status 200, but does not say of {missing} of {count} instances that it has them."
            raise DeliveryFailed(detail, again=False)
    if refused:
        reasons = sorted({_reason(item) for item in refused})
        codes = ", ".join(f"{reason:04X}H" for reason in reasons)
        busy = all(reason in _OUT_OF_RESOURCES or reason == _PROCESSING_FAILURE for reason in reasons)
        detail = f"It refused {len(refused)} of {count} instances with Failure Reason {codes} (HTTP status {status})."
        raise DeliveryFailed(detail, again=busy)
    raise DeliveryFailed(f"It answered with HTTP status {status}.", again=status >= 500 or status in _BUSY_STATUSES)


def _dataset(response: httpx.Response) -> Mapping[str, Any]:
    """The response's data set; some services wrap it in a list. Empty where there is none in DICOM JSON."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    return answer if isinstance(answer, dict) else {}


def _items(dataset: Mapping[str, Any], tag: str) -> list[Any]:
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _reason(item: Any) -> int:
    """Failure Reason (0008,1197) of a failed instance; 0 where it is not told."""
    values = _items(item, "00081197") if isinstance(item, dict) else []
    return values[0] if values and isinstance(values[0], int) else 0


def _uid(item: Any) -> str:
    """Referenced SOP Instance UID (0008,1155)."""
    values = _items(item, "00081155") if isinstance(item, dict) else []
    return str(values[0]) if values else ""

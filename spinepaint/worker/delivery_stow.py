"""Delivery by STOW-RS (PS3.18 10.5): all instances in one request, streamed."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import httpx

from spinepaint.destinations import StowDestination
from spinepaint.worker.delivery_try import DeliveryFailed, Outgoing, Watch

_DUPLICATE = 0x0111  # the destination has that SOP Instance UID already: an earlier try got as far as this
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_PROCESSING_FAILURE = 0x0110
_BUSY_STATUSES = (408, 425, 429)
_ANSWER_BYTES = 1 << 20
_ANSWER_BYTES_EACH = 2048  # an item with its UIDs and its Retrieve URL takes some 500
_CODES_SHOWN = 5


class StowSender:
    """Stores instances at a DICOMweb service."""

    def __init__(self, destination: StowDestination) -> None:
        """`destination` gives the address, and what to send as Authorization."""
        self._url = str(destination.url).rstrip("/") + "/studies"
        secret = destination.authorization
        self._headers = {} if secret is None else {"Authorization": secret.get_secret_value()}

    def __call__(self, instances: Sequence[Outgoing], *, timeout_s: float, watch: Watch) -> None:
        """Send all in one request. Raises DeliveryFailed."""
        boundary = secrets.token_hex(16)
        headers = self._headers | {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(_length(instances, boundary)),
            "Accept": "application/dicom+json",
            "Accept-Encoding": "identity",  # what is packed has no size until it is unpacked
        }
        content, trace = _body(instances, boundary, watch), partial(_tell_of_connection, watch)
        try:
            # Environment proxies are for the open internet; a destination is named by whoever runs the service.
            with (
                httpx.Client(timeout=timeout_s, trust_env=False) as client,
                client.stream("POST", self._url, headers=headers, content=content, extensions={"trace": trace}) as response,
            ):
                status, answer = response.status_code, _read(response, len(instances))
        except httpx.InvalidURL:
            raise DeliveryFailed("The address of the destination cannot be used.", again=False) from None
        except httpx.TransportError as error:
            raise DeliveryFailed(f"The destination did not answer ({type(error).__name__}).", again=True) from None
        _check(status, _dataset(answer), instances)


def _tell_of_connection(watch: Watch, event: str, info: Mapping[str, Any]) -> None:
    """What httpcore calls as it goes along (its `trace` extension): the plain connection is there before TLS begins."""
    if event == "connection.connect_tcp.complete":
        watch.connected(info["return_value"].get_extra_info("socket"))


def _read(response: httpx.Response, count: int) -> bytes:
    """The body of an answer about so many instances. Raises DeliveryFailed where it is longer than any such answer."""
    most = _ANSWER_BYTES + count * _ANSWER_BYTES_EACH
    answer = bytearray()
    for chunk in response.iter_raw():
        answer += chunk
        if len(answer) > most:
            status = response.status_code
            detail = f"It answered with HTTP status {status} and more than {most} bytes."
            raise DeliveryFailed(detail, again=_passes(status))
    return bytes(answer)


def _passes(status: int) -> bool:
    return status >= 500 or status in _BUSY_STATUSES


def _opening(boundary: str) -> bytes:
    # Without a transfer-syntax parameter: Orthanc's plugin 1.7 passes over parts that have one, and answers 200.
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _length(instances: Sequence[Outgoing], boundary: str) -> int:
    """Bytes of `_body`: some services take no chunked requests."""
    return sum(len(_opening(boundary)) + i.size + 2 for i in instances) + len(boundary) + 6


def _body(instances: Sequence[Outgoing], boundary: str, watch: Watch) -> Iterator[bytes]:
    for instance in instances:
        watch.check()
        yield _opening(boundary)
        yield from instance.stream()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _check(status: int, answer: Mapping[str, Any], instances: Sequence[Outgoing]) -> None:
    """Raise DeliveryFailed unless the destination says of every instance that it has it (PS3.18 10.5.3)."""
    count = len(instances)
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
        codes = ", ".join(f"{reason:04X}H" for reason in reasons[:_CODES_SHOWN])
        busy = all(reason in _OUT_OF_RESOURCES or reason == _PROCESSING_FAILURE for reason in reasons)
        detail = f"It refused {len(refused)} of {count} instances with Failure Reason {codes} (HTTP status {status})."
        raise DeliveryFailed(detail, again=busy)
    raise DeliveryFailed(f"It answered with HTTP status {status}.", again=_passes(status))


def _dataset(content: bytes) -> Mapping[str, Any]:
    """The answer's data set; some services wrap it in a list. Empty where there is none in DICOM JSON."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    return answer if isinstance(answer, dict) else {}


def _items(dataset: Mapping[str, Any], tag: str) -> list[Any]:
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _reason(item: Any) -> int:
    """Failure Reason (0008,1197) of a failed instance, an unsigned short; 0 where it is not told."""
    values = _items(item, "00081197") if isinstance(item, dict) else []
    return values[0] if values and isinstance(values[0], int) and 0 <= values[0] <= 0xFFFF else 0


def _uid(item: Any) -> str:
    """Referenced SOP Instance UID (0008,1155)."""
    values = _items(item, "00081155") if isinstance(item, dict) else []
    return str(values[0]) if values else ""

"""One try at a webhook: signed by Standard Webhooks, to an address that was checked, with nothing followed and little read."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence

import httpcore

from spinepaint import __version__
from spinepaint.callbacks import BadCallback, CallbackRules, Resolve, addresses_of, parse_callback, resolved
from spinepaint.links import job_links
from spinepaint.store import Job
from spinepaint.worker.delivery_try import DeliveryFailed, Watch

ANSWER_BYTES = 64 * 1024
"""Nothing that a receiver answers is used; one that answers more is cut off."""
_GONE = 410


def payload(job: Job) -> bytes:
    """The body: the job's id, its state and where to look. The same for every try."""
    ended = job.finished_at.isoformat() if job.finished_at is not None else None
    data = {"id": job.id, "state": job.state, "links": job_links(job)}
    return json.dumps({"type": f"job.{job.state}", "timestamp": ended, "data": data}, separators=(",", ":")).encode()


def signed_headers(message_id: str, sent_at: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body, in base64, one for each key; `sent_at` in Unix seconds."""
    signed = f"{message_id}.{sent_at}.".encode() + body
    marks = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
    }


def post(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    rules: CallbackRules,
    tls: ssl.SSLContext,
    timeout_s: float,
    watch: Watch,
    resolve: Resolve = resolved,
) -> None:
    """Send, and return once the receiver has answered 2xx. Raises DeliveryFailed, whose detail does not repeat the address."""
    try:
        callback = parse_callback(url, rules)
        addresses = _in_time(lambda: addresses_of(callback, rules, resolve), timeout_s)
    except BadCallback as error:
        raise DeliveryFailed(f"The address is not one that webhooks go to. {error}", again=True) from None
    except OSError:
        raise DeliveryFailed("The name of the receiver cannot be resolved.", again=True) from None
    watch.check()
    own = {"Content-Type": "application/json", "User-Agent": f"spinepaint/{__version__}", "Accept-Encoding": "identity"}
    target = httpcore.URL(
        scheme=callback.scheme.encode(), host=callback.host.encode(), port=callback.port, target=callback.target.encode()
    )
    timeout = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)}
    pool = httpcore.ConnectionPool(ssl_context=tls, network_backend=_CheckedNetwork(addresses, watch))
    sent = {"Host": callback.netloc, **own, **headers}
    try:
        with pool, pool.stream("POST", target, headers=list(sent.items()), content=body, extensions=timeout) as response:
            status = response.status
            _check_size(response.iter_stream(), status)
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise DeliveryFailed(f"The receiver did not answer ({type(error).__name__}).", again=True) from None
    if not 200 <= status < 300:
        raise DeliveryFailed(f"The receiver answered with HTTP status {status}.", again=status != _GONE)


def _check_size(chunks: Iterable[bytes], status: int) -> None:
    read = 0
    for chunk in chunks:
        read += len(chunk)
        if read > ANSWER_BYTES:
            raise DeliveryFailed(
                f"The receiver answered with HTTP status {status} and more than {ANSWER_BYTES} bytes.", again=True
            )


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name resolves to by now; tells the watch of connections."""

    def __init__(self, addresses: Sequence[str], watch: Watch) -> None:
        self._addresses, self._watch, self._plain = addresses, watch, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that takes the connection; `host` stays the name for TLS."""
        refused: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            self._watch.check()
            try:
                stream = self._plain.connect_tcp(address, port, timeout=timeout, socket_options=socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refused = error
                continue
            self._watch.connected(stream.get_extra_info("socket"))
            return stream
        raise refused

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        """Never: no webhook goes there."""
        raise httpcore.UnsupportedProtocol("no sockets")

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._plain.sleep(seconds)


def _in_time(work: Callable[[], list[str]], timeout_s: float) -> list[str]:
    """What `work` returns or raises. Raises OSError when it takes longer; the system's resolver has no limit of its own."""
    outcome: list[list[str] | Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="resolver", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise OSError("the resolver is silent")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]

"""Traces of requests and jobs by OpenTelemetry, from the gateway to what is delivered, where `SPINEPAINT_TRACES_URL` is set.

Off, nothing of OpenTelemetry is imported here and a span is nothing. A trace's id goes with the job's row, so that whichever
worker takes the job goes on with it. Spans hold names of our own, ids and numbers: no message of an exception, path or header.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from spinepaint import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

EXPORT_TIMEOUT_S = 5.0
Kind = Literal["INTERNAL", "SERVER", "PRODUCER", "CONSUMER", "CLIENT"]
Attributes = Mapping[str, str | int | float | None]

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def start_tracing(url: str, part: str, exporter: "SpanExporter | None" = None) -> None:
    """Send this process's spans to an OTLP collector by HTTP, or to `exporter`; `part` says which process of the service it is.

    Nothing is done where `url` is empty and there is no exporter. Raises ModuleNotFoundError without the extra `otel`.
    """
    global _provider, _tracer
    if not url and exporter is None:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        exporter = otlp.OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    resource = Resource.create({"service.name": f"spinepaint-{part}", "service.version": __version__})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("spinepaint", __version__)


def stop_tracing() -> None:
    """Send what is left. A process that ends does so by itself."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


class Traced:
    """A span that is being written; nothing is, where there is no trace."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    def tell(self, attributes: Attributes) -> None:
        """Add attributes; those that are None are left out."""
        if self._span is not None:
            self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def rename(self, name: str) -> None:
        """Give it another name, once more is known."""
        if self._span is not None:
            self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """Mark it as failed; `kind` is a class of exception or a slug, never a message."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def span(name: str, parent: str | None = None, kind: Kind = "INTERNAL", attributes: Attributes | None = None) -> Iterator[Traced]:
    """A span around a block: below the one around it, or below `parent` (a W3C traceparent) where one is given.

    An exception that leaves the block marks it as failed, by its class alone.
    """
    if _tracer is None:
        yield Traced()
        return
    from opentelemetry.trace import SpanKind

    around = None if parent is None else _context_of(parent)
    # Both would keep the exception's message.
    silent: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span(name, context=around, kind=SpanKind[kind], **silent) as begun:
        traced = Traced(begun)
        traced.tell(attributes or {})
        try:
            yield traced
        except BaseException as error:
            traced.fail(type(error).__name__)
            raise


def current_trace() -> str | None:
    """The span around, as a W3C traceparent (55 characters), for whoever goes on with it elsewhere; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context_of(parent: str) -> "Context":
    """The context that a traceparent names; an empty one, so that a trace of its own begins, where it names none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Vendors' `tracestate` is left out: it may hold what a client likes.
    return TraceContextTextMapPropagator().extract({"traceparent": parent}, context=Context())

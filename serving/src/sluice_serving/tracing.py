"""
OpenTelemetry traces of requests: one span a request, with one for the features and one for the model inside.

On where ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a receiver (OTLP over HTTP, protobuf); all of OpenTelemetry's variables
hold, ``OTEL_TRACES_SAMPLER`` too. A ``traceparent`` header (W3C) is continued, and its decision to sample is followed.
Spans wait in a bounded queue for a thread that sends them: a receiver that is slow or gone costs spans, never answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sluice.models.request import BadRequest
from sluice.models.request_headers import Context

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_NOTHING = contextlib.nullcontext()
_tracer: Tracer | None = None


def span(name: str) -> contextlib.AbstractContextManager[Any]:
    """A span inside the one that is open; nothing where traces are off, or where this request's is not sampled."""
    return _NOTHING if _tracer is None or _current() is None else _tracer.start_as_current_span(name)


@contextlib.contextmanager
def _request(headers: Mapping[str, str]) -> Any:
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    assert _tracer is not None  # noqa: S101  for the type checker
    parent = TraceContextTextMapPropagator().extract(headers)
    options: dict[str, Any] = {"kind": SpanKind.SERVER, "record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span("predict", context=parent, **options) as root:
        try:
            yield
        except BadRequest as error:
            root.set_attribute("sluice.refused", error.part)  # the client's fault is no error of this span
            raise
        except Exception as error:
            root.record_exception(error)
            root.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def request(headers: Mapping[str, str]) -> contextlib.AbstractContextManager[Any]:
    """The span of one request; header names in lower case."""
    return _NOTHING if _tracer is None else _request(headers)


def describe(context: Context) -> None:
    """Say in the span that is open which request it is about."""
    if (now := _current()) is not None:
        attributes = {"request": context.request_id, "route": context.route, "rollout": context.rollout}
        now.set_attributes({f"sluice.{key}": value for key, value in attributes.items()})


def trace_id() -> str:
    """Of the span that is open, as logs and W3C write it; empty where there is none."""
    now = _current()
    return "" if now is None else f"{now.get_span_context().trace_id:032x}"


def _current() -> Span | None:
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    current = get_current_span()
    return current if current.is_recording() else None


def start(environment: Mapping[str, str], identity: Mapping[str, str]) -> Callable[[], None]:
    """
    Begin to trace, where the environment asks for it.

    Args:
        identity: what every span says of this process: task, digest, role.

    Returns:
        what sends the last spans at the end.
    """
    global _tracer  # noqa: PLW0603  one process serves one model
    if not (environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {"service.name": "sluice", **{f"sluice.{key}": value for key, value in identity.items()}}
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("sluice.serving")
    return provider.shutdown

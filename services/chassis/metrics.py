"""Metrics for Prometheus: each service has a registry of its own, and may serve it on a port of its own.

Every family has the prefix ``text4seg_`` and the label ``service``. docs/telemetry.md lists them all, and a
test compares the list with a scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.chassis.settings import split_address

PREFIX = "text4seg_"

_SERVICE = "service"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)

# Otherwise the library adds a gauge `..._created` to every counter and histogram, and doubles what is stored.
disable_created_metrics()  # type: ignore[no-untyped-call]

Stop: TypeAlias = Callable[[], None]


class Count:
    """How often something has happened since the start."""

    def __init__(self, family: Counter, service: str) -> None:
        self._family = family
        self._service = service

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count ``amount`` more, at least 0; ``labels`` are exactly those that were declared."""
        self._family.labels(**labels, service=self._service).inc(amount)


class Durations:
    """How long something takes, as a histogram in seconds."""

    def __init__(self, family: Histogram, service: str) -> None:
        self._family = family
        self._service = service

    def add(self, seconds: float, **labels: str) -> None:
        """Record one duration; ``labels`` are exactly those that were declared."""
        self._family.labels(**labels, service=self._service).observe(seconds)


class Level:
    """A value that goes up and down."""

    def __init__(self, family: Gauge, service: str) -> None:
        self._family = family
        self._service = service

    def set(self, value: float, **labels: str) -> None:
        """Record the value as it is now; ``labels`` are exactly those that were declared."""
        self._family.labels(**labels, service=self._service).set(value)


class Metrics:
    """The families of one service. What nobody scrapes costs some microseconds a call.

    Label values come from closed sets: whatever a caller may choose freely must not become one.
    """

    def __init__(self, service: str) -> None:
        """Start without any family but those of the process (``process_*``).

        Args:
            service: value of the label ``service``.
        """
        self._service = service
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def count(self, name: str, text: str, **labels: Iterable[str]) -> Count:
        """Declare a counter ``text4seg_<name>_total``.

        Args:
            name: what is counted.
            text: one line for whoever reads a scrape.
            labels: names, each with the values that are known now. A family whose labels have known values
                starts with a 0 for each, so that the first event is seen as a rise.
        """
        family = Counter(PREFIX + name, text, [_SERVICE, *labels], registry=self._registry)
        if len(labels) == 1:
            ((label, values),) = labels.items()
            for value in values:
                family.labels(**{label: value}, service=self._service)
        elif not labels:
            family.labels(service=self._service)
        return Count(family, self._service)

    def durations(self, name: str, text: str, *labels: str) -> Durations:
        """Declare a histogram ``text4seg_<name>_seconds``."""
        family = Histogram(
            f"{PREFIX}{name}_seconds", text, [_SERVICE, *labels], registry=self._registry, buckets=_BUCKETS_S
        )
        return Durations(family, self._service)

    def level(self, name: str, text: str, *labels: str) -> Level:
        """Declare a gauge ``text4seg_<name>``."""
        return Level(Gauge(PREFIX + name, text, [_SERVICE, *labels], registry=self._registry), self._service)

    def reading(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Declare a gauge ``text4seg_<name>`` that is read when it is scraped.

        Args:
            name: what is measured.
            text: one line for whoever reads a scrape.
            label: name of its label besides ``service``; empty: none.
            read: returns the value for each value of the label (for "" when there is none). It is called
                from another thread.
        """
        self._registry.register(_Reading(PREFIX + name, text, self._service, label, read))

    def serve(self, address: str) -> tuple[str, Stop]:
        """Serve the metrics over HTTP from a thread, at any path.

        Args:
            address: ``host:port``; port 0 takes any free port.

        Returns:
            The address that is bound, and a function that ends it and blocks until it has.

        Raises:
            OSError: the address is taken, or not ours.
        """
        host, port = split_address(address)
        server, thread = start_http_server(port, host.strip("[]"), self._registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return f"{host}:{server.server_port}", stop


class _Reading(Collector):
    def __init__(
        self, name: str, text: str, service: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        self._name = name
        self._text = text
        self._service = service
        self._label = label
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the family with the values of now."""
        labels = [_SERVICE, self._label] if self._label else [_SERVICE]
        family = GaugeMetricFamily(self._name, self._text, labels=labels)
        for value, level in self._read().items():
            family.add_metric([self._service, value] if self._label else [self._service], level)
        yield family

"""Numbers that only the database knows, asked for when somebody reads the metrics."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service_kit.errors import StorageUnavailable
from service_kit.logging import get_logger

# Far below the ten seconds that a Prometheus waits if it is not told otherwise.
READ_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True)
class StoredGauge:
    """A gauge with one value for each of `values` of its label, or one value without a label."""

    name: str
    meaning: str
    label: str = ""
    values: tuple[str, ...] = ("",)

    def family(self, numbers: Mapping[str, float]) -> GaugeMetricFamily:
        """Return the gauge with these numbers; a value that is not among them has 0."""
        family = GaugeMetricFamily(
            self.name, self.meaning, labels=[self.label] if self.label else []
        )
        for value in self.values:
            family.add_metric([value] if self.label else [], numbers.get(value, 0))
        return family


Numbers = Mapping[StoredGauge, Mapping[str, float]]


class StoredGauges(Collector):
    """Reads them, one time at a time, and waits two seconds at most.

    While the database does not answer there are none of them, rather than old ones or zeros,
    and `checkout_storage_up` is 0.
    """

    def __init__(
        self,
        gauges: Sequence[StoredGauge],
        read: Callable[[], Numbers],
        *,
        seconds_max: float = READ_SECONDS_MAX,
    ) -> None:
        self._gauges = gauges
        self._read = read
        self._seconds_max = seconds_max
        self._stuck: _Reading | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauges without asking for them: a server starts without its metrics' reader."""
        return [_storage_up(0), *(gauge.family({}) for gauge in self._gauges)]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask, and return what was answered in time."""
        numbers = self._numbers()
        yield _storage_up(0 if numbers is None else 1)
        if numbers is not None:
            for gauge in self._gauges:
                yield gauge.family(numbers[gauge])

    def _numbers(self) -> Numbers | None:
        # A reader that hangs is not joined by a second one.
        if self._stuck and not self._stuck.is_over(within_seconds=0):
            return None
        reading = _Reading(self._read)
        self._stuck = None if reading.is_over(within_seconds=self._seconds_max) else reading
        return None if self._stuck else reading.numbers


class _Reading:
    """One question to the database, on a thread of its own."""

    def __init__(self, read: Callable[[], Numbers]) -> None:
        self.numbers: Numbers | None = None
        self._read = read
        self._thread = threading.Thread(target=self._run, name="metrics-reading", daemon=True)
        self._thread.start()

    def is_over(self, *, within_seconds: float) -> bool:
        """Wait, and say whether there was an answer or an error."""
        self._thread.join(within_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.numbers = self._read()
        except StorageUnavailable:
            return  # it is in the log already
        except Exception as error:  # noqa: BLE001 - the other metrics are told all the same
            get_logger().error("metrics.unread", exc_info=error)


def _storage_up(value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "checkout_storage_up", "Whether the database answered what the metrics ask.", value=value
    )

"""What every server tells of itself."""

import platform
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector

from service_kit.contract.method_contracts import MethodContract
from service_kit.error_table import ErrorTable
from service_kit.metrics.calls import CallMetrics
from service_kit.metrics.stored import Numbers, StoredGauge, StoredGauges
from service_kit.metrics.work import WorkerMetrics
from service_kit.version import VERSION


class ServerMetrics:
    """The metrics of one server, in a registry of its own: there may be others in the process.

    `workers` are the names of its workers. `gauges` are asked of the database, by `read`, when
    somebody reads the metrics.
    """

    def __init__(
        self,
        *,
        service: str,
        contracts: Iterable[MethodContract],
        error_table: ErrorTable,
        workers: Iterable[str],
        gauges: Sequence[StoredGauge],
        read: Callable[[], Numbers],
    ) -> None:
        self.registry = CollectorRegistry()
        self.calls = CallMetrics(self.registry, contracts, error_table)
        self.workers = WorkerMetrics(self.registry, workers)
        self.registry.register(StoredGauges(gauges, read))
        build = Info("checkout_build", "What is running.", registry=self.registry)
        build.info({"service": service, "version": VERSION, "python": platform.python_version()})
        ProcessCollector(registry=self.registry)

    def add(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Add a gauge that is asked of the process."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

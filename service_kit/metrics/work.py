"""Background work, counted: how often each worker ran, and how often in vain."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from service_kit.errors import ConcurrentUpdate, StorageUnavailable

INTERRUPTED = "interrupted"
FAILED = "failed"


class WorkerMetrics:
    """Counts the runs of one server's workers. `names` are all of them."""

    def __init__(self, registry: CollectorRegistry, names: Iterable[str]) -> None:
        runs = Counter(
            "checkout_worker_runs",
            "Runs of background workers, in vain or not, by worker.",
            ["worker"],
            registry=registry,
        )
        errors = Counter(
            "checkout_worker_errors",
            "Runs that raised: interrupted by the database, or failed by a bug.",
            ["worker", "kind"],
            registry=registry,
        )
        self._runs = {name: runs.labels(name) for name in names}
        self._errors = {
            (name, kind): errors.labels(name, kind)
            for name in self._runs
            for kind in (INTERRUPTED, FAILED)
        }

    def observe(self, name: str, error: Exception | None) -> None:
        """Count a run."""
        self._runs[name].inc()
        if error is not None:
            is_interrupted = isinstance(error, ConcurrentUpdate | StorageUnavailable)
            self._errors[name, INTERRUPTED if is_interrupted else FAILED].inc()

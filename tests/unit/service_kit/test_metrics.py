"""Whoever reads the metrics gets an answer, and hurts nobody."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError, URLError

import grpc
import pytest
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.metrics.exposition import Exposition
from service_kit.metrics.stored import Numbers, StoredGauge, StoredGauges
from service_kit.metrics.work import WorkerMetrics
from service_kit.server import CannotListen, PortTaken
from service_kit.workers import Task, Workers
from tests.scrape import Scrape, read, scrape_server
from tests.unit.service_kit.echo import Echo, a_server, eventually, get_order, order, serving

WAITING = StoredGauge("toys_waiting", "Toys that wait.", label="kind", values=("car", "doll"))
TOTAL = StoredGauge("toys_total_weight_grams", "What they weigh.")


def an_exposition(registry: CollectorRegistry | None = None, port: int = 0) -> Exposition:
    return Exposition(registry or CollectorRegistry(), port=port, variable="TOYS_METRICS_PORT")


@contextmanager
def told(registry: CollectorRegistry) -> Iterator[Exposition]:
    """Tell the registry for the length of the block."""
    exposition = an_exposition(registry)
    exposition.start()
    try:
        yield exposition
    finally:
        exposition.stop()


@pytest.mark.requirement("FR-253")
class TestExposition:
    def test_tells_the_text_that_prometheus_reads(self) -> None:
        registry = CollectorRegistry()
        Gauge("toys", "Toys.", registry=registry).set(3)
        with told(registry) as exposition:
            body, headers = read(f"http://{exposition.address}/metrics")
        assert Scrape(body).value("toys") == 3
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Python" not in headers["Server"]

    @pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx"])
    def test_has_nothing_else(self, path: str) -> None:
        with told(CollectorRegistry()) as exposition:
            with pytest.raises(HTTPError) as refused:
                read(f"http://{exposition.address}{path}")
            refused.value.close()
        assert refused.value.code == 404

    def test_survives_a_bug_in_a_metric(self) -> None:
        registry = CollectorRegistry()
        gauge = Gauge("toys", "Toys.", registry=registry)
        counts = iter([0, 0.2])
        gauge.set_function(lambda: 1 / next(counts))
        with capture_logs() as log, told(registry) as exposition:
            with pytest.raises(HTTPError) as refused:
                scrape_server(exposition.address)
            refused.value.close()
            assert scrape_server(exposition.address).value("toys") == 5
        assert refused.value.code == 500
        assert [line["event"] for line in log] == ["metrics.failed"]

    def test_does_not_wait_for_ever_for_a_reader_that_asks_nothing(self) -> None:
        with told(CollectorRegistry()) as exposition:
            silent = socket.create_connection(("127.0.0.1", exposition.port))
            with silent:
                assert scrape_server(exposition.address).families == []

    def test_does_not_mind_a_reader_that_goes_away(self) -> None:
        with told(CollectorRegistry()) as exposition:
            for _ in range(3):
                socket.create_connection(("127.0.0.1", exposition.port)).close()
            assert scrape_server(exposition.address).families == []

    def test_ends_although_a_reader_asks_nothing(self) -> None:
        exposition = an_exposition()
        exposition.start()
        with socket.create_connection(("127.0.0.1", exposition.port)):
            started = time.monotonic()
            exposition.stop()
            assert time.monotonic() - started < 10
        with pytest.raises(URLError):
            scrape_server(exposition.address)

    def test_may_be_stopped_twice_or_before_it_was_started(self) -> None:
        exposition = an_exposition()
        exposition.stop()
        exposition.start()
        exposition.stop()
        exposition.stop()

    def test_leaves_out_when_each_series_began(self) -> None:
        registry = CollectorRegistry()
        WorkerMetrics(registry, ["sweep"])
        with told(registry) as exposition:
            seen = scrape_server(exposition.address)
        assert "_created" not in seen.text
        assert seen.value("checkout_worker_runs_total", worker="sweep") == 0


@pytest.mark.requirement("FR-253")
class TestServer:
    def test_tells_its_metrics_and_says_where(self) -> None:
        server = a_server(metrics=an_exposition())
        with capture_logs() as log, serving(server):
            assert scrape_server(server.metrics_address).families == []
        [listening] = [line for line in log if line["event"] == "listening"]
        assert listening["metrics"] == server.metrics_address
        assert not server.metrics_address.endswith(":0")

    def test_without_metrics_says_so(self) -> None:
        server = a_server()
        with capture_logs() as log, serving(server):
            assert server.metrics_address == ""
        assert [line["metrics"] for line in log if line["event"] == "listening"] == ["off"]

    def test_tells_them_to_this_machine_only_wherever_it_listens(self) -> None:
        """127.0.0.2 reaches whoever listens on every address, and not who does on 127.0.0.1."""
        everywhere = "0.0.0.0"  # noqa: S104 - to see what it does not change
        server = a_server(host=everywhere, insecure=True, metrics=an_exposition())
        with serving(server):
            port = int(server.metrics_address.partition(":")[2])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port), timeout=5)
            socket.create_connection(("127.0.0.2", server.port), timeout=5).close()
            assert scrape_server(f"127.0.0.1:{port}").families == []

    def test_names_the_setting_of_a_port_that_is_taken(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            server = a_server(metrics=an_exposition(port=port))
            with pytest.raises(PortTaken) as refused:
                server.start()
            server.stop()
        assert str(refused.value) == (
            f"cannot listen on 127.0.0.1:{port}: the port is taken by another process;"
            " TOYS_METRICS_PORT chooses another"
        )

    def test_says_why_else_it_cannot_tell_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exposition = an_exposition()
        refusal = PermissionError(13, "Permission denied")
        monkeypatch.setattr(exposition, "start", lambda: (_ for _ in ()).throw(refusal))
        server = a_server(metrics=exposition)
        with pytest.raises(
            CannotListen, match=r"Permission denied; TOYS_METRICS_PORT chooses"
        ) as refused:
            server.start()
        server.stop()
        assert not isinstance(refused.value, PortTaken)

    def test_tells_them_before_it_is_healthy_and_until_the_last_call_is_over(self) -> None:
        exposition = an_exposition()
        asked_at_start: list[Scrape] = []

        def ping() -> None:
            asked_at_start.append(scrape_server(exposition.address))

        closed: list[Scrape] = []
        echo = Echo()
        echo.gate.clear()
        server = a_server(echo, ping=ping, metrics=exposition, drain_seconds=20)
        server.start()
        assert asked_at_start
        with grpc.insecure_channel(server.address) as channel:
            running = get_order(channel).future(order("ord_1"), timeout=20)
            assert eventually(lambda: echo.running._value == 1)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert eventually(lambda: not server._health.is_serving)
            closed.append(scrape_server(exposition.address))
            echo.gate.set()
            assert running.result(timeout=5).order.id == "ord_1"
            stopping.join(10)
        assert closed
        with pytest.raises(URLError):
            scrape_server(exposition.address)


class Storage:
    """Answers, fails or hangs, as the test wants."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def read(self) -> Numbers:
        self.asked += 1
        assert self.answers.wait(20)
        if self.error:
            raise self.error
        return {WAITING: {"car": 2}, TOTAL: {"": 1.5}}


@pytest.fixture
def storage() -> Storage:
    return Storage()


def seen_of(collector: StoredGauges) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


@pytest.mark.requirement("FR-253")
class TestStoredGauges:
    def test_are_those_of_this_moment_with_zeros_for_what_is_not_there(
        self, storage: Storage
    ) -> None:
        gauges = StoredGauges([WAITING, TOTAL], storage.read)
        assert storage.asked == 0
        assert seen_of(gauges) == {
            ("checkout_storage_up",): 1,
            ("toys_waiting", "car"): 2,
            ("toys_waiting", "doll"): 0,
            ("toys_total_weight_grams",): 1.5,
        }

    def test_are_left_out_while_the_database_does_not_answer(self, storage: Storage) -> None:
        gauges = StoredGauges([WAITING, TOTAL], storage.read)
        storage.error = StorageUnavailable()
        assert seen_of(gauges) == {("checkout_storage_up",): 0}
        storage.error = None
        assert len(seen_of(gauges)) == 4

    def test_are_left_out_and_logged_if_they_cannot_be_read(self, storage: Storage) -> None:
        gauges = StoredGauges([WAITING, TOTAL], storage.read)
        storage.error = ZeroDivisionError()
        with capture_logs() as log:
            assert seen_of(gauges) == {("checkout_storage_up",): 0}
        assert [line["event"] for line in log] == ["metrics.unread"]

    def test_are_not_waited_for_long_nor_asked_for_twice(self, storage: Storage) -> None:
        gauges = StoredGauges([WAITING, TOTAL], storage.read, seconds_max=0.05)
        storage.answers.clear()
        for _ in range(3):
            assert seen_of(gauges) == {("checkout_storage_up",): 0}
        assert storage.asked == 1

        storage.answers.set()
        assert eventually(lambda: len(seen_of(gauges)) == 4)
        assert storage.asked >= 2

    def test_are_not_asked_for_when_the_server_is_put_together(self, storage: Storage) -> None:
        registry = CollectorRegistry()
        registry.register(StoredGauges([WAITING, TOTAL], storage.read))
        assert storage.asked == 0


@pytest.mark.requirement("FR-250")
class TestWorkerMetrics:
    def test_count_runs_and_what_they_raised(self) -> None:
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry, ["sweep", "idle"])
        raised = iter(
            [None, StorageUnavailable(), ConcurrentUpdate(attempts=5), ZeroDivisionError()]
        )
        done = threading.Event()

        def run() -> bool:
            error = next(raised, done)
            if error is done:
                done.set()
                return False
            if isinstance(error, Exception):
                raise error
            return True

        workers = Workers([Task("sweep", run, pause_seconds=0.001)], observe=metrics.observe)
        workers.start()
        assert done.wait(20)
        workers.stop(20)

        with told(registry) as exposition:
            seen = scrape_server(exposition.address)
        runs = seen.value("checkout_worker_runs_total", worker="sweep")
        assert runs is not None
        assert runs >= 5
        errors = seen.series("checkout_worker_errors_total")
        assert {tuple(labels.values()): value for labels, value in errors} == {
            ("interrupted", "sweep"): 2,
            ("failed", "sweep"): 1,
            ("interrupted", "idle"): 0,
            ("failed", "idle"): 0,
        }
        assert seen.value("checkout_worker_runs_total", worker="idle") == 0

"""The network fails on each line, in each way, at each byte: money moves once or not at all."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from typing import Final

import pytest

from tests.faults.errands import ERRANDS
from tests.faults.figures import Figures
from tests.faults.lines import CALLERS, SERVICES, Lines, breakable, is_final
from tests.faults.proxy import Effect, Fault, Proxy, Way
from tests.system.checkouts import BOTH, Checkouts

LINES: Final = (CALLERS, SERVICES)
# Of all the places where a call can be cut, so many each time.
CUTS: Final = 10


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> str:
    """Each database."""
    return str(request.param)


@pytest.fixture
def lines(checkouts: Checkouts, database: str, seed: int, figures: Figures) -> Iterator[Lines]:
    """A checkout behind lines that break."""
    with breakable(checkouts, database, seed=seed) as lines:
        yield lines
        lines.check(figures)


@pytest.fixture
def count(figures: Figures, database: str) -> Callable[[int], None]:
    """Counts runs: one order through one fault that struck."""
    return lambda runs: figures.add(f"proxy runs, {database}", runs)


def bytes_of(lines: Lines, line: str, errand: str, way: Way) -> int:
    """Measure how many bytes go that way on this line when nothing is wrong."""
    # The first call of a connection is longer than those that follow.
    lines.send_until_final(ERRANDS[errand](lines))
    request = ERRANDS[errand](lines)
    before = lines.proxies[line].passed[way]
    lines.send_until_final(request)
    return lines.proxies[line].passed[way] - before


def places(lines: Lines, size: int) -> list[int]:
    """Choose where to cut: before anything, before the last byte, after it, and in between."""
    between = lines.random.sample(range(1, size - 1), min(size - 2, CUTS - 3))
    return [0, *between, size - 1, size]


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("errand", ERRANDS)
def test_a_line_that_is_cut_after_any_byte(
    lines: Lines, count: Callable[[int], None], errand: str, line: str, way: Way
) -> None:
    proxy = lines.proxies[line]
    for place in places(lines, bytes_of(lines, line, errand, way)):
        request = ERRANDS[errand](lines)
        proxy.arm(Fault(Effect.CUT, way, after_bytes=place))
        lines.send(request)
        count(proxy.struck.is_set())
        proxy.heal()
        lines.send_until_final(request)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_cut_while_it_is_being_opened(
    lines: Lines, count: Callable[[int], None], line: str
) -> None:
    proxy = lines.proxies[line]
    for errand in ERRANDS.values():
        for way in Way:
            request = errand(lines)
            proxy.end_connections()
            proxy.arm(Fault(Effect.CUT, way, after_bytes=lines.random.randrange(100)))
            lines.send(request)
            count(proxy.struck.is_set())
            proxy.heal()
            lines.send_until_final(request)


class TestEverybodyAtOnce:
    """Each errand once, at the same moment, over a line that has one fault."""

    @pytest.fixture
    def through(
        self, lines: Lines, count: Callable[[int], None], pool: ThreadPoolExecutor, line: str
    ) -> Callable[[Callable[[Proxy], None]], None]:
        """Sends the requests while the line is broken, and again once it is whole."""

        def through(break_: Callable[[Proxy], None]) -> None:
            requests = [errand(lines) for errand in ERRANDS.values()]
            proxy = lines.proxies[line]
            break_(proxy)
            calls = list(pool.map(lines.send, requests))
            assert proxy.struck.is_set()
            count(len(calls))
            proxy.heal()
            list(pool.map(lines.send_until_final, requests))

        return through

    @pytest.mark.parametrize("line", LINES)
    def test_a_line_that_looks_alive_and_is_not(
        self, lines: Lines, through: Callable[[Callable[[Proxy], None]], None]
    ) -> None:
        for way in Way:
            after = lines.random.choice([0, 0, lines.random.randrange(500)])
            through(methodcaller("arm", Fault(Effect.SWALLOW, way, after)))

    @pytest.mark.parametrize("line", LINES)
    def test_a_line_that_is_slow(
        self, lines: Lines, through: Callable[[Callable[[Proxy], None]], None]
    ) -> None:
        for way in Way:
            pause = lines.random.uniform(0.05, 0.3)
            through(methodcaller("arm", slow(way, pause)))

    @pytest.mark.parametrize("line", LINES)
    def test_a_line_that_passes_a_few_bytes_at_a_time(
        self, lines: Lines, through: Callable[[Callable[[Proxy], None]], None]
    ) -> None:
        for way in Way:
            piece = lines.random.randrange(1, 30)
            through(methodcaller("arm", slow(way, 0.002, piece)))

    @pytest.mark.parametrize("line", LINES)
    def test_a_line_that_nobody_answers(
        self, through: Callable[[Callable[[Proxy], None]], None]
    ) -> None:
        def refuse(proxy: Proxy) -> None:
            proxy.refuse()
            proxy.end_connections()

        through(refuse)


def slow(way: Way, pause_seconds: float, piece: int = 65536) -> Fault:
    """Build the fault of a line that is slow."""
    return Fault(Effect.SLOW, way, piece=piece, pause_seconds=pause_seconds)


def test_callers_that_give_up_leave_nothing_undone(
    lines: Lines, count: Callable[[int], None], pool: ThreadPoolExecutor
) -> None:
    """Nobody asks a second time: the workers find out what became of it."""
    proxy = lines.proxies[SERVICES]
    for way in Way:
        for errand in ERRANDS.values():
            for _ in range(2):
                request = errand(lines)
                proxy.arm(Fault(Effect.CUT, way, lines.random.randrange(100)))
                # What the order service sends again does not get through either.
                proxy.refuse()
                call = lines.send(request)
                count(proxy.struck.is_set() and not is_final(call))
                proxy.heal()


def test_a_connection_that_looks_alive_for_ever_is_given_up(
    lines: Lines, count: Callable[[int], None]
) -> None:
    """Nothing tells the order service that its connection is lost; new ones would be fine."""
    requests = [errand(lines) for errand in ERRANDS.values()]
    proxy = lines.proxies[SERVICES]
    proxy.arm(Fault(Effect.SWALLOW, Way.REQUEST))
    calls = [lines.send(request) for request in requests]
    assert proxy.struck.is_set()
    count(len(calls))
    proxy.forget_lost_connections()
    for request in requests:
        lines.send_until_final(request)

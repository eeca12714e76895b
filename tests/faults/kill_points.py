"""Places where a service dies or stops when it is told to, or something else happens to it.

They are put around the product from outside.

A point is named after what is being done and how far it has come: `pay.after_call` is where
PayOrder has the payment service's answer and has not written it down. The product knows nothing of
all this: in a process that is asked to, the methods that every such step goes through are wrapped.
"""

import mmap
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from order_service.gateways.payments import GrpcPayments
from order_service.storage.store import SqlStore as OrderStore
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated_ledger import Books, SimulatedLedger
from payment_service.storage.store import SqlStore as PaymentStore
from service_kit import call
from service_kit.idempotency.memory import NoReplyMemory
from service_kit.idempotency.redis_memory import RedisReplyMemory

# What is being done, by the RPC that is served or the name of the background work.
OPERATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CreateOrder": "create",
        "PayOrder": "pay",
        "MarkOrderPaid": "mark",
        "CancelOrder": "cancel",
        "FulfillOrder": "fulfill",
        "RefundOrder": "refund",
        "ArchiveOrder": "archive",
        "ProcessPayment": "process",
        "RefundPayment": "give_back",
        "SealOrder": "seal",
        "ResolvePayment": "resolve",
        "SettleLeftBehind": "settle",
        "ReadPayments": "feed",
        "ApplyPayments": "inbox",
        "ForgetKeys": "forget",
        "AskAgain": "ask",
    }
)

# What a transaction is for, by the function that runs it.
TRANSACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Once.place": "change",
        "Once.change": "change",
        "PaymentOperations._run": "intent",
        "SettleLeftBehind._take": "take",
        "ReadPayments._keep": "page",
        "ApplyPayments.__call__": "take",
        "ApplyPayments._apply": "apply",
        "ForgetKeys.__call__": "keys",
        "ProcessPayment.__call__": "intent",
        "RefundPayment.__call__": "intent",
        "ResolvePayment.__call__": "find",
        "SealOrder.__call__": "seal",
        "AskAgain._ask_about_payment": "take",
        "AskAgain._ask_about_refund": "take",
        "Settlement.settle": "outcome",
        "Settlement.record_payment": "outcome",
        "Settlement.record_refund": "outcome",
    }
)

_PAYMENT_CALLS: Final = ("charge", "resolve", "seal", "refund", "get", "succeeded_since")
_GATEWAY_CALLS: Final = ("charge", "refund", "find_charge", "find_refund")

_BYTES: Final = 256

# Held while the gateway's books, a file of this process in tests, are open.
_GATEWAY_IS_LEFT: Final = threading.Lock()

# What is done at each point: told its name and the trace that has come so far.
Reach = Callable[[str, str], None]
_Original = tuple[Any, str, Any]


class Orders:
    """The order to die or to stop, in a file that the harness writes and the service looks at.

    Two halves: the order, emptied by whoever obeys, and where the last one has obeyed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(2 * _BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 2 * _BYTES)

    def die_at(self, point: str, *, trace_id: str = "") -> None:
        """Have the service die when it reaches the point, for this trace only if one is given."""
        self._order(signal.SIGKILL, point, trace_id)

    def stop_at(self, point: str, *, trace_id: str = "") -> None:
        """Have the service stop there, in the middle of everything, until it is thawed."""
        self._order(signal.SIGSTOP, point, trace_id)

    @property
    def obeyed_at(self) -> str:
        """Where the service has obeyed; nothing if it has no order or has not got there."""
        return self._read(_BYTES)

    def reach(self, point: str, trace_id: str) -> None:
        """Die or stop here and now, if this is the point."""
        if not self._memory[0]:
            return
        number, _, order = self._read(0).partition(" ")
        ordered, _, ordered_trace_id = order.partition(" ")
        if ordered != point or ordered_trace_id not in {"", trace_id}:
            return
        self._write(0, "")
        # The gateway is somebody else and does not stop with us: nobody may be in its books.
        with _GATEWAY_IS_LEFT:
            self._write(_BYTES, point)
            # To this thread: it does not go a step further, as it might if another one obeyed.
            signal.pthread_kill(threading.get_ident(), int(number))

    def _order(self, number: signal.Signals, point: str, trace_id: str) -> None:
        self._write(_BYTES, "")
        self._write(0, f"{number.value} {point} {trace_id}")

    def _write(self, at: int, text: str) -> None:
        data = text.encode().ljust(_BYTES, b"\0")
        # The first byte says whether there is something: it comes last.
        self._memory[at] = 0
        self._memory[at + 1 : at + _BYTES] = data[1:]
        self._memory[at] = data[0]

    def _read(self, at: int) -> str:
        return self._memory[at : at + _BYTES].rstrip(b"\0").decode()


def install(path: Path) -> None:
    """Put the points around whichever service this process is to be."""
    _put_around(Orders(path).reach)
    _around_books()


@contextmanager
def watched(reach: Reach) -> Iterator[None]:
    """Put the points around the services in this process, for the block."""
    originals = _put_around(reach)
    try:
        yield
    finally:
        for kind, method, original in reversed(originals):
            setattr(kind, method, original)


def _put_around(reach: Reach) -> list[_Original]:
    return [
        *(
            _around_transactions(store, method, reach)
            for store in (OrderStore, PaymentStore)
            for method in ("transact", "change")
        ),
        *(_around(GrpcPayments, method, "call", reach) for method in _PAYMENT_CALLS),
        *(_around(SimulatedGateway, method, "gateway", reach) for method in _GATEWAY_CALLS),
        *(
            _around(memory, "remember", "memory", reach)
            for memory in (NoReplyMemory, RedisReplyMemory)
        ),
    ]


def _around_transactions(kind: Any, method: str, reach: Reach) -> _Original:
    transact = getattr(kind, method)

    @wraps(transact)
    def wrapped(self: Any, work: Callable[[Any], Any]) -> Any:
        # `Settlement.settle.<locals>.<lambda>`: who wrote the work down.
        asker = work.__qualname__.partition(".<locals>")[0]
        step = TRANSACTIONS.get(asker)
        if step is None:
            return transact(self, work)

        def inside(open_work: Any) -> Any:
            result = work(open_work)
            # A worker that found nothing to take is nowhere.
            if step != "take" or result is not None:
                _tell(reach, f"in_{step}", asker)
            return result

        _tell(reach, f"before_{step}", asker)
        result = transact(self, inside)
        if step != "take" or result is not None:
            _tell(reach, f"after_{step}", asker)
        return result

    setattr(kind, method, wrapped)
    return kind, method, transact


def _around(kind: Any, method: str, step: str, reach: Reach) -> _Original:
    original = getattr(kind, method)

    @wraps(original)
    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        _tell(reach, f"before_{step}")
        result = original(self, *arguments, **named)
        _tell(reach, f"after_{step}")
        return result

    setattr(kind, method, wrapped)
    return kind, method, original


def _around_books() -> None:
    transaction = SimulatedLedger.transaction

    @contextmanager
    def wrapped(self: SimulatedLedger) -> Iterator[Books]:
        with _GATEWAY_IS_LEFT, transaction(self) as books:
            yield books

    SimulatedLedger.transaction = wrapped  # type: ignore[method-assign]


def _tell(reach: Reach, moment: str, asker: str = "") -> None:
    try:
        current = call.current()
    except LookupError:
        # Background work that has not begun its call yet, or has ended it.
        name, trace_id = asker.partition(".")[0], ""
    else:
        name, trace_id = current.method.rpartition("/")[2], current.trace.trace_id
    if operation := OPERATIONS.get(name):
        reach(f"{operation}.{moment}", trace_id)

"""A gateway that answers what it is told to, for what the simulated one never does."""

import threading
from collections import deque

from payment_service.application.ports import Answer, Charge, GiveBack, NotFound, Succeeded
from service_kit.database import transaction_is_open


class ScriptedGateway:
    """Answers from a script, in its order; then approves. Remembers what it was asked.

    While `held` is set nothing is answered.
    """

    name = "scripted"
    accepted_tokens = "any token but tok_unknown"

    def __init__(self) -> None:
        self.answers: deque[Answer | NotFound] = deque()
        self.asked: list[tuple[str, str]] = []
        self.timeouts: list[float] = []
        self.asked_inside_a_transaction = False
        self.is_asked = threading.Event()
        self._may_answer = threading.Event()
        self._may_answer.set()

    def hold(self) -> None:
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    def accepts(self, payment_token: str) -> bool:
        return payment_token != "tok_unknown"

    def charge(self, charge: Charge, *, timeout_seconds: float) -> Answer:
        answer = self._answer("charge", charge.key, timeout_seconds)
        assert not isinstance(answer, NotFound)
        return answer

    def refund(self, refund: GiveBack, *, timeout_seconds: float) -> Answer:
        answer = self._answer("refund", refund.key, timeout_seconds)
        assert not isinstance(answer, NotFound)
        return answer

    def find_charge(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        return self._answer("find_charge", key, timeout_seconds)

    def find_refund(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        return self._answer("find_refund", key, timeout_seconds)

    def _answer(self, question: str, key: str, timeout_seconds: float) -> Answer | NotFound:
        self.asked.append((question, key))
        self.timeouts.append(timeout_seconds)
        self.asked_inside_a_transaction |= transaction_is_open()
        answer = self.answers.popleft() if self.answers else Succeeded(f"ref-{key}")
        self.is_asked.set()
        assert self._may_answer.wait(10), "a test forgot to let the gateway go on"
        return answer

"""A gateway that answers what it is told to, for what the simulated one never does."""

import threading
from collections import deque

from payment_service.application.ports import Answer, Charge, GiveBack, NotFound, Succeeded
from service_kit.database import transaction_is_open
from service_kit.ids import new_id


class Held:
    """A question that is answered only when the test says so."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._may_be_answered = threading.Event()

    def wait_until_asked(self) -> None:
        assert self._asked.wait(10), "the gateway was not asked"

    def go_on(self) -> None:
        self._may_be_answered.set()

    def wait(self) -> None:
        self._asked.set()
        assert self._may_be_answered.wait(10), "a test forgot to let the gateway go on"


class ScriptedGateway:
    """Answers from a script, in its order; then approves. Remembers what it was asked."""

    name = "scripted"
    accepted_tokens = "any token but tok_unknown"

    def __init__(self) -> None:
        self.answers: deque[Answer | NotFound] = deque()
        self.asked: list[tuple[str, str]] = []
        self.timeouts: list[float] = []
        self.asked_inside_a_transaction = False
        self._held: deque[Held] = deque()

    def hold_next(self) -> Held:
        """Answer the next question late. Its answer is taken from the script at once."""
        held = Held()
        self._held.append(held)
        return held

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
        if self._held:
            self._held.popleft().wait()
        return answer


def own_references(*answers: Answer) -> list[Answer]:
    """Return the answers with references that no other test's gateway has given."""
    suffix = new_id("-")
    return [Succeeded(a.reference + suffix) if isinstance(a, Succeeded) else a for a in answers]

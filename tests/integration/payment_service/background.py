"""The background work of the payment service over a database of the test's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from payment_service.application.ask_again import AskAgain
from payment_service.application.needs_human import NeedsHuman
from payment_service.application.settle_by_hand import SettleByHand
from payment_service.application.settlement import Settlement
from payment_service.storage.store import SqlStore
from tests.builders import CHAIN_KEY
from tests.integration.payment_service.desk import Desk, running_desk
from tests.integration.payment_service.scripted_gateway import ScriptedGateway
from tests.unit.payment_service.wiring import new_codec

KEY_AGE_MAX = timedelta(hours=12)
ROUNDS_MAX = 50


@dataclass(frozen=True)
class Background:
    """The workers of one process and an operator, run by the test; and the service they help."""

    desk: Desk
    gateway: ScriptedGateway
    again: AskAgain
    needs_human: NeedsHuman
    settle: SettleByHand

    @staticmethod
    def until_nothing_is_left(work: Callable[[], bool]) -> int:
        """Repeat one piece of work as its thread does, and return how often there was some."""
        for done in range(ROUNDS_MAX):
            if not work():
                return done
        raise AssertionError("it does not end")


def background_of(desk: Desk, gateway: ScriptedGateway) -> Background:
    """Put the workers together as the service does; another one stands for another process."""
    store = SqlStore(desk.database, chain_key=CHAIN_KEY)
    settlement = Settlement(
        store=store,
        gateway=gateway,
        replies=new_codec(),
        clock=desk.clock,
        key_age_max=KEY_AGE_MAX,
    )
    return Background(
        desk=desk,
        gateway=gateway,
        again=AskAgain(store=store, settlement=settlement, clock=desk.clock),
        needs_human=NeedsHuman(store=store, clock=desk.clock, key_age_max=KEY_AGE_MAX),
        settle=SettleByHand(store=store, settlement=settlement),
    )


@contextmanager
def running_background(folder: Path, url: str) -> Iterator[Background]:
    """Run the service with a scripted gateway, and its workers when the test says so."""
    gateway = ScriptedGateway()
    with running_desk(folder, url, gateway=gateway, migrate=url.startswith("sqlite")) as desk:
        yield background_of(desk, gateway)

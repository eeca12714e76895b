"""What is unfinished, and for how long, is there to be seen from outside."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

import order_service.metrics
import payment_service.metrics
from tests.builders import new_key
from tests.checkout import Checkout
from tests.client import ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME
from tests.scrape import Scrape
from tests.system.checkouts import BOTH, POSTGRESQL, Checkouts
from tests.system.metrics import by_kind, calls, orders, payments
from tests.system.simultaneously import wait_until
from tests.system.test_health_and_reflection import unreachable
from tests.system.unknown_outcomes import left_pending, outcome_unknown

IN_PROGRESS = "checkout_rpc_calls_in_progress"
IN_FLIGHT = "checkout_payment_operations_in_flight"
IN_FLIGHT_OLDEST = "checkout_payment_operations_oldest_age_seconds"
PENDING = "checkout_gateway_pending"
PENDING_OLDEST = "checkout_gateway_pending_oldest_age_seconds"
NEEDS_HUMAN = "checkout_needs_human"
FEED_LAG = "checkout_payment_feed_lag_seconds"
ERRORS = "checkout_worker_errors_total"


class TestWhatIsUnfinished:
    @pytest.mark.requirement("FR-250", "FR-251", "FR-252")
    def test_is_seen_while_a_slow_charge_is_on_its_way(self, checkouts: Checkouts) -> None:
        with (
            checkouts.running(metrics_port=0, payment_gateway_slow_seconds=4.0) as checkout,
            ThreadPoolExecutor(1) as thread,
        ):
            order = checkout.place()
            paying = thread.submit(checkout.pay, order, "tok_slow")
            wait_until(lambda: payments(checkout).value(PENDING, kind="payment") == 1)

            ours, theirs = orders(checkout), payments(checkout)
            assert ours.value(IN_PROGRESS, method="PayOrder") == 1
            assert ours.value(IN_FLIGHT, kind="charge") == 1
            assert (ours.value(IN_FLIGHT_OLDEST, kind="charge") or 0) > 0
            assert theirs.value(IN_PROGRESS, method="ProcessPayment") == 1
            assert (theirs.value(PENDING_OLDEST, kind="payment") or 0) > 0

            paying.result(20)
            wait_until(lambda: orders(checkout).value(IN_PROGRESS, method="PayOrder") == 0)
            ours, theirs = orders(checkout), payments(checkout)
            assert ours.value(IN_FLIGHT, kind="charge") == 0
            assert ours.value(IN_FLIGHT_OLDEST, kind="charge") == 0
            assert theirs.value(PENDING, kind="payment") == 0

    @pytest.mark.requirement("FR-251", "FR-252")
    def test_ages(self, measured: Checkout) -> None:
        left_pending(measured)
        measured.clock.move(timedelta(minutes=5))
        left_pending(measured)

        ours, theirs = orders(measured), payments(measured)
        assert by_kind(ours, IN_FLIGHT) == {"charge": 2, "cancel": 0, "refund": 0}
        assert by_kind(theirs, PENDING) == {"payment": 2, "refund": 0}
        for oldest in (
            ours.value(IN_FLIGHT_OLDEST, kind="charge"),
            theirs.value(PENDING_OLDEST, kind="payment"),
        ):
            assert oldest is not None
            assert 300 <= oldest < 360
        assert ours.value(IN_FLIGHT_OLDEST, kind="cancel") == 0

    @pytest.mark.requirement("FR-251", "FR-252")
    def test_has_a_kind(self, measured: Checkout) -> None:
        refunding = measured.paid("tok_refundTimeoutAfter")
        outcome_unknown(
            measured,
            "RefundOrder",
            {"idempotency_key": new_key(), "order_id": refunding.id},
        )
        assert by_kind(orders(measured), IN_FLIGHT) == {"charge": 0, "cancel": 0, "refund": 1}
        assert by_kind(payments(measured), PENDING) == {"payment": 0, "refund": 1}

    @pytest.mark.requirement("FR-251", "FR-252")
    def test_needs_a_person_after_half_a_day(self, measured: Checkout) -> None:
        left_pending(measured)
        measured.clock.move(timedelta(hours=11))
        assert not any(by_kind(orders(measured), NEEDS_HUMAN).values())
        assert not any(by_kind(payments(measured), NEEDS_HUMAN).values())

        measured.clock.move(timedelta(hours=2))
        assert by_kind(orders(measured), NEEDS_HUMAN) == {
            "charge": 1,
            "cancel": 0,
            "refund": 0,
            "payment": 0,
        }
        assert by_kind(payments(measured), NEEDS_HUMAN) == {
            "payment": 1,
            "refund": 0,
            "discrepancy": 0,
        }

    @pytest.mark.requirement("FR-251")
    @pytest.mark.parametrize("database", BOTH)
    def test_is_settled_by_workers_and_then_gone(self, checkouts: Checkouts, database: str) -> None:
        with checkouts.running(database, metrics_port=0, background_work=True) as checkout:
            order = checkout.place()
            checkout.process(order)
            wait_until(lambda: checkout.order(order.id).payment_transaction_id != "")
            wait_until(lambda: orders(checkout).value("checkout_payment_inbox_waiting") == 0)
            seen = orders(checkout)
            assert seen.value("checkout_payment_inbox_oldest_age_seconds") == 0
            assert (seen.value("checkout_worker_runs_total", worker="apply-payments") or 0) > 0
            assert not any(value for _, value in seen.series(ERRORS))


@pytest.mark.requirement("FR-251")
class TestFeedLag:
    def test_grows_while_the_payment_service_is_away(self, checkouts: Checkouts) -> None:
        with checkouts.running(metrics_port=0, background_work=True) as checkout:
            checkout.stop_payments()
            first = lag(checkout)
            wait_until(lambda: lag(checkout) > first + 2)
            checkout.start_payments()
            wait_until(lambda: lag(checkout) < 2)

    def test_is_not_told_by_a_process_that_does_not_read(self, checkouts: Checkouts) -> None:
        with checkouts.running(metrics_port=0) as checkout:
            assert FEED_LAG not in orders(checkout).names


def lag(checkout: Checkout) -> float:
    value = orders(checkout).value(FEED_LAG)
    assert value is not None
    return value


@pytest.mark.requirement("FR-253")
class TestADatabaseThatIsGone:
    @pytest.mark.parametrize("service", [ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME])
    def test_leaves_out_what_only_it_knows(self, checkouts: Checkouts, service: str) -> None:
        with checkouts.running(POSTGRESQL, metrics_port=0, background_work=True) as checkout:
            is_orders = service == ORDER_SERVICE_NAME
            tell = orders if is_orders else payments
            settings = checkout.order_settings if is_orders else checkout.payment_settings
            gauges = (order_service if is_orders else payment_service).metrics.STORED_GAUGES
            checkout.paid()
            before = tell(checkout)
            assert before.value("checkout_storage_up") == 1
            with unreachable(settings.database_url):
                wait_until(lambda: tell(checkout).value("checkout_storage_up") == 0)
                wait_until(lambda: interrupted(tell(checkout)) > 0)
                meanwhile = tell(checkout)
                gone = before.names - meanwhile.names
                assert gone == {gauge.name for gauge in gauges}
                assert NEEDS_HUMAN in gone
                assert calls(meanwhile).items() >= calls(before).items()
            wait_until(lambda: tell(checkout).value("checkout_storage_up") == 1)
            assert tell(checkout).names == before.names


def interrupted(scrape: Scrape) -> float:
    return sum(value for labels, value in scrape.series(ERRORS) if labels["kind"] == "interrupted")

"""SQL in a text is a text: it is refused or kept as it is, and never run."""

from functools import partial

import pytest
import sqlalchemy as sa

from service_kit.database import Database
from tests.builders import new_order_item, new_request
from tests.checkout import Checkout
from tests.client import OPERATIONS, SHOP, Caller
from tests.system.every_rpc import permitted_client, rpc_of
from tests.system.simultaneously import outcome_of, reason_of
from tests.system.text_fields import STRING_FIELDS, with_text_at

# Each would end a statement, widen a condition or wait, were it ever part of one.
PAYLOADS = (
    "'; DROP TABLE orders; --",
    "x'; DELETE FROM payments; --",
    "' OR '1'='1",
    '" OR 1=1 --',
    "' UNION SELECT id FROM orders --",
    "1; SELECT pg_sleep(9) --",
    "%' ESCAPE '",
    ":id $1 %s %(id)s ?",
)
NOT_UNDERSTOOD = {"INTERNAL", "STORAGE_UNAVAILABLE", "CONCURRENT_UPDATE", ""}


def contents(database: Database) -> dict[str, int]:
    """Count the rows of every table."""
    with database.engine.connect() as connection:
        return {
            table: connection.execute(
                sa.select(sa.func.count()).select_from(sa.table(table))
            ).scalar_one()
            for table in sa.inspect(connection).get_table_names()
        }


@pytest.mark.requirement("FR-379")
@pytest.mark.parametrize("payload", PAYLOADS)
class TestSqlInAText:
    def test_threat_13_is_never_run_whatever_field_it_is_in(
        self, each_checkout: Checkout, payload: str
    ) -> None:
        checkout = each_checkout
        paid = checkout.paid()
        databases = (checkout.order_database, checkout.payment_database)
        before = [contents(database) for database in databases]

        for contract, path in STRING_FIELDS:
            request = new_request(rpc_of(contract))
            with_text_at(request, path, payload)
            client = permitted_client(checkout, contract)
            outcome = outcome_of(partial(client.answer, rpc_of(contract), request))
            assert reason_of(outcome) not in NOT_UNDERSTOOD, (rpc_of(contract), path)

        assert [contents(database) for database in databases] == before
        assert checkout.order(paid.id) == paid

    def test_threat_13_is_kept_as_it_is_where_any_text_may_stand(
        self, each_checkout: Checkout, payload: str
    ) -> None:
        checkout = each_checkout
        customer = Caller("customer", payload.replace(" ", "_"))
        order = checkout.place(customer, items=[new_order_item(name=payload)])
        assert order.items[0].name == payload
        assert order.customer_id == customer.id

        paid = checkout.pay(order, caller=customer)
        assert checkout.order(order.id) == paid
        assert {entry.actor_id for entry in checkout.history(order.id)} == {customer.id}
        listed = checkout.orders(SHOP).ListOrders(customer_id=customer.id).orders
        assert [each.id for each in listed] == [order.id]
        payments = checkout.payments(OPERATIONS).ListPayments(order_id=order.id).payments
        assert [payment.customer_id for payment in payments] == [customer.id]

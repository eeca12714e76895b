"""The floor of the payment service: ProcessPayment by hand, over the driver, and nothing else.

As in `bench.floor.orders`. The gateway is the services' own simulated one: it stands for somebody
else's, which nobody can make faster.
"""

import argparse
import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.floor.serving import TICKET_KEY, Caller, Connections, entry_values, serve, timestamp
from checkout.money.v1.money_pb2 import Money
from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from payment_service.application.ports import Charge, Succeeded
from payment_service.domain.money import Money as Amount
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated_ledger import SimulatedLedger
from service_kit.clock import SystemClock
from service_kit.ids import new_id

_LEASE: Final = timedelta(seconds=8)
_GATEWAY_SECONDS: Final = 5.0

_REQUEST: Final = """
WITH ordered AS (
    INSERT INTO payment_orders (order_id, audit_count, audit_head)
    VALUES (%(order)s, 1, %(seal)s) ON CONFLICT DO NOTHING RETURNING 1
), requested AS (
    INSERT INTO payments (id, order_id, customer_id, currency_code, amount_minor, refunded_minor,
        status, gateway, payment_token, caller_role, caller, idempotency_key, fingerprint,
        lease_until, created_at, updated_at)
    SELECT %(id)s, %(order)s, %(customer)s, %(currency)s, %(amount)s, 0,
        'pending', 'simulated', %(token)s, %(role)s, %(caller)s, %(key)s, %(fingerprint)s,
        %(lease)s, %(now)s, %(now)s FROM ordered
), acted AS (
    INSERT INTO payment_audit_actors (order_id, position, salt, actor_id, on_behalf_of)
    SELECT %(order)s, 1, %(salt)s, %(caller)s, '' FROM ordered
)
INSERT INTO payment_audit_entries (order_id, payment_id, refund_id, actor_role, at, event_type,
    from_status, to_status, outcome, reason, trace_id, position, actor_reference, seal_version,
    seal)
SELECT %(order)s, %(id)s, '', %(role)s, %(now)s, 'payment_requested', '', 'pending',
    'applied', '', %(trace)s, 1, %(reference)s, 1, %(seal)s FROM ordered
"""

_SETTLE: Final = """
WITH ended AS (
    UPDATE payments SET status = 'succeeded', gateway_reference = %(gateway_reference)s,
        payment_token = NULL, lease_until = NULL, reply = %(reply)s, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'pending' RETURNING 1
), moved AS (
    UPDATE payment_orders SET audit_count = 2, audit_head = %(seal)s FROM ended
    WHERE order_id = %(order)s
), acted AS (
    INSERT INTO payment_audit_actors (order_id, position, salt, actor_id, on_behalf_of)
    SELECT %(order)s, 2, %(salt)s, %(caller)s, '' FROM ended
)
INSERT INTO payment_audit_entries (order_id, payment_id, refund_id, actor_role, at, event_type,
    from_status, to_status, outcome, reason, trace_id, position, actor_reference, seal_version,
    seal)
SELECT %(order)s, %(id)s, '', %(role)s, %(now)s, 'payment_succeeded', 'pending', 'succeeded',
    'applied', '', %(trace)s, 2, %(reference)s, 1, %(seal)s FROM ended
"""


class PostgresPayments:
    """Its two transactions are one statement each."""

    def __init__(self, url: str, gateway: SimulatedGateway) -> None:
        self._connections = Connections(url)
        self._gateway = gateway

    def process(
        self, request: pb.ProcessPaymentRequest, caller: Caller
    ) -> pb.ProcessPaymentResponse:
        """Charge a ticket."""
        connection = self._connections.postgres
        now, ticket = datetime.now(UTC), _read_ticket(request.payment_ticket)
        currency, amount = ticket["currency_code"], ticket["minor_units"]
        content = request.SerializeToString(deterministic=True)
        values = {
            **entry_values(caller),
            "id": new_id("pay_"),
            "order": ticket["order_id"],
            "customer": ticket["customer_id"],
            "currency": currency,
            "amount": amount,
            "token": request.payment_token,
            "role": caller.role,
            "caller": caller.id,
            "key": request.idempotency_key,
            "fingerprint": hashlib.sha256(content).digest(),
            "lease": now + _LEASE,
            "now": now,
        }
        if connection.execute(_REQUEST, values).rowcount != 1:
            raise RuntimeError("the order has a payment")
        charge = Charge(
            key=values["id"],
            order_id=values["order"],
            amount=Amount(currency, amount),
            payment_token=request.payment_token,
        )
        answer = self._gateway.charge(charge, timeout_seconds=_GATEWAY_SECONDS)
        if not isinstance(answer, Succeeded):
            raise TypeError("declined")
        ended = datetime.now(UTC)
        payment = payment_pb2.Payment(
            id=values["id"],
            order_id=values["order"],
            customer_id=values["customer"],
            amount=Money(currency_code=currency, minor_units=amount),
            refunded_amount=Money(currency_code=currency),
            status=payment_pb2.PAYMENT_STATUS_SUCCEEDED,
            gateway="simulated",
            create_time=timestamp(now),
            update_time=timestamp(ended),
        )
        reply = pb.ProcessPaymentResponse(payment=payment)
        values |= {
            **entry_values(caller),
            "now": ended,
            "gateway_reference": answer.reference,
            "reply": reply.SerializeToString(deterministic=True),
        }
        if connection.execute(_SETTLE, values).rowcount != 1:
            raise RuntimeError("the payment has ended")
        return reply


def _read_ticket(ticket: str) -> dict[str, Any]:
    signed, _, seal = ticket.encode().rpartition(b".")
    expected = base64.urlsafe_b64encode(hmac.digest(TICKET_KEY, signed, "sha256"))
    if not hmac.compare_digest(expected.rstrip(b"="), seal):
        raise ValueError("the ticket is not ours")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(signed.partition(b".")[2] + b"=="))
    return claims


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True, help="a PostgreSQL URL")
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    gateway = SimulatedGateway(
        ledger=SimulatedLedger(options.ledger), slow_seconds=0, clock=SystemClock()
    )
    payments = PostgresPayments(options.database, gateway)
    serve(
        "checkout.payment.v1.PaymentService",
        options.port,
        {"ProcessPayment": (pb.ProcessPaymentRequest, payments.process)},
    )


if __name__ == "__main__":
    main()

"""The use cases of the order service over a real database, called as the servicer calls them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from checkout.order.v1 import order_pb2, order_service_pb2
from order_service.application.archive_order import ArchiveOrder
from order_service.application.cancel_order import CancelOrder
from order_service.application.create_order import CreateOrder
from order_service.application.fulfill_order import FulfillOrder
from order_service.application.get_order import GetOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.once import Once
from order_service.application.pay_order import PayOrder
from order_service.application.payment_operations import PaymentOperations
from order_service.application.refund_order import RefundOrder
from order_service.application.settlement import Settlement
from order_service.domain.audit import Actor, AuditEntry
from order_service.domain.order import Order
from order_service.domain.payment_operation import PaymentOperation
from order_service.gateways.tickets import ticket_signer
from order_service.rpc.codec import Codec
from order_service.rpc.servicer import OrderServicer, UseCases
from order_service.storage.store import SqlStore
from order_service.storage.tables import idempotency_keys, payment_operations
from service_kit.database import Database
from service_kit.idempotency.memory import NoReplyMemory, ReplyMemory
from service_kit.idempotency.record import Reply
from service_kit.paging import PageTokens
from service_kit.status import parse
from service_kit.call import serving
from tests.assertions import Refusal, told
from tests.builders import new_key, new_order_items, new_request
from tests.clock import MovableClock
from tests.integration.order_service.scripted_payments import ScriptedPayments
from tests.unit.order_service.builders import ALICE, KEY_OF_TESTS, OLGA, SHOP, new_call

# Who may do it in the tests that do not care.
_BY = {"FulfillOrder": SHOP, "ArchiveOrder": SHOP, "RefundOrder": OLGA}

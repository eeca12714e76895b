"""The order service, put together from top to bottom."""

from datetime import timedelta
from typing import Final

from order_service.application.apply_payments import ApplyPayments
from order_service.application.archive_order import ArchiveOrder
from order_service.application.cancel_order import CancelOrder
from order_service.application.create_order import CreateOrder
from order_service.application.forget_keys import ForgetKeys
from order_service.application.fulfill_order import FulfillOrder
from order_service.application.get_order import GetOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.once import Once
from order_service.application.pay_order import PayOrder
from order_service.application.payment_operations import PaymentOperations
from order_service.application.ports import Payments
from order_service.application.read_payments import ReadPayments
from order_service.application.refund_order import RefundOrder
from order_service.application.settle_left_behind import SettleLeftBehind
from order_service.application.settlement import Settlement
from order_service.application.watch_order_events import HEARTBEAT_SECONDS, WatchOrderEvents
from order_service.config import Settings
from order_service.gateways.payments import GrpcPayments, open_channel
from order_service.gateways.tickets import KEY_PURPOSE, ticket_signer
from order_service.rpc.codec import Codec
from order_service.rpc.errors import ERROR_TABLE
from order_service.rpc.servicer import SERVICE, OrderServicer, UseCases
from order_service.storage.store import SqlStore
from order_service.storage.tables import order_audit_entries
from service_kit.audit_head import AuditHead
from service_kit.clock import Clock, SystemClock
from service_kit.contract.method_contracts import method_contracts
from service_kit.database import Database
from service_kit.idempotency.memory import reply_memory
from service_kit.interceptors.calls import CallInterceptor
from service_kit.paging import PageTokens
from service_kit.secrets import load_secret
from service_kit.server import Server, Service
from service_kit.streams import Streams
from service_kit.workers import Task, Workers

MIGRATIONS: Final = "order_service.storage.migrations"

# How soon a watcher is told of a new entry, and how often the database is asked for one.
_FOLLOW_SECONDS: Final = 0.2


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    payments: Payments | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Server:
    """Build the service over a database that is migrated.

    Raises SecretUnusable, ContractIncomplete, StorageUnavailable.
    """
    clock = clock or SystemClock()
    # Before anything is opened that would have to be closed: an RPC that does not say who may
    # call it ends the start here.
    contracts = method_contracts(SERVICE)
    secret = load_secret(settings)
    database = Database(settings.effective_database_url(), pool_size=settings.database_pool_size)
    store = SqlStore(database, key_retention=timedelta(hours=settings.key_retention_hours))
    memory = reply_memory(
        settings,
        service="order-service",
        instance=store.instance_id,
        mac_key=secret.derive("order-replies"),
    )
    # Of its own, so that a busy pool does not pass for a database that is gone.
    probe = Database(settings.effective_database_url(), pool_size=1)
    closers = [memory.close, database.close, probe.close]

    sign_ticket = ticket_signer(secret.derive(KEY_PURPOSE))
    codec = Codec(sign_ticket=sign_ticket, page_tokens=PageTokens(secret.derive("order-pages")))
    if payments is None:
        channel = open_channel(settings.payment_target)
        closers.insert(0, channel.close)
        payments = GrpcPayments(channel, sign_ticket=sign_ticket)

    settlement = Settlement(store=store, payments=payments, replies=codec, clock=clock)
    once = Once(store=store, memory=memory, replies=codec, settlement=settlement, clock=clock)
    operations = PaymentOperations(
        store=store, payments=payments, settlement=settlement, once=once, clock=clock
    )
    streams = Streams(limit=max(1, settings.threads // 4))
    head = AuditHead(database, order_audit_entries.c.sequence, streams)
    servicer = OrderServicer(
        codec=codec,
        use_cases=UseCases(
            create_order=CreateOrder(once=once, clock=clock),
            get_order=GetOrder(store=store),
            list_orders=ListOrders(store=store),
            pay_order=PayOrder(operations=operations, payments=payments),
            mark_order_paid=MarkOrderPaid(once=once, payments=payments, clock=clock),
            cancel_order=CancelOrder(operations=operations, payments=payments),
            fulfill_order=FulfillOrder(once=once, clock=clock),
            refund_order=RefundOrder(operations=operations, payments=payments),
            archive_order=ArchiveOrder(once=once, clock=clock),
            list_order_audit_entries=ListOrderAuditEntries(store=store),
            watch_order_events=WatchOrderEvents(
                store=store, head=head, heartbeat_seconds=heartbeat_seconds
            ),
        ),
    )
    follow = Task("follow-history", head, pause_seconds=_FOLLOW_SECONDS)
    tasks = [
        Task(
            "settle-left-behind",
            SettleLeftBehind(store=store, payments=payments, settlement=settlement, clock=clock),
            threads=2,
        ),
        Task("read-payments", ReadPayments(store=store, payments=payments, clock=clock)),
        Task("apply-payments", ApplyPayments(store=store, payments=payments, clock=clock)),
        Task("forget-keys", ForgetKeys(store=store, clock=clock), pause_seconds=60),
    ]
    return Server(
        host=settings.host,
        port=settings.port,
        services=[Service(SERVICE, servicer.add_to)],
        interceptors=[
            CallInterceptor(contracts=contracts, error_table=ERROR_TABLE, streams=streams)
        ],
        ping=probe.ping,
        # Watching is no background work: callers wait for it.
        workers=Workers([follow, *(tasks if settings.background_work else [])]),
        streams=streams,
        closers=closers,
        threads=settings.threads,
        drain_seconds=settings.drain_seconds,
        insecure=settings.insecure,
        reflection=settings.reflection,
    )

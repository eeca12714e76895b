"""The order service, put together from top to bottom."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Final

from order_service.application.apply_payments import ApplyPayments
from order_service.application.archive_order import ArchiveOrder
from order_service.application.backlog import Backlog
from order_service.application.cancel_order import CancelOrder
from order_service.application.create_order import CreateOrder
from order_service.application.forget_keys import ForgetKeys
from order_service.application.fulfill_order import FulfillOrder
from order_service.application.get_order import GetOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.needs_human import NeedsHuman
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
from order_service.gateways.credentials import channel_credentials, identification
from order_service.gateways.payments import GrpcPayments, open_channel
from order_service.gateways.tickets import KEY_PURPOSE, ticket_signer
from order_service.metrics import FEED_LAG, STORED_GAUGES, stored_numbers
from order_service.rpc.codec import Codec
from order_service.rpc.errors import ERROR_TABLE
from order_service.rpc.servicer import SERVICE, OrderServicer, UseCases
from order_service.storage.store import SqlStore
from order_service.storage.tables import TRAIL, order_audit_entries
from service_kit.allowances import allowances
from service_kit.audit.chain import ChainKey
from service_kit.audit.mark import require_mark_at
from service_kit.audit_head import AuditHead
from service_kit.clock import Clock, SystemClock
from service_kit.contract.method_contracts import method_contracts
from service_kit.credentials.configured import callers, server_credentials
from service_kit.database import Database
from service_kit.idempotency.memory import reply_memory
from service_kit.interceptors.calls import CallInterceptor
from service_kit.metrics.exposition import exposition
from service_kit.metrics.server_metrics import ServerMetrics
from service_kit.paging import PageTokens
from service_kit.patience import Patience
from service_kit.places import Places
from service_kit.secrets import SecretKey, load_secret
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

    Raises SecretUnusable, FileUnusable, ContractIncomplete, StorageUnavailable.
    """
    clock = clock or SystemClock()
    # Before anything is opened that would have to be closed: an RPC that does not say who may
    # call it ends the start here.
    contracts = method_contracts(SERVICE)
    known_callers, credentials = callers(settings, clock), server_credentials(settings)
    secret = load_secret(settings)
    chain_key = _chain_key(secret)
    require_mark_at(settings.effective_database_url(), chain_key, service=TRAIL.service)
    database = Database(settings.effective_database_url(), pool_size=settings.database_pool_size)
    store = SqlStore(
        database,
        chain_key=chain_key,
        key_retention=timedelta(hours=settings.key_retention_hours),
    )
    memory = reply_memory(
        settings,
        service="order-service",
        instance=store.instance_id,
        mac_key=secret.derive("order-replies"),
    )
    # Of its own, so that a busy pool does not pass for a database that is gone.
    probe = Database(settings.effective_database_url(), pool_size=1)
    # Likewise, so that whoever reads the metrics takes no connection away from the calls.
    gauges = Database(settings.effective_database_url(), pool_size=1)
    closers = [memory.close, database.close, probe.close, gauges.close]

    sign_ticket = ticket_signer(secret.derive(KEY_PURPOSE))
    codec = Codec(sign_ticket=sign_ticket, page_tokens=PageTokens(secret.derive("order-pages")))
    if payments is None:
        channel = open_channel(settings.payment_target, channel_credentials(settings))
        closers.insert(0, channel.close)
        payments = GrpcPayments(channel, sign_ticket=sign_ticket, identify=identification(settings))

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
    read_payments = ReadPayments(store=store, payments=payments, clock=clock)
    tasks = [
        Task(
            "settle-left-behind",
            SettleLeftBehind(store=store, payments=payments, settlement=settlement, clock=clock),
            threads=2,
        ),
        Task("read-payments", read_payments),
        Task(
            "apply-payments",
            ApplyPayments(store=store, payments=payments, clock=clock),
            threads=4,
        ),
        Task("forget-keys", ForgetKeys(store=store, clock=clock), pause_seconds=60),
        # Watchers wait for it.
        Task("follow-history", head, pause_seconds=_FOLLOW_SECONDS, for_callers=True),
    ]
    gauges_store = SqlStore(gauges, chain_key=chain_key)
    metrics = ServerMetrics(
        service="order-service",
        contracts=contracts.values(),
        error_table=ERROR_TABLE,
        workers=[t.name for t in tasks if t.for_callers or settings.background_work],
        gauges=STORED_GAUGES,
        read=stored_numbers(
            Backlog(store=gauges_store, clock=clock), NeedsHuman(store=gauges_store, clock=clock)
        ),
    )
    if settings.background_work:
        metrics.add(*FEED_LAG, read_payments.lag_seconds)
    patience = Patience()
    return Server(
        host=settings.host,
        port=settings.port,
        shared_port=settings.workers > 1,
        services=[Service(SERVICE, servicer.add_to)],
        interceptors=[
            metrics.calls.in_progress,
            CallInterceptor(
                contracts=contracts,
                error_table=ERROR_TABLE,
                callers=known_callers,
                places=Places(settings.threads),
                patience=patience,
                allowances=allowances(settings),
                streams=streams,
                observe=metrics.calls.observe,
            ),
        ],
        ping=probe.ping,
        workers=Workers(
            tasks, switched_on=settings.background_work, observe=metrics.workers.observe
        ),
        streams=streams,
        metrics=exposition(metrics.registry, settings),
        closers=closers,
        threads=settings.threads,
        connections=settings.connections,
        patience=patience,
        drain_seconds=settings.drain_seconds,
        credentials=credentials,
        insecure=settings.insecure,
        reflection=settings.effective_reflection(),
    )


@contextmanager
def needs_human(settings: Settings) -> Iterator[NeedsHuman]:
    """Open what lists the operations and payments that wait for a person.

    Raises SecretUnusable.
    """
    chain_key = _chain_key(load_secret(settings, make=False))
    with closing(Database(settings.effective_database_url(), pool_size=1)) as database:
        yield NeedsHuman(store=SqlStore(database, chain_key=chain_key), clock=SystemClock())


def _chain_key(secret: SecretKey) -> ChainKey:
    return ChainKey.of(TRAIL.service, secret)

"""The payment service, put together from top to bottom."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Final

from payment_service.application.ask_again import AskAgain
from payment_service.application.backlog import Backlog
from payment_service.application.get_payment import GetPayment
from payment_service.application.list_payment_audit_entries import ListPaymentAuditEntries
from payment_service.application.list_payments import ListPayments
from payment_service.application.needs_human import NeedsHuman
from payment_service.application.ports import Gateway
from payment_service.application.process_payment import ProcessPayment
from payment_service.application.refund_payment import RefundPayment
from payment_service.application.resolve_payment import ResolvePayment
from payment_service.application.seal_order import SealOrder
from payment_service.application.settle_by_hand import SettleByHand
from payment_service.application.settlement import Settlement
from payment_service.config import Settings
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated_ledger import SimulatedLedger
from payment_service.gateways.tickets import KEY_PURPOSE, TicketReader
from payment_service.metrics import STORED_GAUGES, stored_numbers
from payment_service.rpc.codec import Codec
from payment_service.rpc.errors import ERROR_TABLE
from payment_service.rpc.servicer import SERVICE, PaymentServicer, UseCases
from payment_service.storage.store import SqlStore
from payment_service.storage.tables import TRAIL
from service_kit.allowances import allowances
from service_kit.audit.chain import ChainKey
from service_kit.audit.mark import require_mark, require_mark_at
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
from service_kit.secrets import SecretKey, load_secret, private_folder
from service_kit.server import Server, Service
from service_kit.workers import Task, Workers

MIGRATIONS: Final = "payment_service.storage.migrations"


def build(
    settings: Settings, *, clock: Clock | None = None, gateway: Gateway | None = None
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
    store = SqlStore(database, chain_key=chain_key)
    memory = reply_memory(
        settings,
        service="payment-service",
        instance=store.instance_id,
        mac_key=secret.derive("payment-replies"),
    )
    # Of its own, so that a busy pool does not pass for a database that is gone.
    probe = Database(settings.effective_database_url(), pool_size=1)
    # Likewise, so that whoever reads the metrics takes no connection away from the calls.
    gauges = Database(settings.effective_database_url(), pool_size=1)
    closers = [memory.close, database.close, probe.close, gauges.close]

    codec = _codec(secret)
    if gateway is None:
        simulated = _simulated_gateway(settings, clock)
        closers.insert(0, simulated.close)
        gateway = simulated

    settlement = Settlement(
        store=store,
        gateway=gateway,
        replies=codec,
        clock=clock,
        key_age_max=_key_age_max(settings),
    )
    servicer = PaymentServicer(
        codec=codec,
        use_cases=UseCases(
            process_payment=ProcessPayment(
                store=store,
                memory=memory,
                gateway=gateway,
                settlement=settlement,
                replies=codec,
                clock=clock,
            ),
            get_payment=GetPayment(store=store),
            list_payments=ListPayments(store=store),
            refund_payment=RefundPayment(
                store=store, memory=memory, settlement=settlement, replies=codec, clock=clock
            ),
            resolve_payment=ResolvePayment(
                store=store, settlement=settlement, replies=codec, clock=clock
            ),
            seal_order=SealOrder(store=store, settlement=settlement, clock=clock),
            list_payment_audit_entries=ListPaymentAuditEntries(store=store),
        ),
    )
    again = AskAgain(store=store, settlement=settlement, clock=clock)
    tasks = [
        Task("ask-about-payments", again.payments, threads=2),
        Task("ask-about-refunds", again.refunds),
    ]
    gauges_store = SqlStore(gauges, chain_key=chain_key)
    metrics = ServerMetrics(
        service="payment-service",
        contracts=contracts.values(),
        error_table=ERROR_TABLE,
        workers=[task.name for task in tasks] if settings.background_work else [],
        gauges=STORED_GAUGES,
        read=stored_numbers(
            Backlog(store=gauges_store, clock=clock),
            NeedsHuman(store=gauges_store, clock=clock, key_age_max=_key_age_max(settings)),
        ),
    )
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
                observe=metrics.calls.observe,
            ),
        ],
        ping=probe.ping,
        workers=Workers(
            tasks, switched_on=settings.background_work, observe=metrics.workers.observe
        ),
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
def needs_human(settings: Settings, *, clock: Clock | None = None) -> Iterator[NeedsHuman]:
    """Open what lists the payments and refunds that wait for a person. Raises SecretUnusable."""
    clock = clock or SystemClock()
    with _store(settings, load_secret(settings, make=False)) as store:
        yield NeedsHuman(store=store, clock=clock, key_age_max=_key_age_max(settings))


@contextmanager
def settle_by_hand(settings: Settings, *, clock: Clock | None = None) -> Iterator[SettleByHand]:
    """Open what ends them on a person's word. Raises SecretUnusable."""
    clock = clock or SystemClock()
    secret = load_secret(settings, make=False)
    codec = _codec(secret)
    with (
        _store(settings, secret) as store,
        closing(_simulated_gateway(settings, clock)) as gateway,
    ):
        settlement = Settlement(
            store=store,
            gateway=gateway,
            replies=codec,
            clock=clock,
            key_age_max=_key_age_max(settings),
        )
        yield SettleByHand(store=store, settlement=settlement)


@contextmanager
def _store(settings: Settings, secret: SecretKey) -> Iterator[SqlStore]:
    with closing(Database(settings.effective_database_url(), pool_size=1)) as database:
        chain_key = _chain_key(secret)
        require_mark(database, chain_key, service=TRAIL.service)
        yield SqlStore(database, chain_key=chain_key)


def _chain_key(secret: SecretKey) -> ChainKey:
    return ChainKey.of(TRAIL.service, secret)


def _codec(secret: SecretKey) -> Codec:
    tickets = TicketReader(secret.derive(KEY_PURPOSE))
    return Codec(read_ticket=tickets.read, page_tokens=PageTokens(secret.derive("payment-pages")))


def _simulated_gateway(settings: Settings, clock: Clock) -> SimulatedGateway:
    ledger_file = settings.effective_gateway_ledger()
    private_folder(ledger_file.parent)
    return SimulatedGateway(
        ledger=SimulatedLedger(ledger_file),
        slow_seconds=settings.gateway_slow_seconds,
        clock=clock,
        key_retention=settings.effective_gateway_key_retention(),
    )


def _key_age_max(settings: Settings) -> timedelta:
    return timedelta(hours=settings.gateway_key_max_age_hours)

"""Runs against real services: right answers and rows count, anything else makes a run void."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.load import Load, Outcome, run
from bench.run import check_rows
from bench.subjects import Subject, Void, check_answers, count_rows
from bench.workloads import (
    SLOW,
    CreateOrder,
    GetOrder,
    ListOrders,
    PayOrder,
    Placed,
    ProcessPayment,
    Rows,
    Workload,
)
from checkout.order.v1 import order_pb2
from tests.checkout import Checkout, running_checkout

CALLS = 4


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    with running_checkout(tmp_path, payment_gateway_slow_seconds=0.05) as checkout:
        yield checkout


@pytest.fixture
def subject(checkout: Checkout) -> Subject:
    return subject_of(checkout)


def subject_of(checkout: Checkout) -> Subject:
    subject = Subject("here")
    subject.address = checkout.order_server.address
    subject.payment_address = checkout.payment_server.address
    subject.databases = {
        "orders": checkout.order_settings.effective_database_url(),
        "payments": checkout.payment_settings.effective_database_url(),
    }
    return subject


def outcome_of(load: Load) -> Outcome:
    return asyncio.run(run(replace(load, concurrency=2), lambda: None))


def rows_of(workload: Workload, subject: Subject) -> Rows:
    return {place: count_rows(subject.databases[place[0]], place[1]) for place in workload.rows}


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(CreateOrder(), id="CreateOrder"),
        pytest.param(GetOrder(), id="GetOrder"),
        pytest.param(ProcessPayment(), id="ProcessPayment"),
        pytest.param(ProcessPayment(SLOW), id="ProcessPayment, slow"),
        pytest.param(PayOrder(), id="PayOrder"),
    ],
)
def test_a_run_counts_if_every_answer_and_row_is_right(
    checkout: Checkout, subject: Subject, workload: Workload
) -> None:
    orders = [checkout.place() for _ in range(CALLS)]
    load = workload.load(subject, [Placed(each.id, each.payment_ticket) for each in orders], CALLS)
    before = rows_of(workload, subject)
    check_answers(load, outcome_of(load))
    check_rows(workload, CALLS, before, rows_of(workload, subject))


def test_a_page_counts_if_it_is_full(checkout: Checkout, subject: Subject) -> None:
    load = ListOrders().load(subject, [], CALLS)
    for _ in range(20):
        checkout.place()
    check_answers(load, outcome_of(load))


def test_a_wrong_answer_makes_a_run_void(subject: Subject) -> None:
    load = CreateOrder().load(subject, [], CALLS)
    load = replace(load, expect={"order.status": order_pb2.ORDER_STATUS_PAID})
    with pytest.raises(Void, match="4 wrong answers"):
        check_answers(load, outcome_of(load))


def test_who_is_told_to_come_back_does_and_is_counted(tmp_path: Path) -> None:
    with running_checkout(tmp_path, backend_rate=2, backend_burst=1) as checkout:
        subject = subject_of(checkout)
        before = rows_of(CreateOrder(), subject)
        load = CreateOrder().load(subject, [], CALLS)
        outcome = outcome_of(load)
        check_answers(load, outcome)
        check_rows(CreateOrder(), CALLS, before, rows_of(CreateOrder(), subject))
    assert set(outcome.came_back) == {"RESOURCE_EXHAUSTED"}


def test_too_much_trouble_makes_a_run_void(subject: Subject) -> None:
    load = CreateOrder().load(subject, [], CALLS)
    outcome = replace(outcome_of(load), came_back={"RESOURCE_EXHAUSTED": 9, "UNAVAILABLE": 1})
    with pytest.raises(Void, match="UNAVAILABLE"):
        check_answers(load, outcome)


def test_a_call_that_was_not_made_makes_a_run_void(subject: Subject) -> None:
    load = CreateOrder().load(subject, [], CALLS)
    outcome = outcome_of(replace(load, bodies=load.bodies[1:]))
    with pytest.raises(Void, match="3 calls"):
        check_answers(load, outcome)


def test_a_missing_row_makes_a_run_void(subject: Subject) -> None:
    workload = CreateOrder()
    before = rows_of(workload, subject)
    outcome_of(workload.load(subject, [], CALLS - 1))
    with pytest.raises(Void, match="4 calls left 3 rows in orders"):
        check_rows(workload, CALLS, before, rows_of(workload, subject))

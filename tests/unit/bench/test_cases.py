"""The cases fit together: a goal that nothing is measured for would never be missed."""

import pytest

from bench.__main__ import _QUICK_CASES
from bench.cases import CASES, CONCURRENCIES, SUBJECTS, Case
from bench.workloads import SLOW
from payment_service.gateways.simulated_tokens import TOKENS, FirstAnswer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestACase:
    def test_has_subjects_that_can_be_started(self, case: Case) -> None:
        assert set(case.subjects) <= set(SUBJECTS)
        assert [SUBJECTS[name]().name for name in case.subjects] == list(case.subjects)

    def test_measures_what_its_goals_are_about(self, case: Case) -> None:
        for goal in case.goals:
            assert {goal.of, goal.against} <= set(case.subjects)
            assert goal.concurrency in case.concurrencies


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert not {"startup", "memory", "growth", "round-trips"} & set(names)


def test_a_quick_look_is_at_cases_that_there_are() -> None:
    assert set(_QUICK_CASES) <= {case.name for case in CASES}


def test_sqlite_is_measured_where_everybody_is_and_at_32() -> None:
    [case] = [case for case in CASES if case.name == "create-order-sqlite"]
    assert {*CONCURRENCIES, 32} == set(case.concurrencies)


def test_the_slow_gateway_is_one_that_answers_late() -> None:
    assert TOKENS[SLOW].charge is FirstAnswer.LATE

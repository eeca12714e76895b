"""What one caller may ask for."""

from contextlib import ExitStack

import pytest

from service_kit.allowances import Allowance, Allowances
from service_kit.call import Principal
from service_kit.errors import RateLimited

ADA = Principal("customer", "ada")
BOB = Principal("customer", "bob")
SHOP = Principal("service", "ada")


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def calls(allowances: Allowances, caller: Principal, number: int) -> int:
    """Make calls one after the other, and count those that were let in."""
    let_in = 0
    for _ in range(number):
        try:
            with allowances.spent(caller):
                let_in += 1
        except RateLimited:
            pass
    return let_in


@pytest.mark.requirement("FR-352")
class TestCallsASecond:
    def test_may_come_at_once_as_far_as_the_burst_goes_and_no_further(self, time: Time) -> None:
        allowances = Allowances({"customer": Allowance(per_second=2, burst=5)}, now=time)
        assert calls(allowances, ADA, 5) == 5
        assert calls(allowances, ADA, 1) == 0

    def test_come_back_with_time_but_never_more_than_the_burst(self, time: Time) -> None:
        allowances = Allowances({"customer": Allowance(per_second=2, burst=5)}, now=time)
        calls(allowances, ADA, 5)
        time.now += 1
        assert calls(allowances, ADA, 5) == 2
        time.now += 3600
        assert calls(allowances, ADA, 10) == 5

    def test_that_are_refused_cost_nothing_and_say_when_to_come_back(self, time: Time) -> None:
        allowances = Allowances({"customer": Allowance(per_second=0.5, burst=1)}, now=time)
        calls(allowances, ADA, 1)
        for _ in range(3):
            with pytest.raises(RateLimited) as refused, allowances.spent(ADA):
                pass
            assert refused.value.retry_seconds == 2
        time.now += 2
        assert calls(allowances, ADA, 1) == 1

    def test_are_each_callers_own(self, time: Time) -> None:
        """The same id in another role is another caller."""
        each = Allowance(per_second=1, burst=1)
        allowances = Allowances({"customer": each, "service": each}, now=time)
        assert [calls(allowances, caller, 2) for caller in (ADA, BOB, SHOP)] == [1, 1, 1]

    def test_are_not_counted_where_nothing_is_said(self, time: Time) -> None:
        allowances = Allowances({"service": Allowance()}, now=time)
        assert calls(allowances, ADA, 100) == calls(allowances, SHOP, 100) == 100

    def test_of_many_callers_take_no_more_memory_than_was_said(self, time: Time) -> None:
        allowances = Allowances(
            {"customer": Allowance(per_second=1, burst=1)}, callers_max=3, now=time
        )
        for number in range(100):
            calls(allowances, Principal("customer", f"cus_{number}"), 1)
        assert len(allowances._accounts) == 3
        assert calls(allowances, Principal("customer", "cus_99"), 1) == 0
        assert calls(allowances, Principal("customer", "cus_0"), 1) == 1


@pytest.mark.requirement("FR-352")
class TestCallsAtATime:
    def test_are_as_many_as_was_said_and_not_one_more(self) -> None:
        allowances = Allowances({"customer": Allowance(at_a_time=2)})
        with ExitStack() as under_way:
            for _ in range(2):
                under_way.enter_context(allowances.spent(ADA))
            assert calls(allowances, ADA, 1) == 0
            assert calls(allowances, BOB, 3) == 3
        assert calls(allowances, ADA, 3) == 3

    def test_are_over_when_they_fail(self) -> None:
        allowances = Allowances({"customer": Allowance(at_a_time=1)})
        with pytest.raises(ZeroDivisionError), allowances.spent(ADA):
            raise ZeroDivisionError
        assert calls(allowances, ADA, 1) == 1

    def test_are_remembered_however_many_others_come(self) -> None:
        allowances = Allowances({"customer": Allowance(at_a_time=1)}, callers_max=2)
        with allowances.spent(ADA):
            for number in range(10):
                calls(allowances, Principal("customer", f"cus_{number}"), 1)
            assert calls(allowances, ADA, 1) == 0

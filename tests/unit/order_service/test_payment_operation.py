"""Operations end once."""

import pytest

from order_service.domain.payment_operation import OperationStatus
from tests.unit.order_service.builders import new_operation

ENDS = [status for status in OperationStatus if status is not OperationStatus.IN_FLIGHT]


class TestPaymentOperation:
    @pytest.mark.parametrize("outcome", ENDS)
    def test_ends_with_its_outcome_and_keeps_everything_else(
        self, outcome: OperationStatus
    ) -> None:
        operation = new_operation()
        ended = operation.ended(outcome)

        assert ended.status is outcome
        assert (ended.id, ended.actor, ended.fingerprint) == (
            operation.id,
            operation.actor,
            operation.fingerprint,
        )

    @pytest.mark.parametrize("outcome", ENDS)
    def test_never_ends_twice(self, outcome: OperationStatus) -> None:
        ended = new_operation().ended(outcome)

        with pytest.raises(ValueError, match=f"is {outcome.value} already"):
            ended.ended(OperationStatus.SUCCEEDED)

"""What no message of the contract can hold."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool, struct_pb2
from google.protobuf.descriptor import FieldDescriptor

from checkout.payment.v1 import payment_pb2
from tests.system.every_rpc import CONTRACTS

# What may hold a message of any type, or any tree of values.
OPEN_ENDED = {"google.protobuf.Any", "google.protobuf.Struct", "google.protobuf.Value"}
# The RPCs that only read may filter by an outcome.
READING = ("Get", "List", "Watch")
MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)


def requests() -> list[Any]:
    """Describe the request of every RPC."""
    pool = descriptor_pool.Default()
    methods = [contract.method.strip("/").replace("/", ".") for contract in CONTRACTS]
    return [pool.FindMethodByName(method).input_type for method in methods]


def within(message: Any) -> Iterator[Any]:
    """Describe the messages that a message's fields may hold."""
    return (field.message_type for field in message.fields if field.type in MESSAGES)


def loops(message: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the ways from a message back into itself."""
    way = (*above, message.full_name)
    if message.full_name in above:
        return [way]
    return [loop for below in within(message) for loop in loops(below, way)]


def told_outcomes(message: Any) -> list[str]:
    """List the fields that tell what became of something: statuses and reasons."""
    own = [field.full_name for field in message.fields if field.enum_type]
    return own + [name for below in within(message) for name in told_outcomes(below)]


def names(message: Any, known: frozenset[str] = frozenset()) -> set[str]:
    """Name a message and all that it may hold."""
    if message.full_name in known:
        return set()
    known |= {message.full_name}
    return {message.full_name}.union(*(names(below, known) for below in within(message)))


@pytest.mark.requirement("FR-379")
class TestARequest:
    @pytest.mark.parametrize("message", requests(), ids=lambda message: message.name)
    def test_threat_21_holds_no_message_of_its_own_kind(self, message: Any) -> None:
        assert loops(message) == []

    @pytest.mark.parametrize("message", requests(), ids=lambda message: message.name)
    def test_threat_21_holds_nothing_of_any_kind(self, message: Any) -> None:
        assert not names(message) & OPEN_ENDED

    @pytest.mark.parametrize("message", requests(), ids=lambda message: message.name)
    def test_threat_20_tells_no_outcome(self, message: Any) -> None:
        """What became of money comes as the gateway's answer, or not at all."""
        if not message.name.startswith(READING):
            assert told_outcomes(message) == []


@pytest.mark.requirement("FR-379")
def test_a_message_that_tells_an_outcome_would_be_found() -> None:
    assert told_outcomes(payment_pb2.Payment.DESCRIPTOR)
    assert told_outcomes(payment_pb2.Refund.DESCRIPTOR)


@pytest.mark.requirement("FR-379")
def test_a_message_that_holds_its_own_kind_would_be_found() -> None:
    value = struct_pb2.Value.DESCRIPTOR
    assert loops(value)
    assert names(value) & OPEN_ENDED == {"google.protobuf.Struct", "google.protobuf.Value"}

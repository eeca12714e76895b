"""Whoever reads only the protos can write a correct client: everything in them is explained."""

import json
import re
from collections import Counter
from pathlib import Path

import grpc
import pytest

from service_kit.contract.descriptors import ROOT_PACKAGE, ContractImage
from service_kit.contract.error_catalogue import ErrorEntry, error_catalogue
from service_kit.contract.limits import Limit, limits
from tests.contract.proto_copy import ERROR_REASON, ORDER, ORDER_SERVICE, ProtoCopy

INSTALLED = ContractImage.installed()
CATALOGUE = error_catalogue(INSTALLED)

# AIP-193: https://google.aip.dev/193
REASON = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")
METADATA_KEY = re.compile(r"[a-z][a-zA-Z0-9-_]+")


class TestEveryElement:
    def test_has_a_comment(self) -> None:
        assert [name for name, comment in INSTALLED.comments.items() if not comment] == []

    def test_is_counted(self) -> None:
        """The law above is about all of them, not about those that were found."""
        parents = [INSTALLED.messages, INSTALLED.enums, INSTALLED.services]
        children = [
            *(field for message in INSTALLED.messages.values() for field in message.field),
            *(value for enum in INSTALLED.enums.values() for value in enum.value),
            *INSTALLED.rpcs,
        ]
        assert len(INSTALLED.comments) == sum(map(len, parents)) + len(children)

    def test_stands_at_the_top_of_its_file(self) -> None:
        """Nested messages and enums have names that are hard to say in some languages."""
        for name, message in INSTALLED.messages.items():
            assert not message.nested_type, name
            assert not message.enum_type, name

    @pytest.mark.parametrize(
        ("file", "old", "new", "rule"),
        [
            pytest.param(ORDER, "// One line of an order.\n", "", "Message", id="message"),
            pytest.param(ORDER, "  // How many.\n", "", "Field", id="field"),
            pytest.param(ORDER, "  // Placed and not paid.\n", "", "Enum value", id="enum value"),
            pytest.param(
                ORDER, "// What can be under way on an order's money.\n", "", "Enum", id="enum"
            ),
            pytest.param(
                ORDER_SERVICE, "  // Reads one order as it stands now.\n", "", "RPC", id="RPC"
            ),
            pytest.param(
                ORDER_SERVICE,
                "refuses with RATE_LIMITED.\n",
                "refuses with RATE_LIMITED.\n\n",
                "Service",
                id="service",
            ),
        ],
    )
    def test_without_a_comment_fails_buf_lint(
        self, tmp_path: Path, file: str, old: str, new: str, rule: str
    ) -> None:
        copy = ProtoCopy(tmp_path)
        assert copy.buf("lint").returncode == 0
        copy.edit(file, old, new)
        linted = copy.buf("lint")
        assert linted.returncode != 0
        assert re.search(
            rf'{file}:\d+:\d+:{rule} ".*" should have a non-empty comment', linted.stdout
        )


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
class TestEveryErrorReason:
    def test_begins_with_its_code(self, entry: ErrorEntry) -> None:
        assert entry.code in grpc.StatusCode.__members__
        assert entry.text

    def test_has_a_worked_example(self, entry: ErrorEntry) -> None:
        example = json.loads(entry.example)
        assert set(example) == {"reason", "domain", "metadata"}
        assert example["reason"] == entry.reason
        assert example["domain"] == ROOT_PACKAGE == "checkout"
        for key, value in example["metadata"].items():
            assert METADATA_KEY.fullmatch(key), key
            assert len(key) <= 64
            assert isinstance(value, str), f"metadata values are strings: {key}"

    def test_has_a_name_of_the_form_that_clients_expect(self, entry: ErrorEntry) -> None:
        assert REASON.fullmatch(entry.reason)
        assert len(entry.reason) <= 63

    def test_is_declared_by_some_rpc(self, entry: ErrorEntry) -> None:
        assert any(entry.reason in c.error_reasons for c in INSTALLED.contracts.values())


class TestTheErrorCatalogue:
    def test_has_every_reason_that_an_rpc_declares(self) -> None:
        for method, contract in INSTALLED.contracts.items():
            assert contract.error_reasons <= CATALOGUE.keys(), method

    def test_leaves_empty_what_a_comment_does_not_say(self, tmp_path: Path) -> None:
        copy = ProtoCopy(tmp_path)
        copy.edit(
            ERROR_REASON,
            "  // NOT_FOUND. There is no such order,",
            "  // Gone.\n  ERROR_REASON_GONE = 99;\n  // NOT_FOUND. There is no such order,",
        )
        entry = error_catalogue(ContractImage.load(copy.image("with.binpb")))["GONE"]
        assert entry == ErrorEntry(reason="GONE", code="", text=("Gone.",), example="")

    def test_keeps_what_follows_the_code_in_the_same_sentence(self) -> None:
        entry = CATALOGUE["ETAG_MISMATCH"]
        assert entry.code == "ABORTED"
        assert entry.text[0].startswith("ABORTED, without RetryInfo. ")


class TestLimits:
    def test_are_read_from_the_comments_whatever_their_line_breaks(self) -> None:
        found = limits(INSTALLED)
        assert found["checkout.order.v1.CreateOrderRequest.idempotency_key"] == Limit(
            required=True, sentences=("1 to 64 characters of A-Z, a-z, 0-9, _ and -",)
        )
        assert found["checkout.order.v1.CreateOrderRequest.items"] == Limit(
            required=True,
            sentences=(
                "The total must be from 1 to 1,000,000,000,000 minor units",
                "1 to 100 items",
            ),
        )
        assert found["checkout.order.v1.NewOrderItem.unit_price"] == Limit(
            required=True, sentences=("`minor_units` from 0 to 10,000,000,000",)
        )
        assert "checkout.order.v1.Order.id" not in found

    def test_are_stated_for_every_field_that_a_client_sends(self) -> None:
        """All but choices, which are limited by their enum."""
        requests = {rpc.input_type.removeprefix(".") for rpc in INSTALLED.rpcs.values()}
        silent = Counter(
            field.name
            for request in requests
            for field in INSTALLED.messages[request].field
            if f"{request}.{field.name}" not in limits(INSTALLED)
        )
        assert silent == {"status": 2}

"""Each kind of change to the contract is seen, named, and refused or let pass."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from checkout.contract.v1 import options_pb2
from checkout.error.v1 import error_reason_pb2
from checkout.order.v1 import order_service_pb2
from checkout.payment.v1 import payment_service_pb2
from service_kit.contract.__main__ import main
from service_kit.contract.descriptors import ContractImage
from service_kit.contract.method_contracts import ContractIncomplete, method_contracts
from tests.contract.proto_copy import (
    ERROR_REASON,
    ORDER,
    ORDER_SERVICE,
    PAYMENT_SERVICE,
    ROOT,
    ProtoCopy,
)

CREATE_ORDER = "/checkout.order.v1.OrderService/CreateOrder"
PAY_ORDER = "/checkout.order.v1.OrderService/PayOrder"
CANCEL_ORDER = "/checkout.order.v1.OrderService/CancelOrder"
SEAL_ORDER = "/checkout.payment.v1.PaymentService/SealOrder"

CREATED_TO_PAID = """
        {
          from: "created"
          to: "paid"
        }"""
CANCELLED_TO_PAID = CREATED_TO_PAID.replace("created", "cancelled")


@pytest.fixture
def copy(tmp_path: Path) -> ProtoCopy:
    return ProtoCopy(tmp_path)


@pytest.fixture
def released(copy: ProtoCopy) -> Path:
    """The image of the contract before the test changes it, where `make contract` looks."""
    (copy.folder / "proto" / "released").mkdir()
    return copy.image("proto/released/v1.binpb", "--exclude-source-info")


Compare = Callable[[], list[str]]
Accepted = Callable[[], bool]


@pytest.fixture
def broken_promises(copy: ProtoCopy, released: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Compare the copy as it is now with the image from before, and return what is reported."""

    def compare() -> list[str]:
        image = copy.image("current.binpb")
        status = main(["check", "--image", str(image), "--against", str(released)])
        said = capsys.readouterr()
        assert (status, bool(said.err)) in {(0, False), (1, True)}
        return said.out.splitlines() if status else []

    return compare


class TestABrokenPromiseIsReportedWithItsRpc:
    def test_a_removed_transition(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(ORDER_SERVICE, "PayOrder", CREATED_TO_PAID, "")
        assert broken_promises() == [f"{PAY_ORDER}: transition created → paid was removed"]

    def test_an_added_transition(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        both = f"{CREATED_TO_PAID},{CANCELLED_TO_PAID}"
        copy.edit_rpc(ORDER_SERVICE, "PayOrder", CREATED_TO_PAID, both)
        assert broken_promises() == [f"{PAY_ORDER}: transition cancelled → paid was added"]

    def test_a_transition_from_elsewhere(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(ORDER_SERVICE, "PayOrder", CREATED_TO_PAID, CANCELLED_TO_PAID)
        assert broken_promises() == [
            f"{PAY_ORDER}: transition created → paid was removed",
            f"{PAY_ORDER}: transition cancelled → paid was added",
        ]

    def test_another_status_for_what_is_new(
        self, copy: ProtoCopy, broken_promises: Compare
    ) -> None:
        copy.edit_rpc(ORDER_SERVICE, "CreateOrder", '{to: "created"}', '{to: "paid"}')
        assert broken_promises() == [
            f"{CREATE_ORDER}: transition nothing → created was removed",
            f"{CREATE_ORDER}: transition nothing → paid was added",
        ]

    def test_a_reason_that_is_newly_possible(
        self, copy: ProtoCopy, broken_promises: Compare
    ) -> None:
        copy.edit_rpc(
            ORDER_SERVICE,
            "PayOrder",
            "ERROR_REASON_PAYMENT_DECLINED,",
            "ERROR_REASON_PAYMENT_DECLINED, ERROR_REASON_REFUND_DECLINED,",
        )
        assert broken_promises() == [f"{PAY_ORDER}: error reason REFUND_DECLINED is newly possible"]

    def test_a_reason_that_is_no_longer_declared(
        self, copy: ProtoCopy, broken_promises: Compare
    ) -> None:
        copy.edit_rpc(ORDER_SERVICE, "PayOrder", "ERROR_REASON_PAYMENT_DECLINED,", "")
        assert broken_promises() == [
            f"{PAY_ORDER}: error reason PAYMENT_DECLINED is no longer declared"
        ]

    def test_a_role_that_may_no_longer_call(
        self, copy: ProtoCopy, broken_promises: Compare
    ) -> None:
        copy.edit_rpc(ORDER_SERVICE, "CancelOrder", "ROLE_CUSTOMER,", "")
        assert broken_promises() == [f"{CANCEL_ORDER}: role customer may no longer call it"]

    def test_idempotency_taken_away(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(ORDER_SERVICE, "PayOrder", "idempotency: IDEMPOTENCY_BY_KEY", "")
        assert broken_promises() == [f"{PAY_ORDER}: idempotency by_key became undeclared"]

    def test_idempotency_of_another_kind(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(PAYMENT_SERVICE, "SealOrder", "IDEMPOTENCY_BY_RESOURCE", "IDEMPOTENCY_BY_KEY")
        assert broken_promises() == [f"{SEAL_ORDER}: idempotency by_resource became by_key"]

    def test_a_removed_rpc(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(PAYMENT_SERVICE, "SealOrder", "rpc SealOrder(", "rpc CloseOrder(")
        assert broken_promises() == [f"{SEAL_ORDER}: the RPC was removed"]

    def test_several_at_once(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        copy.edit_rpc(ORDER_SERVICE, "CancelOrder", "ROLE_CUSTOMER,", "")
        copy.edit_rpc(PAYMENT_SERVICE, "SealOrder", "ERROR_REASON_DEADLINE_TOO_SHORT,", "")
        assert broken_promises() == [
            f"{CANCEL_ORDER}: role customer may no longer call it",
            f"{SEAL_ORDER}: error reason DEADLINE_TOO_SHORT is no longer declared",
        ]

    def test_a_renamed_reason(self, copy: ProtoCopy, broken_promises: Compare) -> None:
        """A number means what its own image says, not what the installed code says."""
        for file in (ERROR_REASON, ORDER_SERVICE):
            copy.edit(file, "ERROR_REASON_PAYMENT_DECLINED", "ERROR_REASON_CHARGE_DECLINED")
        assert broken_promises() == [
            f"{PAY_ORDER}: error reason PAYMENT_DECLINED is no longer declared",
            f"{PAY_ORDER}: error reason CHARGE_DECLINED is newly possible",
        ]


class TestAHarmlessChangeIsAccepted:
    @pytest.fixture
    def accepted(self, copy: ProtoCopy, released: Path, broken_promises: Compare) -> Accepted:
        """Ask both checks, ours and buf's, about the copy as it is now."""
        return lambda: not broken_promises() and breaking(copy, released) == (0, "")

    def test_none_at_all(self, accepted: Accepted) -> None:
        assert accepted()

    def test_a_further_role(self, copy: ProtoCopy, accepted: Accepted) -> None:
        both = "ROLE_CUSTOMER, ROLE_OPERATIONS,"
        copy.edit_rpc(ORDER_SERVICE, "CreateOrder", "ROLE_CUSTOMER,", both)
        assert accepted()

    def test_a_new_rpc(self, copy: ProtoCopy, accepted: Accepted) -> None:
        new = """service OrderService {
          rpc CountOrders(CountOrdersRequest) returns (CountOrdersResponse) {
            option (checkout.contract.v1.contract) = {
              error_reasons: [ERROR_REASON_INTERNAL]
              idempotency: IDEMPOTENCY_READ_ONLY
              roles: [ROLE_OPERATIONS]
            };
          }"""
        copy.edit(ORDER_SERVICE, "service OrderService {", new)
        messages = "message CountOrdersRequest {}\nmessage CountOrdersResponse {}\n"
        copy.edit(ORDER_SERVICE, "// What to order,", f"{messages}// What to order,")
        assert accepted()

    def test_a_new_field(self, copy: ProtoCopy, accepted: Accepted) -> None:
        copy.edit(ORDER, "message OrderItem {", "message OrderItem {\n  string note = 15;")
        assert accepted()

    def test_another_comment(self, copy: ProtoCopy, accepted: Accepted) -> None:
        copy.edit(ORDER, "// How many.", "// How many of them.")
        assert accepted()

    def test_another_order_of_the_same_declarations(
        self, copy: ProtoCopy, accepted: Accepted
    ) -> None:
        roles = "ROLE_CUSTOMER,\n        ROLE_SERVICE"
        swapped = "ROLE_SERVICE,\n        ROLE_CUSTOMER"
        copy.edit_rpc(ORDER_SERVICE, "CreateOrder", roles, swapped)
        assert accepted()


def test_an_rpc_may_become_idempotent(copy: ProtoCopy, capsys: pytest.CaptureFixture[str]) -> None:
    after = copy.image("after.binpb")
    copy.edit_rpc(ORDER_SERVICE, "PayOrder", "idempotency: IDEMPOTENCY_BY_KEY", "")
    before = copy.image("before.binpb")
    assert main(["check", "--image", str(after), "--against", str(before)]) == 0


def breaking(copy: ProtoCopy, released: Path) -> tuple[int, str]:
    """Ask buf, in the words of `make contract`."""
    assert "buf breaking --against $(RELEASED)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    done = copy.buf("breaking", "--against", str(released.relative_to(copy.folder)))
    return done.returncode, done.stdout


class TestBufRefusesWhatBreaksTheWire:
    @pytest.mark.parametrize(
        ("file", "change", "named"),
        [
            pytest.param(
                ORDER,
                ("  int32 quantity = 3;\n", ""),
                'field "3" with name "quantity" on message "OrderItem" was deleted',
                id="field removed",
            ),
            pytest.param(
                ORDER,
                ("int32 quantity = 3;", "string quantity = 3;"),
                'Field "3" with name "quantity" on message "OrderItem" changed type',
                id="type changed",
            ),
            pytest.param(
                PAYMENT_SERVICE,
                ("rpc SealOrder(", "rpc CloseOrder("),
                'RPC "SealOrder" on service "PaymentService" was deleted',
                id="RPC removed",
            ),
            pytest.param(
                ORDER,
                ("ORDER_STATUS_PAID", "ORDER_STATUS_SETTLED"),
                'changed name from "ORDER_STATUS_PAID" to "ORDER_STATUS_SETTLED"',
                id="enum value renamed",
            ),
            pytest.param(
                ORDER_SERVICE,
                ("option idempotency_level = NO_SIDE_EFFECTS;", ""),
                'RPC "GetOrder" on service "OrderService" changed option "idempotency_level"',
                id="idempotency level removed",
            ),
        ],
    )
    def test_by_name(
        self, copy: ProtoCopy, released: Path, file: str, change: tuple[str, str], named: str
    ) -> None:
        copy.edit(file, *change)
        status, said = breaking(copy, released)
        assert status != 0
        assert named in said


class TestTheCommand:
    def test_runs_from_outside_with_a_copy_of_the_image_alone(
        self, copy: ProtoCopy, tmp_path: Path
    ) -> None:
        """A client's own CI has neither buf nor the protos, only the installed packages."""
        outside = tmp_path / "a client's folder"
        outside.mkdir()
        copy.image("kept.binpb", "--exclude-source-info")
        copy.edit_rpc(ORDER_SERVICE, "RefundOrder", "[ROLE_OPERATIONS]", "[ROLE_SERVICE]")
        copy.image("broken.binpb", "--exclude-source-info")

        def checked(image: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "service_kit.contract", "check", "--against", image],
                cwd=outside,
                env={**os.environ, "PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"},
                capture_output=True,
                text=True,
                check=False,
            )

        kept = checked("../kept.binpb")
        assert (kept.returncode, kept.stderr) == (0, "")
        assert kept.stdout == "18 RPCs keep all their promises of ../kept.binpb\n"
        broken = checked("../broken.binpb")
        assert broken.returncode == 1
        assert "OrderService/RefundOrder: role service may no longer call it" in broken.stdout
        assert broken.stderr == "broken promises of ../broken.binpb: 1\n"

    def test_looks_for_the_released_image_by_itself(
        self,
        copy: ProtoCopy,
        released: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(copy.folder)
        assert main(["check"]) == 0
        assert "keep all their promises of proto/released/v1.binpb" in capsys.readouterr().out

    def test_has_nothing_to_compare_with_before_the_first_release(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["check"]) == 0
        assert capsys.readouterr().out.startswith("no contract is released yet")

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "cannot read"),
            (b"not an image", "is not a set of Protobuf descriptors"),
            (b"", "has no service of the package checkout"),
        ],
    )
    def test_says_in_one_line_what_is_wrong_with_an_image(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        content: bytes | None,
        complaint: str,
    ) -> None:
        image = tmp_path / "their.binpb"
        if content is not None:
            image.write_bytes(content)
        assert main(["check", "--against", str(image)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
        assert str(image) in line

    def test_refuses_a_new_rpc_that_promises_nothing(
        self, copy: ProtoCopy, released: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        new = (
            "service OrderService {\n"
            "  rpc CountOrders(GetOrderRequest) returns (GetOrderResponse);\n"
        )
        copy.edit(ORDER_SERVICE, "service OrderService {", new)
        image = copy.image("current.binpb")
        assert main(["check", "--image", str(image), "--against", str(released)]) == 2
        assert capsys.readouterr().err == (
            "check: /checkout.order.v1.OrderService/CountOrders declares no error reasons\n"
        )


@pytest.fixture(scope="module")
def image() -> ContractImage:
    return ContractImage.installed()


class TestTheInstalledContract:
    def test_is_the_one_the_servers_read(self, image: ContractImage) -> None:
        services = (
            order_service_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name,
            payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"].full_name,
        )
        assert set(image.services) == set(services)
        from_servers = {
            method: contract
            for service in services
            for method, contract in method_contracts(service).items()
        }
        assert from_servers == image.contracts

    def test_says_the_same_in_the_standard_idempotency_level(self, image: ContractImage) -> None:
        levels = descriptor_pb2.MethodOptions
        for method, rpc in image.rpcs.items():
            read_only = image.contracts[method].idempotency == "read_only"
            expected = levels.NO_SIDE_EFFECTS if read_only else levels.IDEMPOTENT
            assert rpc.options.idempotency_level == expected, method

    def test_has_a_key_in_the_request_exactly_where_it_is_idempotent_by_key(
        self, image: ContractImage
    ) -> None:
        for method, rpc in image.rpcs.items():
            request = image.messages[rpc.input_type.removeprefix(".")]
            keyed = any(field.name == "idempotency_key" for field in request.field)
            assert keyed == (image.contracts[method].idempotency == "by_key"), method

    def test_changes_nothing_where_it_only_reads(self, image: ContractImage) -> None:
        for method, contract in image.contracts.items():
            if contract.idempotency == "read_only":
                assert not contract.transitions, method
                assert "IDEMPOTENCY_KEY_REUSED" not in contract.error_reasons, method


class TestAnIncompleteRpc:
    @pytest.mark.parametrize(
        ("missing", "field"),
        [
            ("error reasons", "error_reasons"),
            ("idempotency", "idempotency"),
            ("roles", "roles"),
        ],
    )
    def test_is_refused_by_name(self, missing: str, field: str) -> None:
        contract = options_pb2.MethodContract(
            error_reasons=[error_reason_pb2.ERROR_REASON_INTERNAL],
            idempotency=options_pb2.IDEMPOTENCY_BY_KEY,
            roles=[options_pb2.ROLE_SERVICE],
        )
        contract.ClearField(field)  # type: ignore[arg-type]
        service = _add_service(f"Without{field.title().replace('_', '')}", contract)
        with pytest.raises(ContractIncomplete) as refused:
            method_contracts(service)
        assert refused.value.method == f"/{service}/Call"
        assert refused.value.missing == missing
        assert str(refused.value) == f"/{service}/Call declares no {missing}"

    def test_is_one_whose_only_role_is_unspecified(self) -> None:
        contract = options_pb2.MethodContract(
            error_reasons=[error_reason_pb2.ERROR_REASON_INTERNAL],
            idempotency=options_pb2.IDEMPOTENCY_BY_KEY,
            roles=[options_pb2.ROLE_UNSPECIFIED],
        )
        with pytest.raises(ContractIncomplete, match="roles"):
            method_contracts(_add_service("WithRoleUnspecified", contract))

    def test_is_not_a_service_that_nobody_imported(self) -> None:
        with pytest.raises(KeyError):
            method_contracts("checkout.nowhere.v1.NoService")


def _add_service(name: str, contract: options_pb2.MethodContract) -> str:
    """Put a service with one RPC into the default pool, as importing its module would."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"tests/{name}.proto", package=f"tests.{name.lower()}.v1", syntax="proto3"
    )
    file.dependency.append("checkout/contract/v1/options.proto")
    file.message_type.add(name="Empty")
    rpc = file.service.add(name=name).method.add(name="Call")
    rpc.input_type = rpc.output_type = f".{file.package}.Empty"
    rpc.options.Extensions[options_pb2.contract].CopyFrom(contract)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return f"{file.package}.{name}"

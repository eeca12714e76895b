"""What an operator types about the audit trail: verify, export, anonymise."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from checkout.order.v1 import order_pb2
from order_service.__main__ import PROGRAM as ORDERS
from order_service.storage.tables import payment_operations
from order_service.verification.export import PAYMENT_ROWS, PAYMENT_TRAIL
from payment_service.__main__ import PROGRAM as PAYMENTS
from payment_service.storage.export import ROWS
from payment_service.storage.tables import TRAIL
from service_kit.audit.anonymise import anonymise
from tests.builders import money
from tests.checkout import SECRET, Checkout, running_checkout
from tests.system.checkouts import BOTH, Checkouts
from tests.system.planting import Books
from tests.system.trails import TRAILS, audited, with_four_entries

# `run` configures the log of the process; the fixture puts it back.
pytestmark = pytest.mark.usefixtures("log")

PROGRAMS: Final = (ORDERS, PAYMENTS)
EIGHT_YEARS: Final = timedelta(days=8 * 366)
ALL_OF_A_PAYMENT: Final = (
    "DELETE FROM payment_audit_entries WHERE order_id = :id",
    "DELETE FROM payment_audit_actors WHERE order_id = :id",
    "DELETE FROM refunds WHERE order_id = :id",
    "DELETE FROM payments WHERE order_id = :id",
    "DELETE FROM payment_orders WHERE order_id = :id",
)


@dataclass(frozen=True)
class Told:
    """What a command told, and with which exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it wrote to standard output."""
        return self.out.splitlines()


Command = Callable[..., Told]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a program's command."""

    def run(program: Any, *arguments: str) -> Told:
        capsys.readouterr()
        code = program.run(list(arguments))
        told = capsys.readouterr()
        return Told(code, told.out, told.err)

    return run


@pytest.fixture(scope="module")
def checkouts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkouts:
    return Checkouts(
        postgres=lambda: request.getfixturevalue("postgres_server"),
        new_folder=lambda: tmp_path_factory.mktemp("checkout"),
    )


@pytest.fixture(params=BOTH)
def checkout(
    request: pytest.FixtureRequest, checkouts: Checkouts, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Checkout]:
    """A checkout on each database, to which the environment points."""
    with checkouts.running(request.param) as checkout:
        point_to(checkout, monkeypatch)
        yield checkout


def point_to(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of a checkout."""
    orders, payments = checkout.order_settings, checkout.payment_settings
    monkeypatch.setenv("CHECKOUT_DATA_DIR", str(orders.data_dir))
    monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
    monkeypatch.setenv("ORDER_SERVICE_DATABASE_URL", orders.effective_database_url())
    monkeypatch.setenv("PAYMENT_SERVICE_DATABASE_URL", payments.effective_database_url())


class TestVerify:
    @pytest.mark.requirement("FR-337")
    def test_is_content_with_a_sound_trail(self, checkout: Checkout, run: Command) -> None:
        with_four_entries(checkout)
        checkout.place()
        orders, payments = (run(program, "audit", "verify") for program in PROGRAMS)
        assert (orders.code, payments.code) == (0, 0)
        assert orders.out == "order-service: 0 damaged of 2 histories, 5 entries\n"
        assert payments.out == "payment-service: 0 damaged of 1 histories, 4 entries\n"

    @pytest.mark.requirement("FR-332", "FR-337")
    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_names_the_first_damaged_entry_and_fails(
        self, checkout: Checkout, run: Command, number: int
    ) -> None:
        order, sound = with_four_entries(checkout), with_four_entries(checkout)
        trail = audited(checkout, Books(checkout), TRAILS[number])
        trail.alter(order, 3, "reason = 'x'")
        program = PROGRAMS[number]

        told = run(program, "audit", "verify")
        assert told.code == 1
        assert f"{order.id}: entry 3 was changed: " in told.lines[0]
        assert told.lines[1:] == [f"{trail.trail.service}: 1 damaged of 2 histories, 8 entries"]
        as_json = run(program, "audit", "verify", "--json")
        assert as_json.code == 1
        [damage] = json.loads(as_json.out)["damages"]
        assert (damage["subject"], damage["position"]) == (order.id, 3)
        assert run(program, "audit", "verify", "--order", order.id).code == 1
        assert run(program, "audit", "verify", "--order", sound.id).code == 0

    @pytest.mark.requirement("FR-337")
    @pytest.mark.parametrize("program", PROGRAMS, ids=["orders", "payments"])
    @pytest.mark.usefixtures("checkout")
    def test_says_that_there_is_no_such_order(self, run: Command, program: Any) -> None:
        told = run(program, "audit", "verify", "--order", "ord_unknown")
        assert (told.code, told.err) == (1, "there is no order ord_unknown\n")

    @pytest.mark.requirement("FR-337")
    @pytest.mark.parametrize(
        "arguments",
        ["audit verify", "audit heads", "audit export {id}", "audit anonymise", "serve"],
    )
    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_refuses_another_secret_like_all_that_need_it(
        self,
        checkout: Checkout,
        run: Command,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        arguments: str,
    ) -> None:
        order = with_four_entries(checkout)
        monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET[::-1])
        told = run(PROGRAMS[number], *arguments.format(id=order.id).split())
        assert told.code == 1
        assert told.err.startswith("CHECKOUT_SECRET_KEY (or its file) is not the secret that the ")
        assert f"{TRAILS[number].service}'s database is sealed with" in told.err
        monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
        assert run(PROGRAMS[number], "audit", "verify").code == 0

    @pytest.mark.requirement("FR-337")
    def test_refuses_to_end_a_payment_with_another_secret(
        self, checkout: Checkout, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payment = checkout.paid().payment_transaction_id
        monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET[::-1])
        told = run(PAYMENTS, "settle", payment, "--failed")
        assert (told.code, told.err.count("CHECKOUT_SECRET_KEY")) == (1, 1)

    @pytest.mark.requirement("FR-337")
    @pytest.mark.parametrize(
        "change", ["UPDATE instance SET audit_mark = :mark", "DELETE FROM instance"]
    )
    def test_refuses_a_database_that_does_not_say_which_secret_it_is(
        self, checkout: Checkout, run: Command, change: str
    ) -> None:
        Books(checkout).orders(change, **({"mark": bytes(32)} if ":mark" in change else {}))
        told = run(ORDERS, "audit", "verify")
        assert (told.code, told.err.count("CHECKOUT_SECRET_KEY")) == (1, 1)

    @pytest.mark.requirement("FR-337")
    def test_makes_no_secret(
        self, tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHECKOUT_DATA_DIR", str(tmp_path))
        told = run(ORDERS, "audit", "verify", "--file", "some.jsonl")
        assert told.code == 1
        assert told.err.startswith(f"{tmp_path}/secret.key cannot be read")
        assert list(tmp_path.iterdir()) == []


@pytest.fixture
def exported(checkout: Checkout, run: Command, tmp_path: Path) -> "Exported":
    """An order's history, exported over both services."""
    order = with_four_entries(checkout)
    told = run(ORDERS, "audit", "export", order.id)
    assert (told.code, told.err) == (0, "")
    return Exported(order, told.lines, tmp_path / "history.jsonl")


@dataclass(frozen=True)
class Exported:
    """An export, and the file that it, or something else, is written to."""

    order: order_pb2.Order
    lines: list[str]
    path: Path

    def written(self, lines: Sequence[str] | None = None) -> str:
        """Write lines, those of the export if there are no others, and name the file."""
        chosen = self.lines if lines is None else lines
        self.path.write_text("".join(f"{line}\n" for line in chosen))
        return str(self.path)

    def of(self, what: str) -> list[dict[str, Any]]:
        """Read the lines that are this."""
        return [line for line in map(json.loads, self.lines) if line["is"] == what]


@pytest.mark.requirement("FR-338")
class TestExport:
    def test_tells_all_that_both_services_know(self, exported: Exported) -> None:
        order = exported.order
        [told] = (line["row"] for line in exported.of("order"))
        assert (told["id"], told["status"], told["refunded_minor"]) == (order.id, "paid", 1000)
        assert len(exported.of("item")) == len(order.items)
        kinds = [(line["row"]["kind"], line["row"]["status"]) for line in exported.of("operation")]
        assert kinds == [("charge", "succeeded"), ("refund", "succeeded")]
        [payment] = (line["row"] for line in exported.of("payment"))
        assert (payment["id"], payment["status"]) == (order.payment_transaction_id, "succeeded")
        [refund] = (line["row"] for line in exported.of("refund"))
        assert (refund["payment_id"], refund["amount_minor"]) == (payment["id"], 1000)
        facts = [(line["service"], line["facts"]) for line in exported.of("entry")]
        assert [f["event_type"] for s, f in facts if s == "order-service"] == [
            "order_created",
            "order_paid",
            "order_partially_refunded",
            "invalid_transition_attempted",
        ]
        assert [f["outcome"] for s, f in facts if s == "order-service"][-1] == "refused"
        assert len([f for s, f in facts if s == "payment-service"]) == 4
        assert all(len(f["trace_id"]) == 32 for _, f in facts)

    def test_tells_no_token_and_no_caller_but_beside_the_entries(self, exported: Exported) -> None:
        assert "tok_visa" not in "".join(exported.lines)
        rows = [line for line in map(json.loads, exported.lines) if "row" in line]
        assert "olga" not in json.dumps(rows)
        assert {e["actor"]["id"] for e in exported.of("entry")} == {
            "alice",
            "olga",
            "order-service",
        }

    def test_does_not_hold_the_head_that_could_be_put_back(
        self, checkout: Checkout, exported: Exported
    ) -> None:
        trail = audited(checkout, Books(checkout), TRAILS[0])
        head = trail.history(exported.order).head
        assert head is not None
        assert head.seal.hex() not in "".join(exported.lines)

    @pytest.mark.parametrize("program", PROGRAMS, ids=["orders", "payments"])
    def test_is_verified_without_a_database(
        self,
        exported: Exported,
        run: Command,
        program: Any,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        path = exported.written()
        for service in ("ORDER", "PAYMENT"):
            monkeypatch.setenv(f"{service}_SERVICE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
        told = run(program, "audit", "verify", "--file", path)
        assert (told.code, told.err) == (0, "")
        assert told.lines[0].startswith(f"{exported.order.id}, exported at ")
        assert told.lines[0].endswith("the chain does not prove them")
        assert told.lines[1:] == [
            "order-service: 0 damaged of 1 histories, 4 entries",
            "payment-service: 0 damaged of 1 histories, 4 entries",
        ]
        assert not (tmp_path / "none.db").exists()

    def test_may_be_laid_out_anew(self, exported: Exported, run: Command) -> None:
        again = [
            json.dumps(json.loads(line), sort_keys=True, separators=(" ,", ": "))
            for line in exported.lines
        ]
        assert run(ORDERS, "audit", "verify", "--file", exported.written(again)).code == 0

    def test_names_the_line_that_was_changed(self, exported: Exported, run: Command) -> None:
        for number, line in enumerate(exported.lines):
            changed = json.loads(line)
            changed["is"] = "other"
            lines = [*exported.lines]
            lines[number] = json.dumps(changed)
            told = run(ORDERS, "audit", "verify", "--file", exported.written(lines))
            assert told.code == 1
            assert f"line {number + 1}: it was changed" in told.err

    def test_misses_a_line_that_was_taken_out(self, exported: Exported, run: Command) -> None:
        for number in range(len(exported.lines)):
            lines = [*exported.lines[:number], *exported.lines[number + 1 :]]
            told = run(ORDERS, "audit", "verify", "--file", exported.written(lines))
            assert told.code == 1
            assert f"line {number + 1}: " in told.err

    @pytest.mark.parametrize("extra", ["again", "{}", "nothing", "[]", '{"seal": 1}'])
    def test_knows_no_line_that_was_added(
        self, exported: Exported, run: Command, extra: str
    ) -> None:
        line = exported.lines[4] if extra == "again" else extra
        for place in (0, 5, len(exported.lines)):
            lines = [*exported.lines[:place], line, *exported.lines[place:]]
            told = run(ORDERS, "audit", "verify", "--file", exported.written(lines))
            assert told.code == 1
            assert f"line {place + 1}: it " in told.err

    @pytest.mark.parametrize("place", ["line", "facts"])
    def test_tells_nothing_twice(self, exported: Exported, run: Command, place: str) -> None:
        """A reader that takes the first of two would be told what nobody has sealed."""
        number, line = next((n, x) for n, x in enumerate(exported.lines) if '"facts": {' in x)
        added = {
            "line": line.replace("{", '{"actor": {"id": "mallory"}, ', 1),
            "facts": line.replace('"facts": {', '"facts": {"outcome": "applied", ', 1),
        }[place]
        lines = [*exported.lines]
        lines[number] = added
        told = run(ORDERS, "audit", "verify", "--file", exported.written(lines))
        assert told.code == 1
        assert f"line {number + 1}: it is no sealed line" in told.err

    def test_of_another_secret_is_refused(
        self, exported: Exported, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = exported.written()
        monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET[::-1])
        told = run(ORDERS, "audit", "verify", "--file", path)
        assert (told.code, "line 1: " in told.err) == (1, True)

    def test_of_a_file_that_is_not_there_is_an_error(
        self, exported: Exported, run: Command
    ) -> None:
        told = run(ORDERS, "audit", "verify", "--file", str(exported.path))
        assert told.code == 1
        assert told.err.endswith("No such file or directory\n")

    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_of_a_damaged_history_says_so_then_and_later(
        self, checkout: Checkout, exported: Exported, run: Command, number: int
    ) -> None:
        trail = audited(checkout, Books(checkout), TRAILS[number])
        trail.run(
            "DELETE FROM {entries} WHERE order_id = :id AND position = 4", id=exported.order.id
        )
        told = run(ORDERS, "audit", "export", exported.order.id)
        assert told.code == 1
        named = f"{trail.trail.service}: {exported.order.id}: entry 4 was removed"
        assert named in told.err
        later = run(ORDERS, "audit", "verify", "--file", exported.written(told.lines))
        assert later.code == 1
        assert named in later.out

    def test_misses_the_history_of_a_payment(
        self, checkout: Checkout, exported: Exported, run: Command
    ) -> None:
        """Nothing is left of it, and the order tells that there was one."""
        books = Books(checkout)
        for statement in ALL_OF_A_PAYMENT:
            books.payments(statement, id=exported.order.id)
        told = run(ORDERS, "audit", "export", exported.order.id)
        assert told.code == 1
        named = f"payment-service: {exported.order.id}: entry 1 was removed"
        assert named in told.err
        later = run(ORDERS, "audit", "verify", "--file", exported.written(told.lines))
        assert later.code == 1
        assert named in later.out

    def test_misses_no_payment_that_there_never_was(
        self, checkout: Checkout, run: Command, tmp_path: Path
    ) -> None:
        order = checkout.place()
        told = run(ORDERS, "audit", "export", order.id)
        assert (told.code, told.err) == (0, "")
        path = tmp_path / "placed.jsonl"
        path.write_text(told.out)
        later = run(ORDERS, "audit", "verify", "--file", str(path))
        assert later.code == 0
        assert "payment-service: 0 damaged of 0 histories, 0 entries" in later.lines

    def test_of_the_payment_service_tells_its_part(self, exported: Exported, run: Command) -> None:
        told = run(PAYMENTS, "audit", "export", exported.order.id)
        assert told.code == 0
        services = {json.loads(line).get("service", "") for line in told.lines}
        assert services == {"", "payment-service"}
        path = exported.written(told.lines)
        assert run(ORDERS, "audit", "verify", "--file", path).code == 0

    @pytest.mark.parametrize("program", PROGRAMS, ids=["orders", "payments"])
    @pytest.mark.usefixtures("checkout")
    def test_of_an_unknown_order_is_nothing(self, run: Command, program: Any) -> None:
        told = run(program, "audit", "export", "ord_unknown")
        assert (told.code, told.out) == (1, "")
        assert told.err == "there is no order ord_unknown\n"

    @pytest.mark.usefixtures("checkout")
    def test_names_a_database_that_is_not_there(self, run: Command, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/none.db"
        told = run(ORDERS, "audit", "export", "ord_1", "--payment-database", url)
        assert told.code == 1
        assert told.err == f"the payment database {url} does not exist\n"

    def test_of_one_service_knows_the_other_ones_tables(self) -> None:
        """Neither imports the other: what it says of the other's tables is compared here."""
        assert PAYMENT_TRAIL == TRAIL
        assert PAYMENT_ROWS == ROWS


@pytest.mark.requirement("FR-343")
@pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
class TestHeads:
    """What is found by nothing that the database itself holds."""

    def kept(self, run: Command, number: int, tmp_path: Path) -> str:
        told = run(PROGRAMS[number], "audit", "heads")
        assert (told.code, told.err) == (0, "")
        path = tmp_path / "heads.jsonl"
        path.write_text(told.out)
        return str(path)

    def test_that_were_kept_are_still_there_when_all_is_well(
        self, checkout: Checkout, run: Command, number: int, tmp_path: Path
    ) -> None:
        order = checkout.paid()
        path = self.kept(run, number, tmp_path)
        checkout.refund(order)
        checkout.paid()
        told = run(PROGRAMS[number], "audit", "verify", "--heads", path)
        assert (told.code, told.err) == (0, "")
        service, moment = TRAILS[number].service, json.loads(Path(path).read_text().split("\n")[0])
        assert told.lines[0].startswith(f"{service}: compared with 1 heads of {moment['at'][:19]}")
        as_json = json.loads(
            run(PROGRAMS[number], "audit", "verify", "--heads", path, "--json").out
        )
        assert (as_json["heads"], as_json["heads_at"][:19]) == (1, moment["at"][:19])
        later = run(PROGRAMS[number], "audit", "heads", "--since", path)
        assert (later.code, later.err, len(later.lines)) == (0, "", 4)

    def test_are_of_one_database(
        self, checkout: Checkout, run: Command, number: int, tmp_path: Path
    ) -> None:
        """A new one in its place, or that of another installation, has nothing to compare."""
        checkout.paid()
        path = self.kept(run, number, tmp_path)
        books = Books(checkout)
        (books.orders, books.payments)[number]("UPDATE instance SET id = 'db_other'")
        (books.orders, books.payments)[number](
            "UPDATE instance SET audit_mark = :mark",
            mark=audited(checkout, books, TRAILS[number]).key.mark("db_other"),
        )
        told = run(PROGRAMS[number], "audit", "verify", "--heads", path)
        assert told.code == 1
        assert "line 1: it is of another database, db_" in told.err

    def test_find_an_order_that_was_removed_with_all_its_traces(
        self, checkout: Checkout, run: Command, number: int, tmp_path: Path
    ) -> None:
        order, left = with_four_entries(checkout), with_four_entries(checkout)
        path = self.kept(run, number, tmp_path)
        trail = audited(checkout, Books(checkout), TRAILS[number])
        trail.run("DELETE FROM {entries} WHERE order_id = :id", id=order.id)
        trail.run("DELETE FROM {actors} WHERE order_id = :id", id=order.id)
        trail.run("DELETE FROM {heads} WHERE {head_id} = :id", id=order.id)
        assert run(PROGRAMS[number], "audit", "verify").code == 0
        told = run(PROGRAMS[number], "audit", "verify", "--heads", path)
        assert told.code == 1
        named = f"{order.id}: entry 1 was removed: 4 entries were there at "
        assert named in told.out
        assert left.id not in told.out
        # And are not forgotten by writing new ones.
        later = run(PROGRAMS[number], "audit", "heads", "--since", path)
        assert (later.code, later.out) == (1, "")
        assert named in later.err

    def test_find_a_history_that_was_put_back(
        self, checkout: Checkout, run: Command, number: int, tmp_path: Path
    ) -> None:
        """Somebody kept the order's row from before, and cuts the history back to it."""
        order = checkout.refund(checkout.paid(), money(1000))
        trail = audited(checkout, Books(checkout), TRAILS[number])
        before = trail.history(order)
        assert before.head is not None
        checkout.refund(order, money(1000))
        path = self.kept(run, number, tmp_path)
        trail.run(
            "DELETE FROM {entries} WHERE order_id = :id AND position > :count",
            id=order.id,
            count=before.head.count,
        )
        trail.run(
            "DELETE FROM {actors} WHERE order_id = :id AND position > :count",
            id=order.id,
            count=before.head.count,
        )
        trail.run(
            "UPDATE {heads} SET audit_count = :count, audit_head = :seal WHERE {head_id} = :id",
            id=order.id,
            count=before.head.count,
            seal=before.head.seal,
        )
        assert run(PROGRAMS[number], "audit", "verify").code == 0
        told = run(PROGRAMS[number], "audit", "verify", "--heads", path)
        assert told.code == 1
        assert f"{order.id}: entry {before.head.count + 1} was removed" in told.out
        # And went on from there as if nothing had been.
        for _ in range(2):
            checkout.refund(order, money(1))
        told = run(PROGRAMS[number], "audit", "verify", "--heads", path)
        assert told.code == 1
        assert f"{order.id}: entry " in told.out
        assert "was put back or replaced" in told.out

    def test_are_sealed_themselves(
        self, checkout: Checkout, run: Command, number: int, tmp_path: Path
    ) -> None:
        checkout.paid()
        path = Path(self.kept(run, number, tmp_path))
        lines = path.read_text().splitlines()
        other = Path(self.kept(run, 1 - number, tmp_path)).read_text()
        for damaged in (lines[:-1], lines[1:], [*lines[:1], *lines[2:]], [], other.splitlines()):
            path.write_text("".join(f"{line}\n" for line in damaged))
            for arguments in (["verify", "--heads"], ["heads", "--since"]):
                told = run(PROGRAMS[number], "audit", *arguments, str(path))
                assert (told.code, told.out) == (1, "")
                assert told.err.startswith(f"{path}: line ")


@pytest.fixture
def old_and_new(
    checkout: Checkout,
) -> tuple[order_pb2.Order, order_pb2.Order]:
    """An order whose entries are older than the retention, and one of today."""
    checkout.clock.move(-EIGHT_YEARS)
    old = with_four_entries(checkout)
    checkout.clock.move(EIGHT_YEARS)
    return old, with_four_entries(checkout)


@pytest.mark.requirement("FR-339", "FR-340")
class TestAnonymise:
    def test_forgets_who_acted_and_breaks_nothing(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
    ) -> None:
        old, new = old_and_new
        books = Books(checkout)
        trails = [audited(checkout, books, trail) for trail in TRAILS]
        before = [[entry.seal for entry in trail.history(old).entries] for trail in trails]
        for program, trail in zip(PROGRAMS, trails, strict=True):
            told = run(program, "audit", "anonymise")
            assert told.code == 0
            assert told.out.startswith(
                f"{trail.trail.service}: who acted is forgotten in 4 entries from before "
            )
            assert run(program, "audit", "verify").code == 0
            assert run(program, "audit", "anonymise").out.count(" 0 entries ") == 1
        assert before == [[e.seal for e in trail.history(old).entries] for trail in trails]
        for history in (checkout.history, checkout.payment_history):
            forgotten: Any = history(old.id)
            assert all(e.actor_id.startswith("act_") and not e.on_behalf_of for e in forgotten)
            assert len({e.actor_id for e in forgotten}) == 4
            known: Any = history(new.id)
            assert {e.actor_id for e in known} <= {"alice", "olga", "order-service"}

    def test_forgets_who_began_an_operation(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
    ) -> None:
        old, new = old_and_new
        assert run(ORDERS, "audit", "anonymise").code == 0
        columns = payment_operations.c
        query = sa.select(columns.order_id, columns.caller, columns.on_behalf_of)
        rows = checkout.order_database.read(lambda c: c.execute(query).all())
        assert {tuple(row)[1:] for row in rows if row.order_id == old.id} == {("", "")}
        assert {row.caller for row in rows if row.order_id == new.id} == {"alice", "olga"}

    def test_leaves_everything_verified(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
    ) -> None:
        """The guarantees hold without names too."""
        for program in PROGRAMS:
            assert run(program, "audit", "anonymise").code == 0
        ledger = checkout.payment_settings.effective_gateway_ledger()
        told = run(ORDERS, "verify", "--gateway-ledger", str(ledger))
        assert (told.code, told.out.splitlines()[-1]) == (0, "0 violations in 2 orders")
        old, _ = old_and_new
        assert run(ORDERS, "audit", "export", old.id).code == 0

    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_looks_at_so_many_entries_at_a_time(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        monkeypatch: pytest.MonkeyPatch,
        number: int,
    ) -> None:
        """However many of them are anonymous already."""
        monkeypatch.setattr("service_kit.audit.anonymise._PAGE", 3)
        trail = audited(checkout, Books(checkout), TRAILS[number])
        now = checkout.clock.now()
        before = now - EIGHT_YEARS + timedelta(days=1)
        for again, forgotten in enumerate((4, 0)):
            looks: list[str] = []

            def look(_c: Any, _cursor: Any, statement: str, *_: Any, seen: Any = looks) -> None:
                seen += [statement] if statement.startswith("SELECT") else []

            engine = trail.database.engine
            sa.event.listen(engine, "before_cursor_execute", look)
            later = now + timedelta(seconds=again)
            assert (
                anonymise(trail.database, trail.trail, trail.key, before=before, now=later)
                == forgotten
            )
            sa.event.remove(engine, "before_cursor_execute", look)
            # Eight entries are three pages, and then there are no more.
            assert len(looks) == 4

    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_is_no_damage_to_who_verifies_meanwhile(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
    ) -> None:
        trail = audited(checkout, Books(checkout), TRAILS[number])
        read = trail.database.read_at_one_moment

        def read_later(work: Callable[[Any], Any]) -> Any:
            monkeypatch.undo()
            point_to(checkout, monkeypatch)
            assert run(PROGRAMS[number], "audit", "anonymise").code == 0
            return read(work)

        monkeypatch.setattr(trail.database, "read_at_one_moment", read_later)
        found = trail.verify(batch=1)
        assert (found.is_sound, found.histories) == (True, 2)
        assert run(PROGRAMS[number], "audit", "anonymise").out.count(" 0 entries ") == 1

    def test_goes_up_to_the_day_that_it_is_told(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
    ) -> None:
        old, _ = old_and_new
        told = run(ORDERS, "audit", "anonymise", "--before", "2000-01-01")
        assert (told.code, " 0 entries " in told.out) == (0, True)
        assert {e.actor_id for e in checkout.history(old.id)} == {"alice", "olga"}
        day = f"{checkout.clock.now() - EIGHT_YEARS + timedelta(days=1):%Y-%m-%d}"
        assert " 4 entries " in run(ORDERS, "audit", "anonymise", "--before", day).out

    def test_refuses_what_is_to_be_retained(self, checkout: Checkout, run: Command) -> None:
        order = with_four_entries(checkout)
        tomorrow = f"{checkout.clock.now() + timedelta(days=1):%Y-%m-%d}"
        for program in PROGRAMS:
            told = run(program, "audit", "anonymise", "--before", tomorrow)
            assert told.code == 1
            assert "CHECKOUT_AUDIT_RETENTION_YEARS=7" in told.err
        assert {e.actor_id for e in checkout.history(order.id)} == {"alice", "olga"}

    def test_has_a_retention_that_can_be_set(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        old, _ = old_and_new
        monkeypatch.setenv("CHECKOUT_AUDIT_RETENTION_YEARS", "9")
        assert " 0 entries " in run(ORDERS, "audit", "anonymise").out
        assert {e.actor_id for e in checkout.history(old.id)} == {"alice", "olga"}

    def test_cannot_be_made_up(
        self,
        checkout: Checkout,
        old_and_new: tuple[order_pb2.Order, order_pb2.Order],
        run: Command,
    ) -> None:
        old, new = old_and_new
        trail = audited(checkout, Books(checkout), TRAILS[0])
        trail.run(
            "INSERT INTO {notes} (at, acted_before, seal) VALUES (:at, :before, :seal)",
            at=f"{checkout.clock.now():%Y-%m-%d %H:%M:%S.%f}",
            before="2100-01-01 00:00:00.000000",
            seal=bytes(32),
        )
        trail.run("DELETE FROM {actors} WHERE order_id = :id AND position = 1", id=new.id)
        told = run(ORDERS, "audit", "verify")
        assert told.code == 1
        assert f"{new.id}: entry 1 was changed: " in told.out
        assert "1 notes of anonymised entries are forged" in told.out
        assert old.id not in told.out

    @pytest.mark.parametrize("day", ["yesterday", "2019-13-01", ""])
    def test_refuses_what_is_no_day(
        self, day: str, run: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            run(ORDERS, "audit", "anonymise", "--before", day)
        assert ended.value.code == 2
        assert "must be a day" in capsys.readouterr().err


@pytest.mark.requirement("FR-337")
def test_the_embedded_databases_are_found_without_settings(
    tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKOUT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
    with running_checkout(tmp_path) as checkout:
        order = checkout.paid()
    assert [run(program, "audit", "verify").code for program in PROGRAMS] == [0, 0]
    assert run(ORDERS, "audit", "export", order.id).code == 0

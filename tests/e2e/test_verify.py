"""`python -m order_service verify` as a process of its own, beside two that serve."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.processes import ROOT, without_settings
from tests.e2e.real_checkout import RealCheckout, running


class Verify:
    """Runs the command on a folder, and on the databases that the services use."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._environment = {
            **without_settings(os.environ),
            "CHECKOUT_DATA_DIR": str(folder),
            **variables,
        }

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "order_service", "verify", *arguments],
            cwd=ROOT,
            env=self._environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def checkout(folder: Path, database_variables: dict[str, str]) -> Iterator[RealCheckout]:
    """Both processes on each database."""
    with running(folder, database_variables) as checkout:
        yield checkout


@pytest.fixture
def verify(checkout: RealCheckout, database_variables: dict[str, str]) -> Verify:
    return Verify(checkout.folder, database_variables)


@pytest.mark.requirement("FR-246", "FR-249")
class TestVerify:
    def test_finds_nothing_wrong_with_services_that_run(
        self, checkout: RealCheckout, verify: Verify
    ) -> None:
        for _ in range(2):
            order = checkout.place()
            checkout.orders().PayOrder(order_id=order.id, payment_token="tok_visa")
        checkout.orders().CancelOrder(order_id=checkout.place().id)

        done = verify()

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "0 violations in 3 orders\n"

    def test_tells_of_an_order_charged_twice(self, checkout: RealCheckout, verify: Verify) -> None:
        order, other = checkout.place(), checkout.place()
        for each in (order, other):
            checkout.orders().PayOrder(order_id=each.id, payment_token="tok_visa")
        charge_again(checkout.folder / "gateway.db", order.id)

        done = verify()
        assert done.returncode == 1
        *told, last = done.stdout.splitlines()
        assert last == "2 violations in 2 orders"
        for line in told:
            assert line.startswith(f"I1 does not hold: order {order.id}: ")

        done = verify("--json")
        assert done.returncode == 1
        report = json.loads(done.stdout)
        assert (report["orders"], report["ledger"], report["waiting"]) == (2, True, [])
        assert {v["guarantee"] for v in report["violations"]} == {"I1"}
        assert {v["order_id"] for v in report["violations"]} == {order.id}

        assert verify("--order", order.id).returncode == 1
        done = verify("--order", other.id)
        assert (done.returncode, done.stdout) == (0, "0 violations in 1 order\n")

    def test_without_a_ledger_says_so(self, checkout: RealCheckout, verify: Verify) -> None:
        checkout.pair.stop()
        (checkout.folder / "gateway.db").unlink()

        done = verify()
        assert done.returncode == 0
        first, last = done.stdout.splitlines()
        assert "no ledger" in first
        assert last == "0 violations in 0 orders"
        assert json.loads(verify("--json").stdout)["ledger"] is False

    def test_does_not_know_every_order(self, verify: Verify) -> None:
        done = verify("--order", "ord_0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "there is no order ord_0\n"


@pytest.mark.requirement("FR-246")
class TestSources:
    @pytest.fixture
    def verify(self, folder: Path) -> Verify:
        """On a folder where nobody has served."""
        return Verify(folder, {})

    def migrate(self, service: str, folder: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", service, "migrate"],
            cwd=ROOT,
            env={**without_settings(os.environ), "CHECKOUT_DATA_DIR": str(folder)},
            capture_output=True,
            check=True,
            timeout=60,
        )

    def test_that_are_missing_are_named_and_not_made(self, verify: Verify, folder: Path) -> None:
        done = verify()
        assert (done.returncode, done.stdout) == (1, "")
        assert "order.db does not exist" in done.stderr
        assert list(folder.iterdir()) == []

        self.migrate("order_service", folder)
        done = verify()
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "payment.db does not exist" in done.stderr
        assert not (folder / "payment.db").exists()

    def test_that_are_not_migrated_are_named(self, verify: Verify, folder: Path) -> None:
        self.migrate("order_service", folder)
        sqlite3.connect(folder / "payment.db").close()
        # Without a table it is an empty file, and a database all the same.
        (folder / "payment.db").touch()

        done = verify()
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "first run: python -m payment_service migrate" in done.stderr

    def test_are_left_as_they_were(self, verify: Verify, folder: Path) -> None:
        self.migrate("order_service", folder)
        self.migrate("payment_service", folder)
        before = {name: (folder / name).read_bytes() for name in ("order.db", "payment.db")}

        assert verify().returncode == 0
        assert {name: (folder / name).read_bytes() for name in before} == before

    def test_may_be_copies_in_other_places(self, verify: Verify, folder: Path) -> None:
        self.migrate("order_service", folder)
        self.migrate("payment_service", folder)
        copy = folder / "a copy of payments?.db"
        with closing(sqlite3.connect(folder / "payment.db")) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        (folder / "payment.db").unlink()

        done = verify("--payment-database", f"sqlite:///{str(copy).replace('?', '%3F')}")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (["--payment-database", "mysql://sesame@db/shop"], "--payment-database"),
            (["--gateway-ledger", "nowhere.db"], "--gateway-ledger"),
        ],
    )
    def test_that_cannot_be_meant_are_wrong_settings(
        self, verify: Verify, arguments: list[str], name: str
    ) -> None:
        done = verify(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        [_, mistake] = done.stderr.splitlines()
        assert mistake.startswith(f"{name}: ")
        assert "sesame" not in done.stderr

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("PAYMENT_SERVICE_DATABASE_URL", "mysql://db/shop"),
            ("PAYMENT_SERVICE_GATEWAY_LEDGER", "nowhere.db"),
        ],
    )
    def test_are_also_named_by_the_payment_services_variables(
        self, verify: Verify, variable: str, value: str
    ) -> None:
        done = verify(**{variable: value})
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(f"{variable}: ")

    def test_that_do_not_answer_are_named_without_their_password(
        self, verify: Verify, folder: Path
    ) -> None:
        self.migrate("order_service", folder)
        url = "postgresql://shop:sesame@127.0.0.1:1/shop"

        done = verify("--payment-database", url)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1].endswith("does not answer")
        assert "sesame" not in done.stderr

    def test_that_are_something_else_are_named(self, verify: Verify, folder: Path) -> None:
        self.migrate("order_service", folder)
        self.migrate("payment_service", folder)
        other = folder / "order.db"

        done = verify("--gateway-ledger", str(other))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"the ledger {other} cannot be read" in done.stderr


def charge_again(ledger: Path, order_id: str) -> None:
    """Book a second charge, as a gateway would that got it under another key."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(
            "INSERT INTO charges SELECT 'again' || key, 1, 'again' || reference, order_id,"
            " currency_code, amount_minor, decline_code, refund_answer, refund_decline_code, at"
            " FROM charges WHERE order_id = ?",
            (order_id,),
        )

"""docs/metrics.md lists what is told, and nothing else."""

import re
from dataclasses import dataclass

import pytest

import order_service.metrics
import payment_service.metrics
from deploy.processes import ROOT
from tests.scrape import full_name
from tests.system.checkouts import Checkouts
from tests.system.metrics import orders, payments

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")

SERVICES = {
    "order service": (orders, order_service.metrics.STORED_GAUGES),
    "payment service": (payments, payment_service.metrics.STORED_GAUGES),
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    types: frozenset[str]
    labels: frozenset[str]
    of: str


def _split(cell: str) -> frozenset[str]:
    return frozenset(part for part in cell.strip().split(", ") if part)


ROWS = {
    name: Row(types=_split(types), labels=_split(labels), of=of.strip())
    for name, types, labels, of in re.findall(
        r"^\| `(\w+)` \|(.*?)\|(.*?)\|(.*?)\|.+\|$", PAGE, re.MULTILINE
    )
}


def rows_of(service: str) -> dict[str, Row]:
    """The rows of what a service tells."""
    return {name: row for name, row in ROWS.items() if row.of in {"both", service}}


class TestThePage:
    @pytest.mark.requirement("FR-250", "FR-251", "FR-252")
    def test_lists_exactly_what_is_told(self, checkouts: Checkouts) -> None:
        with checkouts.running(metrics_port=0, background_work=True) as checkout:
            for service, (tell, _) in SERVICES.items():
                told, listed = tell(checkout).names, rows_of(service).keys()
                assert told <= listed
                # A process tells of itself on Linux only.
                assert {n for n in listed - told if not n.startswith("process_")} == set()

    def test_says_their_types_and_labels(self, checkouts: Checkouts) -> None:
        with checkouts.running(metrics_port=0, background_work=True) as checkout:
            checkout.paid()
            for tell, _ in SERVICES.values():
                for family in tell(checkout).families:
                    row = ROWS[full_name(family)]
                    assert row.types - {"database"} == {family.type}, family.name
                    labels = {label for sample in family.samples for label in sample.labels}
                    assert row.labels == labels - {"le"}, family.name

    def test_says_which_are_asked_of_the_database(self) -> None:
        for service, (_, gauges) in SERVICES.items():
            of_database = {n for n, row in rows_of(service).items() if "database" in row.types}
            assert of_database == {gauge.name for gauge in gauges}

    def test_alerts_on_nothing_that_is_not_there(self) -> None:
        [_, rules] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        used = {name.removesuffix("_bucket") for name in re.findall(r"\b[a-z]+(?:_\w+)+", rules)}
        assert used - {"histogram_quantile"} <= ROWS.keys()
        assert set(re.findall(r'(?:kind|code)!?="(\w+)"', rules)) == {
            *("discrepancy", "failed", "interrupted", "INTERNAL", "UNAVAILABLE")
        }

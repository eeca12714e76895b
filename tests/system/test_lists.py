"""Pages of orders and payments: newest first, complete, and for nobody but who asked."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from order_service.rpc.limits import PAGE_BYTES_MAX
from tests.assertions import refused
from tests.builders import new_order_item
from tests.checkout import Checkout
from tests.client import BOB, OPERATIONS, SHOP, Caller, Client

pytestmark = pytest.mark.requirement("FR-227", "FR-121")

CAROL, DAVE = Caller("customer", "carol"), Caller("customer", "dave")
KINDS = ["orders", "payments"]


class Listing:
    """One of the two lists: the same laws hold for both."""

    def __init__(self, checkout: Checkout, kind: str) -> None:
        self.checkout = checkout
        self.kind = kind
        self.rpc = {"orders": "ListOrders", "payments": "ListPayments"}[kind]

    def client(self, caller: Caller) -> Client:
        return (
            self.checkout.orders(caller)
            if self.kind == "orders"
            else self.checkout.payments(caller)
        )

    def page(self, caller: Caller, **fields: Any) -> Any:
        return self.client(caller).answer(self.rpc, **fields).message

    def ids(self, page: Any) -> list[str]:
        return [item.id for item in getattr(page, self.kind)]

    def pages(self, caller: Caller, **fields: Any) -> Iterator[list[str]]:
        page = self.page(caller, **fields)
        yield self.ids(page)
        while page.next_page_token:
            page = self.page(caller, page_token=page.next_page_token, **fields)
            yield self.ids(page)

    def add(self, caller: Caller = CAROL) -> str:
        """Add one to the list and return its id."""
        order = self.checkout.place(caller)
        if self.kind == "orders":
            return order.id
        return self.checkout.process(order, caller=caller).id


@pytest.fixture(scope="module")
def carols(each_checkout: Checkout) -> dict[str, list[str]]:
    """What Carol has, oldest first: seven of each."""
    listings = [Listing(each_checkout, kind) for kind in KINDS]
    return {listing.kind: [listing.add() for _ in range(7)] for listing in listings}


@pytest.fixture(params=KINDS)
def listing(request: pytest.FixtureRequest, each_checkout: Checkout) -> Listing:
    """Each of the two lists."""
    return Listing(each_checkout, request.param)


class TestPages:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    def test_are_complete_and_newest_first(
        self, listing: Listing, carols: dict[str, list[str]], size: int
    ) -> None:
        oldest_first = listing.ids(listing.page(CAROL, page_size=100))[::-1]
        assert [i for i in oldest_first if i in carols[listing.kind]] == carols[listing.kind]
        pages = list(listing.pages(CAROL, page_size=size))
        assert [i for page in pages for i in page] == oldest_first[::-1]
        assert all(len(page) == size for page in pages[:-1])
        assert pages[-1]

    def test_of_a_customer_have_only_their_own(
        self, listing: Listing, carols: dict[str, list[str]]
    ) -> None:
        assert listing.ids(listing.page(DAVE)) == []
        own = listing.add(DAVE)
        assert listing.ids(listing.page(DAVE)) == [own]
        assert listing.ids(listing.page(DAVE, customer_id="dave")) == [own]

    @pytest.mark.parametrize("caller", [SHOP, OPERATIONS], ids=lambda caller: caller.role)
    def test_of_others_have_everything_or_one_customers(
        self, listing: Listing, carols: dict[str, list[str]], caller: Caller
    ) -> None:
        bobs = listing.add(BOB)
        everything = [i for page in listing.pages(caller, page_size=100) for i in page]
        assert {bobs, *carols[listing.kind]} <= set(everything)
        assert everything == sorted(everything, reverse=True)
        of_carol = listing.ids(listing.page(caller, customer_id="carol", page_size=100))
        assert bobs not in of_carol
        assert set(carols[listing.kind]) <= set(of_carol)

    def test_miss_nothing_and_repeat_nothing_while_more_comes(
        self, listing: Listing, carols: dict[str, list[str]]
    ) -> None:
        before = listing.ids(listing.page(CAROL, page_size=100))
        seen: list[str] = []
        for page in listing.pages(CAROL, page_size=2):
            seen += page
            listing.add()
        assert seen == before


class TestAPageOfLongOrders:
    def test_can_be_read_by_any_client_and_leaves_nothing_out(self, checkout: Checkout) -> None:
        """A gRPC client reads no message over 4 MB unless it is told to."""
        frank = Caller("customer", "frank")
        items = [new_order_item(sku="s" * 256, name="n" * 256) for _ in range(100)]
        placed = [checkout.place(frank, items=items).id for _ in range(80)]
        listing = Listing(checkout, "orders")
        pages = list(listing.pages(frank, page_size=100))
        assert [i for page in pages for i in page] == placed[::-1]
        assert len(pages) > 1
        first = checkout.orders(frank).answer("ListOrders", page_size=100).message
        longest = max(order.ByteSize() for order in first.orders)
        assert PAGE_BYTES_MAX - longest < first.ByteSize() < PAGE_BYTES_MAX + 1024


class TestFilters:
    def test_orders_by_status(self, each_checkout: Checkout) -> None:
        erin = Caller("customer", "erin")
        created, paid = each_checkout.place(erin), each_checkout.paid(caller=erin)
        cancelled = each_checkout.cancel(each_checkout.place(erin), erin)
        for order in (created, paid, cancelled):
            page = each_checkout.orders(erin).ListOrders(status=order.status)
            assert list(page.orders) == [order]

    def test_payments_by_status_and_order(self, each_checkout: Checkout) -> None:
        frank = Caller("customer", "frank")
        order = each_checkout.place(frank)
        failed = each_checkout.process(order, "tok_chargeDeclined", frank)
        succeeded = each_checkout.process(order, caller=frank)
        voided = each_checkout.process(order, caller=frank)
        other = each_checkout.process(each_checkout.place(frank), caller=frank)
        client = each_checkout.payments(frank)
        for payment in (failed, voided):
            assert list(client.ListPayments(status=payment.status).payments) == [payment]
        of_order = client.ListPayments(order_id=order.id).payments
        assert list(of_order) == [voided, succeeded, failed]
        both = client.ListPayments(
            order_id=order.id, status=payment_pb2.PAYMENT_STATUS_SUCCEEDED
        ).payments
        assert list(both) == [succeeded]
        assert other in client.ListPayments().payments

    def test_an_unknown_status_is_refused(self, listing: Listing) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            listing.page(OPERATIONS, status=99)
        assert list(refusal.violations) == ["status"]


class TestPageSize:
    def test_is_20_unless_said_otherwise(self, listing: Listing) -> None:
        grace = Caller("customer", "grace")
        for _ in range(21):
            listing.add(grace)
        for size in (None, 0):
            page = listing.page(grace, page_size=size)
            assert len(listing.ids(page)) == 20
            assert page.next_page_token
        assert len(listing.ids(listing.page(grace, page_size=100))) == 21

    @pytest.mark.parametrize("size", [-1, 101, -(2**31), 2**31 - 1])
    def test_is_0_to_100(self, listing: Listing, size: int) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            listing.page(OPERATIONS, page_size=size)
        assert list(refusal.violations) == ["page_size"]
        assert "0 to 100" in refusal.violations["page_size"]

    def test_may_change_on_the_way(self, listing: Listing, carols: dict[str, list[str]]) -> None:
        first = listing.page(CAROL, page_size=2)
        rest = listing.page(CAROL, page_size=100, page_token=first.next_page_token)
        everything = listing.ids(listing.page(CAROL, page_size=100))
        assert listing.ids(first) + listing.ids(rest) == everything


class TestAPageToken:
    @pytest.fixture
    def token(self, listing: Listing, carols: dict[str, list[str]]) -> str:
        """Of the first page of what operations sees of Carol."""
        page = listing.page(OPERATIONS, customer_id="carol", page_size=1)
        assert page.next_page_token
        return str(page.next_page_token)

    def expect_refused(self, listing: Listing, caller: Caller, token: str, **fields: Any) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN") as refusal:
            listing.page(caller, page_token=token, **fields)
        assert refusal.metadata == {"field": "page_token"}
        assert list(refusal.violations) == ["page_token"]

    def test_threat_11_tells_nothing_about_the_position(self, listing: Listing, token: str) -> None:
        assert "ord_" not in token
        assert "pay_" not in token

    def test_is_good_for_who_got_it(self, listing: Listing, token: str) -> None:
        page = listing.page(OPERATIONS, customer_id="carol", page_size=1, page_token=token)
        assert len(listing.ids(page)) == 1

    def test_threat_11_is_no_good_for_another_caller(self, listing: Listing, token: str) -> None:
        another = Caller("operations", "oscar")
        same_id = Caller("service", OPERATIONS.id)
        for caller in (another, same_id):
            self.expect_refused(listing, caller, token, customer_id="carol")

    def test_threat_11_is_no_good_with_other_arguments(self, listing: Listing, token: str) -> None:
        status = {
            "orders": order_pb2.ORDER_STATUS_PAID,
            "payments": payment_pb2.PAYMENT_STATUS_FAILED,
        }[listing.kind]
        self.expect_refused(listing, OPERATIONS, token)
        self.expect_refused(listing, OPERATIONS, token, customer_id="bob")
        self.expect_refused(listing, OPERATIONS, token, customer_id="carol", status=status)

    def test_threat_11_is_no_good_for_the_other_list(self, listing: Listing, token: str) -> None:
        other = Listing(listing.checkout, "payments" if listing.kind == "orders" else "orders")
        self.expect_refused(other, OPERATIONS, token, customer_id="carol")

    def test_threat_11_is_no_good_when_it_was_altered(self, listing: Listing, token: str) -> None:
        other = "B" if token.startswith("A") else "A"
        altered = [token[:-1], token + "A", other + token[1:], token.swapcase(), "*", "A" * 1024]
        for wrong in altered:
            self.expect_refused(listing, OPERATIONS, wrong, customer_id="carol")

    def test_threat_11_is_no_good_with_a_character_changed(
        self, listing: Listing, token: str
    ) -> None:
        # The last one has bits that mean nothing.
        for place, character in enumerate(token[:-1]):
            other = "A" if character != "A" else "B"
            changed = token[:place] + other + token[place + 1 :]
            self.expect_refused(listing, OPERATIONS, changed, customer_id="carol")


@pytest.mark.requirement("FR-202")
def test_a_long_order_comes_back_with_all_its_lines_in_order(each_checkout: Checkout) -> None:
    heidi = Caller("customer", "heidi")
    items = [new_order_item(sku=f"SKU-{line:03}") for line in range(100)]
    orders = [each_checkout.place(heidi, items=items), each_checkout.place(heidi, items=items[:1])]
    listed = list(each_checkout.orders(heidi).ListOrders().orders)
    assert listed == orders[::-1]
    assert [item.sku for item in listed[1].items] == [item.sku for item in items]

"""The metrics of both services of a checkout, as a Prometheus reads them."""

from tests.checkout import Checkout
from tests.scrape import Scrape, scrape_server


def orders(checkout: Checkout) -> Scrape:
    """What the order service tells."""
    return scrape_server(checkout.order_server.metrics_address)


def payments(checkout: Checkout) -> Scrape:
    """What the payment service tells."""
    return scrape_server(checkout.payment_server.metrics_address)


def calls(scrape: Scrape) -> dict[str, float]:
    """Calls that were made, by method, code and reason."""
    return {
        " ".join(filter(None, (labels["method"], labels["code"], labels["reason"]))): value
        for labels, value in scrape.series("checkout_rpc_calls_total")
        if value
    }


def by_kind(scrape: Scrape, name: str) -> dict[str, float]:
    """The values of a metric by kind."""
    return {labels["kind"]: value for labels, value in scrape.series(name)}

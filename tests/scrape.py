"""The metrics of a running server, read as a Prometheus reads them."""

from collections.abc import Mapping
from urllib.request import ProxyHandler, build_opener

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

# Loopback is never reached through a proxy.
_opener = build_opener(ProxyHandler({}))


class Scrape:
    """What was read once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: list[Metric] = list(text_string_to_metric_families(text))

    @property
    def names(self) -> set[str]:
        """The names of the metrics, counters as they are queried: with `_total`."""
        return {full_name(family) for family in self.families}

    def series(self, name: str) -> list[tuple[Mapping[str, str], float]]:
        """The series of a name, with their labels."""
        samples = [sample for family in self.families for sample in family.samples]
        return [(sample.labels, sample.value) for sample in samples if sample.name == name]

    def labels(self, name: str) -> Mapping[str, str]:
        """The labels of the one series of a name."""
        [(labels, _)] = self.series(name)
        return labels

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series with exactly these labels; None if there is none."""
        values = [value for has, value in self.series(name) if has == labels]
        return values[0] if values else None


def full_name(family: Metric) -> str:
    """Return the name of a metric as it is queried."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def read(url: str) -> tuple[str, Mapping[str, str]]:
    """Return the body and the headers at a URL. Raises urllib.error.HTTPError."""
    with _opener.open(url, timeout=20) as response:
        return response.read().decode(), dict(response.headers)


def scrape(url: str) -> Scrape:
    """Read the metrics at a URL."""
    return Scrape(read(url)[0])


def scrape_server(address: str) -> Scrape:
    """Read the metrics at host and port."""
    return scrape(f"http://{address}/metrics")

"""Envoy accepts the configuration that users take over, and it says what it has to."""

from collections import Counter
from pathlib import Path

import pytest

from deploy import proxy
from deploy.proxy_demo import all_is_well
from deploy.shoppers import Tally
from service_kit.contract.descriptors import ContractImage

needs_envoy = pytest.mark.skipif(not proxy.is_set_up(), reason="make proxy-demo sets it up")

NUMBERED = {name: 21_000 + number for number, name in enumerate(proxy.PORTS)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration with ports in it."""
    path = tmp_path / "envoy.yaml"
    path.write_text(proxy.configuration(NUMBERED), "utf-8")
    return path


class TestTheConfiguration:
    def test_has_a_place_for_every_port_and_for_nothing_else(self) -> None:
        text = proxy.configuration(NUMBERED)
        assert "${" not in text.partition("\nadmin:")[2]
        assert Counter(str(port) in text for port in NUMBERED.values()) == {True: len(NUMBERED)}
        with pytest.raises(KeyError):
            proxy.configuration({})

    def test_opens_no_port_beyond_loopback(self) -> None:
        lines = [
            line for line in proxy.configuration(NUMBERED).splitlines() if "address: 1" in line
        ]
        assert len(lines) == len(NUMBERED)
        assert all("{address: 127.0.0.1, port_value: " in line for line in lines)

    @needs_envoy
    def test_is_accepted_by_envoy(self, file: Path) -> None:
        answer = proxy.accepts(file)
        assert answer.returncode == 0, answer.stdout

    @needs_envoy
    def test_would_be_refused_if_a_setting_had_no_meaning(self, file: Path) -> None:
        file.write_text(file.read_text("utf-8").replace("num_retries:", "number_of_retries:"))
        assert proxy.accepts(file).returncode != 0


class TestWhatIsSentAgain:
    """The routes send every call again but those of streams: the contract has to allow it."""

    def test_is_executed_once_or_changes_nothing(self) -> None:
        allowed = {
            contract.idempotency for contract in ContractImage.installed().contracts.values()
        }
        assert allowed == {"read_only", "by_key", "by_resource"}

    def test_is_no_stream_that_has_begun(self) -> None:
        text = proxy.configuration(NUMBERED)
        for method, rpc in ContractImage.installed().rpcs.items():
            if rpc.server_streaming:
                route = text.partition(f"match: {{path: {method}, grpc: {{}}}}")[2]
                policy, _, _ = route.partition("- match:")
                assert "timeout: 0s" in policy
                assert "retry_on: connect-failure,refused-stream\n" in policy

    def test_is_sent_to_who_says_that_the_service_is_healthy(self) -> None:
        text = proxy.configuration(NUMBERED)
        for service in ContractImage.installed().services:
            assert f"grpc_health_check: {{service_name: {service}}}" in text


class TestTheDemonstration:
    def test_is_content_with_nothing_less_than_every_checkout_and_one_order_each(self) -> None:
        assert all_is_well(Tally(made=3), "0 violations in 3 orders")

        assert not all_is_well(Tally(made=3), "0 violations in 4 orders")
        assert not all_is_well(Tally(made=3), "1 violations in 3 orders")
        assert not all_is_well(Tally(made=3), "")
        assert not all_is_well(
            Tally(made=3, failed=["PAYMENT_DECLINED"]), "0 violations in 3 orders"
        )
        assert not all_is_well(Tally(), "0 violations in 0 orders")

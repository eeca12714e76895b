"""Envoy accepts the configuration that users take over, and it says what it has to."""

from collections import Counter
from pathlib import Path

import pytest

from deploy import proxy

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

"""The order service's own settings: how it reaches the payment service."""

from pathlib import Path
from typing import Any

import pytest

from deploy.authority import Authority
from order_service.config import Settings
from service_kit.settings import SettingsError, load

ELSEWHERE = "payments.example.org:50052"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credentials")
    authority = Authority()
    own = authority.issue("order-service")
    for name, content in {
        "ca.pem": authority.certificate,
        "own.pem": own.certificate,
        "own.key": own.key,
        "other.key": authority.issue("other").key,
        "token": b"a.b.c\n",
    }.items():
        (folder / name).write_bytes(content)
    return folder


def given(files: Path, *names: str) -> dict[str, Path]:
    every = {"ca": "ca.pem", "cert": "own.pem", "key": "own.key", "token": "token"}
    return {f"payment_{name}_file": files / every[name] for name in names}


def mistakes(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(Settings, **given)
    return list(refused.value.mistakes)


@pytest.mark.requirement("FR-311")
class TestThePaymentService:
    @pytest.mark.parametrize(
        "names",
        [("ca", "cert", "key"), ("ca", "token"), ("ca", "cert", "key", "token")],
        ids=["certificate", "token", "both"],
    )
    def test_may_be_anywhere_over_tls(self, files: Path, names: tuple[str, ...]) -> None:
        settings = load(Settings, payment_target=ELSEWHERE, **given(files, *names))
        assert settings.payment_target == ELSEWHERE

    def test_may_be_on_this_machine_in_plaintext(self, files: Path) -> None:
        for tokens in ({}, given(files, "token")):
            assert load(Settings, **tokens).payment_ca_file is None

    def test_threat_01_is_not_called_elsewhere_in_plaintext(self, files: Path) -> None:
        for tokens in ({}, given(files, "token")):
            [mistake] = mistakes(payment_target=ELSEWHERE, **tokens)
            assert mistake.startswith("ORDER_SERVICE_PAYMENT_TARGET: is beyond loopback")
            assert "set ORDER_SERVICE_PAYMENT_CA_FILE" in mistake
            assert mistakes(payment_target=ELSEWHERE, insecure=True, **tokens) == [mistake]
            load(Settings, payment_target=ELSEWHERE, payment_insecure=True, **tokens)

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (
                ("ca",),
                "ORDER_SERVICE_PAYMENT_CA_FILE: says who the payment service is, but nothing",
            ),
            (("cert", "key"), "ORDER_SERVICE_PAYMENT_CERT_FILE: is shown only over TLS"),
            (
                ("ca", "token", "cert"),
                "ORDER_SERVICE_PAYMENT_CERT_FILE and ORDER_SERVICE_PAYMENT_KEY_FILE: only one",
            ),
            (
                ("ca", "token", "key"),
                "ORDER_SERVICE_PAYMENT_CERT_FILE and ORDER_SERVICE_PAYMENT_KEY_FILE: only one",
            ),
        ],
    )
    def test_must_be_told_who_calls(self, files: Path, names: tuple[str, ...], told: str) -> None:
        [mistake] = mistakes(**given(files, *names))
        assert mistake.startswith(told)

    def test_needs_a_key_that_is_the_certificates(self, files: Path) -> None:
        keys = {**given(files, "ca", "cert"), "payment_key_file": files / "other.key"}
        [mistake] = mistakes(**keys)
        assert mistake.endswith("the key is not the certificate's")

    def test_needs_files_that_can_be_read(self, files: Path) -> None:
        told = mistakes(payment_ca_file=files / "none", payment_token_file=files)
        assert [mistake.partition(":")[0] for mistake in told] == [
            "ORDER_SERVICE_PAYMENT_CA_FILE",
            "ORDER_SERVICE_PAYMENT_TOKEN_FILE",
        ]

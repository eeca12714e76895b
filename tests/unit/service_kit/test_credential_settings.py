"""Settings of credentials: what goes together, what is missing, all told at once."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import SettingsConfigDict

from deploy.authority import Authority, TokenIssuer
from service_kit.settings import ServiceSettings, SettingsError, is_local, load

EVERYWHERE = "0.0.0.0"  # noqa: S104 - to see it refused
URI = "spiffe://checkout/shop"


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")


Given = dict[str, Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, two keys, a CA and a key set."""
    folder = tmp_path_factory.mktemp("credentials")
    authority = Authority()
    shop, other = authority.issue("shop"), authority.issue("other")
    over = authority.issue("shop", ends_in=timedelta(minutes=-1))
    for name, content in {
        "shop.pem": shop.certificate,
        "shop.key": shop.key,
        "other.key": other.key,
        "over.pem": over.certificate,
        "over.key": over.key,
        "ca.pem": authority.certificate,
        "keys.json": TokenIssuer().key_set().encode(),
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def tls(files: Path) -> Given:
    return {"tls_cert_file": files / "shop.pem", "tls_key_file": files / "shop.key"}


@pytest.fixture
def certificates(files: Path) -> Given:
    return {"tls_client_ca_file": files / "ca.pem", "tls_clients": f"{URI}=service:shop"}


@pytest.fixture
def tokens(files: Path) -> Given:
    return {"token_keys_file": files / "keys.json", "token_issuer": "https://issuer.example"}


def mistakes(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(Settings, **given)
    return list(refused.value.mistakes)


@pytest.mark.requirement("FR-301")
class TestBeyondLoopback:
    def test_threat_01_is_not_listened_to_without_credentials(self) -> None:
        for insecure in (False, True):
            [mistake] = mistakes(host=EVERYWHERE, insecure=insecure)
            assert mistake.startswith("SHOP_HOST: ")
            # What to do.
            for variable in ("TLS_CERT_FILE", "TLS_KEY_FILE", "TOKEN_KEYS_FILE"):
                assert f"SHOP_{variable}" in mistake
            assert "SHOP_TLS_CLIENT_CA_FILE" in mistake

    def test_threat_01_takes_no_tokens_in_plaintext(self, tokens: Given) -> None:
        [mistake] = mistakes(host=EVERYWHERE, **tokens)
        assert mistake.startswith("SHOP_HOST: ")
        assert "or --insecure (SHOP_INSECURE=true) where something else encrypts" in mistake

    def test_takes_tokens_where_something_else_encrypts(self, tokens: Given) -> None:
        assert load(Settings, host=EVERYWHERE, insecure=True, **tokens).host == EVERYWHERE

    def test_takes_certificates(self, tls: Given, certificates: Given) -> None:
        assert load(Settings, host=EVERYWHERE, **tls, **certificates).host == EVERYWHERE

    def test_takes_tokens_over_tls(self, tls: Given, tokens: Given) -> None:
        assert load(Settings, host=EVERYWHERE, **tls, **tokens).host == EVERYWHERE

    def test_takes_both(self, tls: Given, certificates: Given, tokens: Given) -> None:
        edge = {"tls_clients": f"{URI}=token"}
        given = {**tls, **certificates, **tokens, **edge}
        assert load(Settings, host=EVERYWHERE, **given).host == EVERYWHERE


def without(given: Given, *names: str) -> Given:
    return {name: value for name, value in given.items() if name not in names}


INCOMPLETE: dict[str, tuple[Callable[[Given], Given], str]] = {
    "a certificate without its key": (
        lambda all_: without(all_, "tls_key_file"),
        "SHOP_TLS_CERT_FILE and SHOP_TLS_KEY_FILE: only one is set",
    ),
    "a key without its certificate": (
        lambda all_: without(all_, "tls_cert_file"),
        "SHOP_TLS_CERT_FILE and SHOP_TLS_KEY_FILE: only one is set",
    ),
    "a key of another certificate": (
        lambda all_: {**all_, "tls_key_file": all_["tls_key_file"].with_name("other.key")},
        "SHOP_TLS_CERT_FILE and SHOP_TLS_KEY_FILE: the key is not the certificate's",
    ),
    "a certificate that is over": (
        lambda all_: {
            **all_,
            "tls_cert_file": all_["tls_cert_file"].with_name("over.pem"),
            "tls_key_file": all_["tls_cert_file"].with_name("over.key"),
        },
        "SHOP_TLS_CERT_FILE: the certificate is no longer valid",
    ),
    "TLS that knows nobody": (
        lambda all_: {name: all_[name] for name in ("tls_cert_file", "tls_key_file")},
        "SHOP_TLS_CERT_FILE: says who serves, but nothing says who calls",
    ),
    "certificates of clients without one's own": (
        lambda all_: without(all_, "tls_cert_file", "tls_key_file"),
        "SHOP_TLS_CLIENT_CA_FILE: clients show certificates only where the service does",
    ),
    "certificates of clients without a list": (
        lambda all_: without(all_, "tls_clients"),
        "SHOP_TLS_CLIENT_CA_FILE and SHOP_TLS_CLIENTS: only one is set",
    ),
    "a list without certificates of clients": (
        lambda all_: without(all_, "tls_client_ca_file"),
        "SHOP_TLS_CLIENT_CA_FILE and SHOP_TLS_CLIENTS: only one is set",
    ),
    "keys of tokens without an issuer": (
        lambda all_: without(all_, "token_issuer"),
        "SHOP_TOKEN_KEYS_FILE and SHOP_TOKEN_ISSUER: only one is set",
    ),
    "an issuer without keys of tokens": (
        lambda all_: without(all_, "token_keys_file"),
        "SHOP_TOKEN_KEYS_FILE and SHOP_TOKEN_ISSUER: only one is set",
    ),
    "tokens that nobody reads": (
        lambda all_: {
            **without(all_, "token_keys_file", "token_issuer"),
            "tls_clients": f"{URI}=token",
        },
        "SHOP_TLS_CLIENTS: has clients that bring tokens, but none are taken",
    ),
}


@pytest.mark.requirement("FR-315")
class TestMistakes:
    @pytest.mark.parametrize(("wrong", "told"), INCOMPLETE.values(), ids=list(INCOMPLETE))
    def test_in_what_goes_together(
        self,
        tls: Given,
        certificates: Given,
        tokens: Given,
        wrong: Callable[[Given], Given],
        told: str,
    ) -> None:
        [mistake] = mistakes(**wrong({**tls, **certificates, **tokens}))
        assert mistake.startswith(told)

    def test_are_told_at_once_and_only_once(self, files: Path) -> None:
        """What follows from a value that is wrong is not told beside it."""
        told = mistakes(
            host=EVERYWHERE,
            tls_cert_file=files / "shop.key",
            tls_key_file=files / "missing.key",
            tls_client_ca_file=files / "keys.json",
            tls_clients=f"{URI}=admin:root",
            token_keys_file=files / "ca.pem",
            token_issuer="https://issuer.example",
            token_audience="",
            token_roles="customer,root",
        )
        assert [mistake.partition(":")[0] for mistake in told] == [
            "SHOP_TLS_CERT_FILE",
            "SHOP_TLS_KEY_FILE",
            "SHOP_TLS_CLIENT_CA_FILE",
            "SHOP_TLS_CLIENTS",
            "SHOP_TOKEN_KEYS_FILE",
            "SHOP_TOKEN_ROLES",
            "SHOP_TOKEN_AUDIENCE",
        ]
        assert "cannot be read: No such file" in told[1]
        assert told[3].endswith("accepts URI=ROLE:ID or URI=token, separated by commas")
        assert told[4].endswith("is not JSON; accepts a JSON Web Key Set")

    @pytest.mark.requirement("FR-312")
    def test_threat_16_show_no_key(self, files: Path, tls: Given) -> None:
        told = mistakes(**{**tls, "tls_cert_file": files / "shop.key"})
        for line in (files / "shop.key").read_text().splitlines()[1:-1]:
            assert line not in f"{told}"


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("127.0.0.1:50052", True),
        ("localhost:50052", True),
        ("localhost", True),
        ("[::1]:50052", True),
        ("dns:///localhost:50052", True),
        ("dns:localhost:50052", True),
        ("ipv4:127.0.0.1:50052,127.0.0.2:50052", True),
        ("ipv6:[::1]:50052", True),
        ("unix:/run/payments", True),
        ("unix-abstract:payments", True),
        ("payments:50052", False),
        ("10.0.0.1:50052", False),
        ("[2001:db8::1]:50052", False),
        ("dns:///payments:50052", False),
        ("dns://127.0.0.1/payments:50052", False),
        ("ipv4:127.0.0.1:50052,10.0.0.1:50052", False),
        ("dns://10.0.0.1/localhost:50052", False),
        ("xds:///payments", False),
        ("xds://evil.example/localhost", False),
        ("evil.example/127.0.0.1:50052", False),
        ("localhost.example.org:50052", False),
    ],
)
def test_a_target_is_local_if_only_this_machine_can_answer(target: str, answer: bool) -> None:  # noqa: FBT001
    assert is_local(target) is answer

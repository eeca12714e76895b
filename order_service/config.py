"""The order service's settings. The only module that reads the environment."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service_kit.credentials.configured import key_mistakes
from service_kit.credentials.files import read_token
from service_kit.settings import (
    CertificateFile,
    DatabaseUrl,
    KeyFile,
    ServiceSettings,
    SettingsError,
    embedded_database_url,
    is_local,
    readable_by,
    setting,
)

PAYMENT_DATABASE: Final = "--payment-database"
GATEWAY_LEDGER: Final = "--gateway-ledger"


class Settings(ServiceSettings):
    """See service_kit.settings for those that both services have."""

    model_config = SettingsConfigDict(env_prefix="ORDER_SERVICE_")

    database_file: ClassVar[str] = "order.db"

    token_audience: str = setting(
        "order-service", "What a token must name as its audience (aud)", "any text", min_length=1
    )
    payment_target: str = setting(
        "127.0.0.1:50052",
        "Where the payment service listens",
        "HOST:PORT, or any gRPC target",
        min_length=1,
    )
    payment_ca_file: CertificateFile = setting(
        None, "CA that signed the payment service's certificate; none: plaintext", "a PEM file"
    )
    payment_cert_file: CertificateFile = setting(
        None, "Certificate that is shown to the payment service", "a PEM file"
    )
    payment_key_file: KeyFile = setting(
        None, "Key of that certificate", "a PEM file, without a password"
    )
    payment_token_file: Annotated[Path | None, readable_by(read_token)] = setting(
        None,
        "Token that is sent to the payment service; read again whenever the file changes",
        "a file with a token in it",
    )
    payment_insecure: bool = setting(
        False,
        "Call a payment service beyond loopback without TLS, where something else encrypts",
        "true or false",
    )
    key_retention_hours: int = setting(
        24, "How long an idempotency key is remembered", "24 to 8760 hours", ge=24, le=8760
    )

    def contradictions(self) -> list[str]:
        """List the mistakes that are in no single setting."""
        return [*super().contradictions(), *self._payment_mistakes()]

    def _payment_mistakes(self) -> Iterator[str]:
        name = self.variable
        ca, cert, token = name("payment_ca_file"), name("payment_cert_file"), "payment_token_file"
        yield from key_mistakes(
            cert_file=self.payment_cert_file,
            key_file=self.payment_key_file,
            cert=cert,
            key=name("payment_key_file"),
        )
        if self.payment_ca_file and not (self.payment_cert_file or self.payment_token_file):
            yield (
                f"{ca}: says who the payment service is, but nothing tells it who calls; also set"
                f" {cert} and {name('payment_key_file')}, or {name(token)}"
            )
        if self.payment_cert_file and not self.payment_ca_file:
            yield f"{cert}: is shown only over TLS; also set {ca}"
        if not (self.payment_ca_file or self.payment_insecure or is_local(self.payment_target)):
            yield (
                f"{name('payment_target')}: is beyond loopback, where others could read and change"
                f" what is sent; set {ca}, or {name('payment_insecure')}=true where something else"
                " encrypts"
            )


class PaymentBooks(BaseSettings):
    """Where the payment service and its gateway keep their books, for whoever compares them."""

    model_config = SettingsConfigDict(
        env_prefix="PAYMENT_SERVICE_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    database_url: DatabaseUrl = ""
    gateway_ledger: Path | None = None

    @classmethod
    def load(cls, *, payment_database: str, gateway_ledger: str) -> "PaymentBooks":
        """Read the environment; what was given on the command line wins. Raises SettingsError."""
        given = {"database_url": payment_database, "gateway_ledger": gateway_ledger}
        try:
            books = cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            name = PAYMENT_DATABASE if payment_database else "PAYMENT_SERVICE_DATABASE_URL"
            accepts = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
            raise SettingsError(mistakes=[f"{name}: {problem}; accepts {accepts}"]) from error
        if books.gateway_ledger and not books.gateway_ledger.is_file():
            name = GATEWAY_LEDGER if gateway_ledger else "PAYMENT_SERVICE_GATEWAY_LEDGER"
            raise SettingsError(mistakes=[f"{name}: there is no file {books.gateway_ledger}"])
        return books

    def effective_database_url(self, data_dir: Path) -> str:
        """Return the URL of the database, the embedded one included."""
        return self.database_url or embedded_database_url(data_dir / "payment.db")

    def effective_ledger(self, data_dir: Path) -> Path | None:
        """Return the ledger's file, the default one included; None if there is none."""
        file = self.gateway_ledger or data_dir / "gateway.db"
        return file if file.is_file() else None

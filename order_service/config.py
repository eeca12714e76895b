"""The order service's settings. The only module that reads the environment."""

from pathlib import Path
from typing import ClassVar, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service_kit.settings import (
    DatabaseUrl,
    ServiceSettings,
    SettingsError,
    embedded_database_url,
    setting,
)

PAYMENT_DATABASE: Final = "--payment-database"
GATEWAY_LEDGER: Final = "--gateway-ledger"


class Settings(ServiceSettings):
    """See service_kit.settings for those that both services have."""

    model_config = SettingsConfigDict(env_prefix="ORDER_SERVICE_")

    database_file: ClassVar[str] = "order.db"

    payment_target: str = setting(
        "127.0.0.1:50052",
        "Where the payment service listens",
        "HOST:PORT, or any gRPC target",
        min_length=1,
    )
    key_retention_hours: int = setting(
        24, "How long an idempotency key is remembered", "24 to 8760 hours", ge=24, le=8760
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

"""The payment service's settings. The only module that reads the environment."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Final

from pydantic_settings import SettingsConfigDict

from service_kit.settings import Port, PortOrOff, ServiceSettings, setting

# What is sent last is on its way for a while, and clocks are set.
KEY_MARGIN_HOURS: Final = 1.0


class Settings(ServiceSettings):
    """See service_kit.settings for those that both services have."""

    model_config = SettingsConfigDict(env_prefix="PAYMENT_SERVICE_")

    database_file: ClassVar[str] = "payment.db"

    port: Port = setting(
        50052, "Port to listen on", "0 to 65535; 0 takes any free one", ge=0, le=65535
    )
    metrics_port: PortOrOff = setting(
        9452,
        "Port of 127.0.0.1 where Prometheus reads /metrics",
        "0 to 65535, or off; 0 takes any free one",
        ge=0,
        le=65535,
    )
    token_audience: str = setting(
        "payment-service", "What a token must name as its audience (aud)", "any text", min_length=1
    )
    gateway_ledger: Path | None = setting(
        None,
        "Ledger of the simulated gateway; none: gateway.db in CHECKOUT_DATA_DIR",
        "a file; it is made if it is missing",
    )
    gateway_slow_seconds: float = setting(
        2.0, "How late the simulated gateway answers for tok_slow", "0 to 60 seconds", ge=0, le=60
    )
    gateway_key_max_age_hours: float = setting(
        12.0,
        "Age from which a key is only looked up at the gateway; below what the gateway keeps",
        "0.1 to 720 hours",
        ge=0.1,
        le=720,
    )
    gateway_key_retention_hours: float = setting(
        24.0,
        "Age from which the simulated gateway has forgotten a key, and moves money again; 0: never",
        "0 to 8760 hours",
        ge=0,
        le=8760,
    )

    def contradictions(self) -> list[str]:
        """List the mistakes that are in no single setting."""
        mistakes = super().contradictions()
        sent_until = self.gateway_key_max_age_hours + KEY_MARGIN_HOURS
        if 0 < self.gateway_key_retention_hours < sent_until:
            name = self.variable
            mistakes.append(
                f"{name('gateway_key_max_age_hours')} and {name('gateway_key_retention_hours')}:"
                " the gateway would forget keys that are still sent, and move money twice; the"
                f" second must be {KEY_MARGIN_HOURS:g} hour more than the first, or 0"
            )
        return mistakes

    def effective_gateway_key_retention(self) -> timedelta | None:
        """Return how long the simulated gateway remembers a key; None: for ever."""
        return timedelta(hours=self.gateway_key_retention_hours) or None

    def effective_gateway_ledger(self) -> Path:
        """Return the file of the ledger, the default one included."""
        return self.gateway_ledger or self.data_dir / "gateway.db"

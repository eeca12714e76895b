"""The payment service's settings. The only module that reads the environment."""

from pathlib import Path
from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from service_kit.settings import Port, PortOrOff, ServiceSettings, setting


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

    def effective_gateway_ledger(self) -> Path:
        """Return the file of the ledger, the default one included."""
        return self.gateway_ledger or self.data_dir / "gateway.db"

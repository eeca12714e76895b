"""The order service's settings. The only module that reads the environment."""

from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from service_kit.settings import ServiceSettings, setting


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

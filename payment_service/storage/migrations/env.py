"""Run by Alembic."""

from payment_service.storage.tables import metadata
from service_kit.migrations import run_env

run_env(metadata)

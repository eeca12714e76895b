"""Run by Alembic."""

from order_service.storage.tables import metadata
from service_kit.migrations import run_env

run_env(metadata)

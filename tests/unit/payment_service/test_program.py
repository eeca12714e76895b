"""The settings, and what the help explains."""

from datetime import timedelta
from pathlib import Path

import pytest

from payment_service.__main__ import PROGRAM
from payment_service.config import Settings
from payment_service.gateways.simulated_tokens import TOKENS
from service_kit.settings import SettingsError, load


def test_the_defaults_work_without_any_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHECKOUT_DATA_DIR", raising=False)
    settings = load(Settings)
    assert (settings.host, settings.port) == ("127.0.0.1", 50052)
    assert settings.metrics_port == 9452
    assert settings.effective_database_url() == "sqlite:///.data/payment.db"
    assert settings.effective_gateway_ledger() == Path(".data/gateway.db")
    assert settings.gateway_key_max_age_hours == 12
    assert settings.effective_gateway_key_retention() == timedelta(hours=24)


def test_the_ledger_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_SERVICE_GATEWAY_LEDGER", "elsewhere/books.db")
    assert load(Settings).effective_gateway_ledger() == Path("elsewhere/books.db")


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS", "later")
    monkeypatch.setenv("PAYMENT_SERVICE_GATEWAY_KEY_MAX_AGE_HOURS", "0")
    with pytest.raises(SettingsError) as refusal:
        load(Settings)
    told = "\n".join(refusal.value.mistakes)
    assert "PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS" in told
    assert "PAYMENT_SERVICE_GATEWAY_KEY_MAX_AGE_HOURS" in told


def test_a_gateway_that_forgets_keys_while_they_are_sent_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retention = "PAYMENT_SERVICE_GATEWAY_KEY_RETENTION_HOURS"
    monkeypatch.setenv("PAYMENT_SERVICE_GATEWAY_KEY_MAX_AGE_HOURS", "23.5")
    with pytest.raises(SettingsError) as refusal:
        load(Settings)
    [told] = refusal.value.mistakes
    assert retention in told
    monkeypatch.setenv(retention, "24.5")
    assert load(Settings).effective_gateway_key_retention() == timedelta(hours=24.5)
    monkeypatch.setenv(retention, "0")
    assert load(Settings).effective_gateway_key_retention() is None


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]], ids=" ".join)
def test_the_help_explains_settings_and_tokens(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        PROGRAM.run(arguments)
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for field in Settings.model_fields:
        assert Settings.variable(field) in text
    for name, token in TOKENS.items():
        assert name in text
        assert token.description in text

"""Settings refuse early, all at once, and never show a secret."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic_settings import SettingsConfigDict
from sqlalchemy import make_url

from service_kit.server import CALLS_OF_A_CONNECTION_MAX
from service_kit.settings import (
    ServiceSettings,
    SettingsError,
    describe,
    is_loopback,
    load,
    setting,
)

SECRET = "correct-horse-battery-staple-and-more"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - to see it refused


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    database_file: ClassVar[str] = "shop.db"
    greeting: str = setting("hello", "What to say", "1 to 10 characters", max_length=10)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("CHECKOUT_SECRET_KEY", "CHECKOUT_SECRET_KEY_FILE", "CHECKOUT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def mistakes() -> dict[str, str]:
    with pytest.raises(SettingsError) as refused:
        load(Settings)
    return dict(mistake.split(": ", 1) for mistake in refused.value.mistakes)


class TestLoad:
    def test_has_defaults_that_work(self, environment: pytest.MonkeyPatch) -> None:
        settings = load(Settings)
        assert (settings.host, settings.port, settings.threads) == ("127.0.0.1", 50051, 64)
        assert settings.effective_database_url() == "sqlite:///.data/shop.db"
        assert settings.redis_url == ""
        assert settings.secret_key is None

    def test_reads_prefixed_and_shared_variables(
        self, environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        environment.setenv("SHOP_PORT", "0")
        environment.setenv("SHOP_GREETING", "good day")
        environment.setenv("CHECKOUT_DATA_DIR", str(tmp_path / "a b%"))
        environment.setenv("CHECKOUT_SECRET_KEY", SECRET)
        settings = load(Settings)
        assert (settings.port, settings.greeting) == (0, "good day")
        url = make_url(settings.effective_database_url())
        assert url.database == f"{tmp_path}/a b%/shop.db"
        assert settings.secret_key is not None
        assert settings.secret_key.get_secret_value() == SECRET

    def test_prefers_what_the_command_line_gives(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("SHOP_INSECURE", "false")
        assert load(Settings, insecure=True).insecure

    def test_takes_an_empty_variable_for_none(self, environment: pytest.MonkeyPatch) -> None:
        for name in ("SHOP_PORT", "SHOP_REDIS_URL", "CHECKOUT_DATA_DIR", "CHECKOUT_SECRET_KEY"):
            environment.setenv(name, "")
        assert load(Settings).data_dir == Path(".data")

    @pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
    def test_reaches_postgresql_by_psycopg(
        self, environment: pytest.MonkeyPatch, scheme: str
    ) -> None:
        environment.setenv("SHOP_DATABASE_URL", f"{scheme}://u:p%40ss@db/shop?sslmode=require")
        environment.setenv("CHECKOUT_SECRET_KEY", SECRET)
        url = "postgresql+psycopg://u:p%40ss@db/shop?sslmode=require"
        assert load(Settings).effective_database_url() == url

    def test_takes_a_named_sqlite_file(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("SHOP_DATABASE_URL", "sqlite:////var/lib/shop.db")
        assert load(Settings).effective_database_url() == "sqlite:////var/lib/shop.db"

    @pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.2"])
    def test_listens_on_any_loopback_address(
        self, environment: pytest.MonkeyPatch, host: str
    ) -> None:
        environment.setenv("SHOP_HOST", host)
        assert load(Settings).host == host

    @pytest.mark.requirement("FR-253")
    @pytest.mark.parametrize(
        ("value", "port"), [("", 9451), ("0", 0), ("1234", 1234), ("off", None)]
    )
    def test_tells_metrics_at_a_port_of_their_own_or_not_at_all(
        self, environment: pytest.MonkeyPatch, value: str, port: int | None
    ) -> None:
        environment.setenv("SHOP_METRICS_PORT", value)
        assert load(Settings).metrics_port == port

    @pytest.mark.requirement("FR-135")
    def test_gives_each_worker_a_port_for_its_metrics(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        settings = load(Settings, workers=3)
        assert [settings.metrics_port_of(i) for i in range(3)] == [9451, 9461, 9471]
        assert load(Settings, workers=3, metrics_port=0).metrics_port_of(2) == 0
        assert load(Settings, workers=3, metrics_port="off").metrics_port_of(2) is None

    @pytest.mark.requirement("FR-135")
    @pytest.mark.parametrize("wrong", [{"port": 9471}, {"metrics_port": 65_516}])
    def test_refuses_workers_whose_metrics_have_no_port(
        self, environment: pytest.MonkeyPatch, wrong: dict[str, int]
    ) -> None:
        with pytest.raises(SettingsError, match=r"^SHOP_METRICS_PORT and SHOP_WORKERS: "):
            load(Settings, workers=3, **wrong)
        load(Settings, workers=2, **wrong)

    def test_knows_the_form_of_the_log(self, environment: pytest.MonkeyPatch) -> None:
        assert load(Settings).json_logs() is None
        assert load(Settings, log_format="json").json_logs() is True
        assert load(Settings, log_format="console").json_logs() is False


@pytest.mark.requirement("FR-354")
def test_threads_are_as_many_as_one_connection_carries_and_not_one_more(
    environment: pytest.MonkeyPatch,
) -> None:
    """The order service has one connection to the payment service, for all of its calls."""
    environment.setenv("SHOP_THREADS", str(CALLS_OF_A_CONNECTION_MAX))
    assert load(Settings).threads == CALLS_OF_A_CONNECTION_MAX
    environment.setenv("SHOP_THREADS", str(CALLS_OF_A_CONNECTION_MAX + 1))
    assert list(mistakes()) == ["SHOP_THREADS"]


class TestMistakes:
    def test_are_all_told_at_once(self, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
        wrong = {
            "SHOP_PORT": "65536",
            "SHOP_METRICS_PORT": "65536",
            "SHOP_THREADS": "many",
            "SHOP_KEY_RETENTION_HOURS": "23",
            "SHOP_GREETING": "hello, everybody",
            "SHOP_LOG_FORMAT": "xml",
            "SHOP_HOST": EVERYWHERE,
            "SHOP_DATABASE_URL": "mysql://root:hunter2@db/shop",
            "SHOP_REDIS_URL": "http://:hunter2@cache",
            "CHECKOUT_SECRET_KEY": "hunter2",
            "CHECKOUT_SECRET_KEY_FILE": str(tmp_path / "missing"),
            "SHOP_TREADS": "64",
        }
        for name, value in wrong.items():
            environment.setenv(name, value)
        told = mistakes()
        assert told.keys() == wrong.keys()
        assert told["SHOP_PORT"].endswith("; accepts 0 to 65535; 0 takes any free one")
        assert told["SHOP_METRICS_PORT"].endswith(
            "; accepts 0 to 65535, or off; 0 takes any free one"
        )
        assert "beyond loopback" in told["SHOP_HOST"]
        assert "mysql:// which is not supported" in told["SHOP_DATABASE_URL"].replace(",", "")
        assert "did you mean SHOP_THREADS?" in told["SHOP_TREADS"]
        assert "hunter2" not in str(told)
        assert "many" not in told["SHOP_THREADS"]

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("no url", "is not a database URL"),
            ("postgresql://h:port/x", "is not a database URL"),
            ("postgres://h/x", "not supported"),
            ("postgresql+psycopg2://h/x", "not supported"),
            ("sqlite://", "names no file"),
            ("sqlite:///:memory:", "names no file"),
        ],
    )
    def test_in_a_database_url(
        self, environment: pytest.MonkeyPatch, url: str, problem: str
    ) -> None:
        environment.setenv("SHOP_DATABASE_URL", url)
        told = mistakes()["SHOP_DATABASE_URL"]
        assert problem in told
        assert "accepts sqlite:///FILE or postgresql://" in told

    def test_in_a_host(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("SHOP_HOST", "example.org")
        assert mistakes()["SHOP_HOST"].startswith("is not an IP address")

    @pytest.mark.requirement("FR-253")
    def test_one_port_for_two_things(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("SHOP_METRICS_PORT", "50051")
        assert mistakes() == {
            "SHOP_PORT and SHOP_METRICS_PORT": "are the same port; set another one"
        }
        environment.setenv("SHOP_METRICS_PORT", "0")
        environment.setenv("SHOP_PORT", "0")
        load(Settings)

    def test_two_secrets(self, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text(SECRET)
        environment.setenv("CHECKOUT_SECRET_KEY", SECRET)
        environment.setenv("CHECKOUT_SECRET_KEY_FILE", str(file))
        assert "set one of them" in mistakes()["CHECKOUT_SECRET_KEY and CHECKOUT_SECRET_KEY_FILE"]

    def test_postgresql_without_a_secret(
        self, environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        environment.setenv("SHOP_DATABASE_URL", "postgresql://db/shop")
        assert "is required with PostgreSQL" in mistakes()["CHECKOUT_SECRET_KEY"]
        file = tmp_path / "key"
        file.write_text(SECRET)
        environment.setenv("CHECKOUT_SECRET_KEY_FILE", str(file))
        assert load(Settings).secret_key_file == file

    def test_a_variable_that_nothing_resembles(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("CHECKOUT_ZZZ", "1")
        assert "--help" in mistakes()["CHECKOUT_ZZZ"]

    def test_are_not_what_tests_and_kubernetes_set(self, environment: pytest.MonkeyPatch) -> None:
        for name in (
            "CHECKOUT_TEST_POSTGRES_URL",
            "SHOP_SERVICE_HOST",
            "SHOP_SERVICE_PORT",
            "SHOP_SERVICE_PORT_GRPC",
            "SHOP_PORT_50051_TCP_ADDR",
        ):
            environment.setenv(name, "10.0.0.1")
        load(Settings)

    def test_explain_a_port_that_kubernetes_sets(self, environment: pytest.MonkeyPatch) -> None:
        for name in ("SHOP_PORT", "SHOP_METRICS_PORT"):
            environment.setenv(name, "tcp://10.0.0.1:50051")
            assert "enableServiceLinks" in mistakes()[name]


def test_the_description_names_every_variable_its_default_and_what_it_accepts(
    environment: pytest.MonkeyPatch,
) -> None:
    lines = describe(Settings).splitlines()
    assert len(lines) == 1 + len(Settings.model_fields)
    [greeting] = [line for line in lines if line.startswith("SHOP_GREETING")]
    assert greeting.split("  ")[-1] == "What to say (1 to 10 characters)"
    assert "hello" in greeting
    [insecure] = [line for line in lines if line.startswith("SHOP_INSECURE")]
    assert " false " in insecure


def test_settings_do_not_show_passwords(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SHOP_DATABASE_URL", "postgresql://u:hunter2@db/shop")
    environment.setenv("SHOP_REDIS_URL", "redis://:hunter2@cache")
    environment.setenv("CHECKOUT_SECRET_KEY", SECRET)
    shown = f"{load(Settings)!r} {load(Settings)}"
    assert "hunter2" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        (EVERYWHERE, False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, answer: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is answer


@pytest.mark.requirement("FR-357")
@pytest.mark.parametrize(
    ("reflection", "host", "told"),
    [
        ("", "127.0.0.1", True),
        ("auto", "::1", True),
        ("auto", EVERYWHERE, False),
        ("true", EVERYWHERE, True),
        ("false", "127.0.0.1", False),
    ],
)
def test_threat_15_the_contract_is_told_on_loopback_alone_unless_said_otherwise(
    environment: pytest.MonkeyPatch,
    reflection: str,
    host: str,
    told: bool,  # noqa: FBT001
) -> None:
    environment.setenv("SHOP_HOST", host)
    environment.setenv("SHOP_REFLECTION", reflection)
    assert Settings().effective_reflection() is told

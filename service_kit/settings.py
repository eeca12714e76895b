"""Settings from environment variables, refused at the start with all mistakes at once."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import sqlalchemy as sa
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from service_kit.credentials import configured as credentials
from service_kit.credentials.clients import ACCEPTS as CLIENTS_ACCEPTED
from service_kit.credentials.clients import ClientsUnusable, parse_clients
from service_kit.credentials.files import FileUnusable, read_certificates, read_private_key
from service_kit.credentials.token_keys import read_token_keys
from service_kit.principals import role_problem, roles_in
from service_kit.secrets import SECRET_CHARACTERS_MIN, SecretUnusable, checked, read_secret_file

S = TypeVar("S", bound="ServiceSettings")

_SHARED_PREFIX: Final = "CHECKOUT_"
_TEST_PREFIX: Final = "CHECKOUT_TEST_"
_POSTGRES_DRIVER: Final = "postgresql+psycopg"
_PORT_MAX: Final = 65_535
_WORKERS_MAX: Final = 64
# Not 1: the other service's metrics are next door.
METRICS_PORT_STEP: Final = 10
# Kubernetes puts these into every container for a service named, say, order-service.
_SERVICE_LINK: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_\w+)")


class SettingsError(Exception):
    """Settings are wrong. `mistakes` has one sentence each, without any secret's value."""

    def __init__(self, *, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


def setting(
    default: Any, meaning: str, accepts: str, *, variable: str = "", **constraints: Any
) -> Any:
    """Declare a setting: its default, what it means, and what it accepts, for people.

    `variable` is the whole name of the variable where it is not prefix and field name;
    `constraints` are pydantic's.
    """
    return Field(
        default,
        description=meaning,
        json_schema_extra={"accepts": accepts},
        validation_alias=variable or None,
        **constraints,
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address; `localhost` is one."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Without an authority: a name that another machine resolves is that machine's word.
_SCHEMES: Final = ("dns:///", "dns:", "ipv4:", "ipv6:")


def is_local(target: str) -> bool:
    """Say whether a gRPC target is on this machine only: a Unix socket, or loopback."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            break
    hosts = ((a.rpartition(":")[0] or a).strip("[]") for a in target.split(","))
    return all(map(is_loopback, hosts))


def _host(value: str) -> str:
    if value != "localhost":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("is not an IP address") from None
    return value


def _port(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            "is what Kubernetes sets for a service of this name (enableServiceLinks: false)"
        )
    return value


def _port_or_off(value: Any) -> Any:
    return None if value == "off" else _port(value)


def _token_roles(value: str) -> str:
    for role in roles_in(value):
        if problem := role_problem(role):
            raise ValueError(f"has a role that {problem}")
    return value


def _redis_url(value: str) -> str:
    if value and not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("is not a Redis URL")
    return value


def _database_url(value: str) -> str:
    if not value:
        return value
    try:
        url = sa.make_url(value)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("is not a database URL") from None
    if url.drivername == "sqlite":
        if url.database in {None, "", ":memory:"}:
            raise ValueError("names no file")
        return value
    if url.drivername not in {"postgresql", _POSTGRES_DRIVER}:
        raise ValueError(f"begins with {url.drivername}://, which is not supported")
    return url.set(drivername=_POSTGRES_DRIVER).render_as_string(hide_password=False)


def _secret_key(value: SecretStr | None) -> SecretStr | None:
    try:
        if value is not None:
            checked(value.get_secret_value())
    except SecretUnusable as error:
        raise ValueError(str(error)) from None
    return value


def _secret_key_file(value: Path | None) -> Path | None:
    try:
        if value is not None:
            read_secret_file(value)
    except SecretUnusable as error:
        raise ValueError(str(error)) from None
    return value


def readable_by(read: Callable[[Path], object]) -> AfterValidator:
    """Accept a file that the function reads without FileUnusable."""

    def check(value: Path | None) -> Path | None:
        try:
            if value is not None:
                read(value)
        except FileUnusable as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


def _clients(value: str) -> str:
    try:
        parse_clients(value)
    except ClientsUnusable as error:
        raise ValueError(str(error)) from None
    return value


CertificateFile = Annotated[Path | None, readable_by(read_certificates)]
KeyFile = Annotated[Path | None, readable_by(read_private_key)]
Port = Annotated[int, BeforeValidator(_port)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
# None is off.
PortOrOff = Annotated[int | None, BeforeValidator(_port_or_off)]


class ServiceSettings(BaseSettings):
    """What every service can be told. A service subclasses it with its prefix and defaults.

    Every setting has a default, and the defaults work: an embedded database, no Redis,
    loopback only.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        # VARIABLE= in a file of variables means: not set.
        env_ignore_empty=True,
    )

    database_file: ClassVar[str] = "service.db"

    host: Annotated[str, AfterValidator(_host)] = setting(
        "127.0.0.1", "Address to listen on", "an IP address or localhost"
    )
    port: Port = setting(
        50051, "Port to listen on", "0 to 65535; 0 takes any free one", ge=0, le=65535
    )
    metrics_port: PortOrOff = setting(
        9451,
        "Port of 127.0.0.1 where Prometheus reads /metrics",
        "0 to 65535, or off; 0 takes any free one",
        ge=0,
        le=65535,
    )
    insecure: bool = setting(
        False,
        "Listen beyond loopback without TLS, where something else encrypts; callers still bring"
        " tokens",
        "true or false",
    )
    tls_cert_file: CertificateFile = setting(
        None, "Certificate that the service shows, then those up to its CA", "a PEM file"
    )
    tls_key_file: KeyFile = setting(
        None, "Key of the certificate", "a PEM file, without a password"
    )
    tls_client_ca_file: CertificateFile = setting(
        None, "CA that signed the certificates which clients then must have", "a PEM file"
    )
    tls_clients: Annotated[str, AfterValidator(_clients)] = setting(
        "",
        "Certificates that may connect, by a URI in them, and whom each stands for; token: each"
        " call brings one",
        CLIENTS_ACCEPTED,
    )
    token_keys_file: Annotated[Path | None, readable_by(read_token_keys)] = setting(
        None,
        "Public keys of the issuer of tokens, EdDSA or RS256; read at the start",
        "a JSON Web Key Set",
    )
    token_issuer: str = setting("", "What a token must name as its issuer (iss)", "any text")
    token_roles: Annotated[str, AfterValidator(_token_roles)] = setting(
        "customer,service,operations",
        "Roles that a token can give; the issuer is believed for each",
        "roles, separated by commas",
    )
    token_audience: str = setting(
        "service", "What a token must name as its audience (aud)", "any text", min_length=1
    )
    workers: int = setting(
        1,
        "Processes that serve on the port; each has threads, connections and shares of its own",
        f"1 to {_WORKERS_MAX}",
        ge=1,
        le=_WORKERS_MAX,
    )
    # As many as one connection carries: the order service has one to the payment service, and a
    # call of its own beyond those would wait there, unseen, for another to end.
    threads: int = setting(
        64, "Calls served at the same time; one more is refused", "1 to 200", ge=1, le=200
    )
    connections: int = setting(
        500,
        "Connections open at the same time, those of health probes included",
        "1 to 100000",
        ge=1,
        le=100_000,
    )
    customer_rate: float = setting(
        50,
        "Calls a second that one customer may make; 0: any number",
        "0 to 100000",
        ge=0,
        le=100_000,
    )
    customer_burst: int = setting(
        200, "Calls that one customer may make at once", "1 to 100000", ge=1, le=100_000
    )
    customer_calls: int = setting(
        8,
        "Calls of one customer served at the same time; 0: any number",
        "0 to 1000",
        ge=0,
        le=1000,
    )
    backend_rate: float = setting(
        0,
        "Calls a second that one caller of another role may make, except the order service;"
        " 0: any number",
        "0 to 100000",
        ge=0,
        le=100_000,
    )
    backend_burst: int = setting(
        1000, "Calls that one of them may make at once", "1 to 100000", ge=1, le=100_000
    )
    database_url: DatabaseUrl = setting(
        "",
        "Database; empty: an SQLite file in CHECKOUT_DATA_DIR",
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE",
        repr=False,
    )
    database_pool_size: int = setting(
        16, "Database connections at most", "1 to 1000", ge=1, le=1000
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] = setting(
        "",
        "Redis that answers repeated requests; empty: the database answers them",
        "redis://HOST:PORT/NUMBER, rediss://… or unix://PATH",
        repr=False,
    )
    replay_ttl_seconds: int = setting(
        60, "How long Redis keeps a reply", "1 to 86400 seconds", ge=1, le=86400
    )
    drain_seconds: float = setting(
        10.0, "How long running calls may take to finish on SIGTERM", "0 to 300", ge=0, le=300
    )
    background_work: bool = setting(
        True, "Also finish what other calls and processes left unfinished", "true or false"
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "Form of the log; auto: console on a terminal, else json", "auto, json or console"
    )
    reflection: bool | Literal["auto"] = setting(
        "auto",
        "Tell callers the contract, which grpcurl needs; auto: only if it listens on loopback",
        "auto, true or false",
    )
    data_dir: Path = setting(
        Path(".data"),
        "Folder of the embedded databases and of the secret that is made if none is set",
        "a folder; it is made if it is missing",
        variable="CHECKOUT_DATA_DIR",
    )
    audit_retention_years: int = setting(
        7,
        "How long audit entries keep who acted; they themselves are never deleted",
        "1 to 100 years",
        variable="CHECKOUT_AUDIT_RETENTION_YEARS",
        ge=1,
        le=100,
    )
    secret_key: Annotated[SecretStr | None, AfterValidator(_secret_key)] = setting(
        None,
        "Secret that all services of the installation share; required with PostgreSQL",
        f"{SECRET_CHARACTERS_MIN} characters or more",
        variable="CHECKOUT_SECRET_KEY",
    )
    secret_key_file: Annotated[Path | None, AfterValidator(_secret_key_file)] = setting(
        None,
        "File that holds the secret, instead of CHECKOUT_SECRET_KEY",
        f"a readable file of {SECRET_CHARACTERS_MIN} characters or more",
        variable="CHECKOUT_SECRET_KEY_FILE",
    )

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the name of the environment variable of a field."""
        alias = cls.model_fields[field].validation_alias
        return str(alias or f"{cls.model_config.get('env_prefix', '')}{field}").upper()

    def effective_database_url(self) -> str:
        """Return the URL of the database, the embedded one included."""
        return self.database_url or embedded_database_url(self.data_dir / self.database_file)

    def json_logs(self) -> bool | None:
        """Say whether to log JSON; None leaves it to the stream."""
        return None if self.log_format == "auto" else self.log_format == "json"

    def effective_reflection(self) -> bool:
        """Say whether to tell callers the contract."""
        return is_loopback(self.host) if self.reflection == "auto" else self.reflection

    def contradictions(self) -> list[str]:
        """List the mistakes that are in no single setting. Subclasses add theirs."""
        mistakes = []
        name = self.variable
        if self.secret_key is not None and self.secret_key_file is not None:
            mistakes.append(
                f"{name('secret_key')} and {name('secret_key_file')}: both are set; set one of them"
            )
        if self.port and self.port == self.metrics_port:
            mistakes.append(
                f"{name('port')} and {name('metrics_port')}: are the same port; set another one"
            )
        mistakes += self._metrics_ports()
        mistakes += credentials.contradictions(self)
        mistakes += self._reachable()
        if (
            self.database_url.startswith(_POSTGRES_DRIVER)
            and self.secret_key is None
            and self.secret_key_file is None
        ):
            mistakes.append(
                f"{name('secret_key')}: is required with PostgreSQL, whose clients need not share"
                f" a folder; accepts {_accepts(type(self).model_fields['secret_key'])},"
                f" or name a file in {name('secret_key_file')}"
            )
        return mistakes

    def metrics_port_of(self, worker: int) -> int | None:
        """Return the port of a worker's own metrics; the first worker is number 0."""
        if not self.metrics_port:
            return self.metrics_port
        return self.metrics_port + METRICS_PORT_STEP * worker

    def _metrics_ports(self) -> Iterator[str]:
        """Tell which port of another worker's metrics cannot be."""
        ports = [port for i in range(1, self.workers) if (port := self.metrics_port_of(i))]
        names = f"{self.variable('metrics_port')} and {self.variable('workers')}"
        if self.port in ports:
            yield f"{names}: a worker's metrics would be at {self.port}, {self.variable('port')}"
        if ports and ports[-1] > _PORT_MAX:
            yield f"{names}: the last worker's metrics would be at port {ports[-1]}"

    def _reachable(self) -> Iterator[str]:
        """Tell what is missing to be reached by other machines, if it is to be."""
        name = self.variable
        if is_loopback(self.host):
            return
        if not credentials.knows_callers(self):
            yield (
                f"{name('host')}: listens beyond loopback, where callers could claim any identity;"
                f" set {name('tls_cert_file')} and {name('tls_key_file')} and, for tokens,"
                f" {name('token_keys_file')} or, for certificates, {name('tls_client_ca_file')};"
                " or accept a loopback address"
            )
        elif self.tls_cert_file is None and not self.insecure:
            yield (
                f"{name('host')}: listens beyond loopback, where others could read tokens; set"
                f" {name('tls_cert_file')} and {name('tls_key_file')}, or --insecure"
                f" ({name('insecure')}=true) where something else encrypts"
            )


def embedded_database_url(file: Path) -> str:
    """Return the URL of an SQLite file."""
    return sa.URL.create("sqlite", database=str(file)).render_as_string()


def load(cls: type[S], **given: Any) -> S:
    """Read the settings from the environment; `given` values, by field name, win.

    Raises SettingsError with every mistake: wrong values, values that contradict each other,
    and variables with our prefix that do not exist.
    """
    mistakes = list(_unknown(cls))
    try:
        settings = cls(**given)
    except ValidationError as error:
        wrong = {_field(cls, detail): detail for detail in error.errors(include_input=False)}
        mistakes += [_mistake(cls, field, detail) for field, detail in wrong.items()]
        # With defaults in place of the wrong values, the rest can still be checked together.
        defaults = {field: cls.model_fields[field].get_default() for field in wrong}
        settings = cls(**{**given, **defaults})
        about_wrong = re.compile(rf"\b({'|'.join(map(cls.variable, wrong))})\b")
        mistakes += [m for m in settings.contradictions() if not about_wrong.search(m)]
    else:
        mistakes += settings.contradictions()
    if mistakes:
        raise SettingsError(mistakes=mistakes)
    return settings


def describe(cls: type[ServiceSettings]) -> str:
    """Render the settings as a table for people: variable, default, meaning."""
    rows = [
        (cls.variable(name), _shown(field.default), f"{field.description} ({_accepts(field)})")
        for name, field in cls.model_fields.items()
    ]
    rows.insert(0, ("Variable", "Default", "Meaning (accepts)"))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)


def _unknown(cls: type[ServiceSettings]) -> Iterator[str]:
    known = {cls.variable(field) for field in cls.model_fields}
    prefixes = (
        str(cls.model_config.get("env_prefix", "")).upper() or _SHARED_PREFIX,
        _SHARED_PREFIX,
    )
    for name in sorted(name.upper() for name in EnvSettingsSource(cls).env_vars):
        if name in known or not name.startswith(prefixes) or name.startswith(_TEST_PREFIX):
            continue
        if _SERVICE_LINK.fullmatch(name):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        meant = f"; did you mean {close[0]}?" if close else "; --help lists what there is"
        yield f"{name}: there is no such setting{meant}"


def _field(cls: type[ServiceSettings], detail: ErrorDetails) -> str:
    location = str(detail["loc"][0])
    aliases = {str(field.validation_alias): name for name, field in cls.model_fields.items()}
    return aliases.get(location, location)


def _mistake(cls: type[ServiceSettings], field: str, detail: ErrorDetails) -> str:
    # pydantic's own words for a raised ValueError stand before ours.
    problem = detail["msg"].removeprefix("Value error, ")
    problem = problem[0].lower() + problem[1:]
    return f"{cls.variable(field)}: {problem}; accepts {_accepts(cls.model_fields[field])}"


def _accepts(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["accepts"]) if isinstance(extra, dict) else ""


def _shown(default: Any) -> str:
    if default is None or default == "":
        return "(none)"
    return str(default).lower() if isinstance(default, bool) else str(default)

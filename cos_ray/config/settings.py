"""
Every variable (but those that name and configure read sides), typed, with default and meaning.

`Settings.from_environment` builds them once from a mapping. Names, defaults and meanings are
CoS's unless said otherwise; all are checked; what asks for something this
service does not do is refused (see `serving`). Frozen and picklable, so actors can be handed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, NamedTuple

from pydantic import Field, SecretStr, ValidationError, model_validator
from typing_extensions import Self

from cos_ray.config.complaints import complaint, complaints_of
from cos_ray.config.door_settings import Admission, InternalTls, Listeners, Subscriptions
from cos_ray.config.environment import with_file, with_secret
from cos_ray.config.state_types import StateTypes
from cos_ray.config.trace_settings import Traces
from cos_ray.config.values import (
    BreakerFailures,
    Choice,
    Count,
    DatabaseHost,
    DatabaseName,
    Duration,
    File,
    Files,
    Flag,
    Folder,
    Group,
    Handler,
    HeaderKeys,
    Host,
    Milliseconds,
    Names,
    Port,
    SchemaName,
    Seconds,
    ServiceName,
    Text,
)
from cos_ray.domain.errors import ConfigurationError


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServerProtocol(Choice):
    """By which protocols clients may send commands."""

    GRPC = "grpc"
    HTTP = "http"
    BOTH = "both"


class HandlerProtocol(Choice):
    """How a handler is called."""

    GRPC = "grpc"
    HTTP = "http"


class Placement(Choice):
    """Where entities live: one process each, or many in each of a few."""

    DEDICATED = "dedicated"
    SHARDED = "sharded"
    AUTO = "auto"


class SslMode(Choice):
    """How far a connection to the database is secured, in libpq's words."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class LogLevel(Choice):
    """The least important lines to log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class LogStyle(Choice):
    """What a log line looks like: an object, a line with its facts, or hardly more than the sentence."""

    JSON = "JSON"
    STANDARD = "STANDARD"
    SIMPLE = "SIMPLE"


class Service(Group):
    """What the service is called and where clients reach it."""

    name: ServiceName = Field("chiefofstate", alias="COS_SERVICE_NAME")
    """The service's name; its entities live in the Ray namespace `cos-<name>`."""
    address: Host = Field("0.0.0.0", alias="COS_ADDRESS")
    """The address to listen on for gRPC."""
    port: Port = Field(9000, alias="COS_PORT")
    """The port for gRPC."""
    http_address: Host | None = Field(None, alias="COS_HTTP_ADDRESS")
    """The address to listen on for HTTP; unset: that of COS_ADDRESS."""
    http_port: Port = Field(9001, alias="COS_HTTP_PORT")
    """The port for HTTP: `/ready` and `/alive` always, the API if COS_SERVER_PROTOCOL says so."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(1, alias="COS_INGRESS_REPLICAS")
    """How many processes take requests in; with COS_INGRESS_MAX_REPLICAS, the fewest."""
    most_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, alias="COS_INGRESS_MAX_REPLICAS")
    """Up to how many they become under load, by Ray Serve's autoscaling; unset: their number is fixed."""
    protocol: ServerProtocol = Field(ServerProtocol.GRPC, alias="COS_SERVER_PROTOCOL")
    """By which protocols clients may send commands."""
    data_dir: Folder | None = Field(None, alias="COS_DATA_DIR")
    """Where the embedded database keeps its data; unset: the user's own data folder."""
    ray_address: Text | None = Field(None, alias="RAY_ADDRESS")
    """The Ray cluster to join; unset: one is started on this machine."""
    metrics_port: Port | None = Field(None, alias="COS_METRICS_PORT")
    """Where Prometheus finds `/metrics`, on COS_ADDRESS; unset: on Ray's own port only, on the loopback."""
    descriptor_sets: Files = Field((), alias="COS_DESCRIPTOR_SETS")
    """Compiled protos (`protoc --descriptor_set_out`) of the application, to show its types as JSON."""

    @model_validator(mode="after")
    def _addresses_fit(self) -> Self:
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            allowed = f"a whole number from COS_INGRESS_REPLICAS ({self.replicas})"
            raise ValueError(complaint("COS_INGRESS_MAX_REPLICAS", str(self.most_replicas), allowed))
        if self.port == self.http_port:
            raise ValueError(complaint("COS_HTTP_PORT", str(self.http_port), "another port than COS_PORT"))
        if self.metrics_port in (self.port, self.http_port):
            allowed = "another port than COS_PORT and COS_HTTP_PORT"
            raise ValueError(complaint("COS_METRICS_PORT", str(self.metrics_port), allowed))
        return self


class Database(Group):
    """Where the journal is kept, and how it is reached."""

    host: DatabaseHost | None = Field(None, alias="COS_DB_HOST")
    """The database's host; unset: an embedded database is started (CoS: localhost)."""
    port: Port = Field(5432, alias="COS_DB_PORT")
    """The database's port."""
    name: DatabaseName = Field("postgres", alias="COS_DB_NAME")
    """The database."""
    schema_name: SchemaName = Field("public", alias="COS_DB_SCHEMA")
    """The schema of all tables."""
    user: DatabaseName = Field("postgres", alias="COS_DB_USER")
    """The database role to log in as."""
    password: SecretStr = Field(SecretStr("changeme"), alias="COS_DB_PASSWORD")
    """The role's password."""
    password_file: File | None = Field(None, alias="COS_DB_PASSWORD_FILE")
    """A file to read the password from, instead of COS_DB_PASSWORD."""
    pool_max_size: Annotated[int, Field(ge=1, le=1000)] = Field(5, alias="COS_DB_POOL_MAX_SIZE")
    """The most connections a process holds to the database."""
    pool_min_idle: Annotated[int, Field(ge=0, le=1000)] = Field(1, alias="COS_DB_POOL_MIN_IDLE_CONNECTIONS")
    """How many idle connections are kept ready."""
    pool_idle_timeout: Milliseconds = Field(timedelta(minutes=1), alias="COS_DB_POOL_IDLE_TIMEOUT_MS")
    """How long a spare connection stays open unused; a plain number counts milliseconds."""
    pool_max_lifetime: Milliseconds = Field(timedelta(minutes=2), alias="COS_DB_POOL_MAX_LIFETIME_MS")
    """How long a connection is used before a new one takes its place; a plain number counts milliseconds."""
    sslmode: SslMode = Field(SslMode.PREFER, alias="COS_DB_SSLMODE")
    """How far the connection is secured."""
    sslrootcert: File | None = Field(None, alias="COS_DB_SSLROOTCERT")
    """The certificates to trust, for COS_DB_SSLMODE verify-ca and verify-full."""
    sslcert: File | None = Field(None, alias="COS_DB_SSLCERT")
    """The client certificate to show to the database."""
    sslkey: File | None = Field(None, alias="COS_DB_SSLKEY")
    """The key of the client certificate."""

    @property
    def is_embedded(self) -> bool:
        """Whether the service starts a database of its own."""
        return self.host is None


class Calls(Group):
    """How long things may take, and the channels on which handlers are called."""

    command_timeout: Seconds = Field(timedelta(seconds=5), alias="COS_COMMAND_HANDLER_TIMEOUT")
    """How long a command may take from its arrival to its reply; a plain number counts seconds."""
    handler_timeout: Milliseconds = Field(timedelta(minutes=1), alias="COS_GRPC_CALLS_TIMEOUT")
    """The longest a call of a handler may take; a plain number counts milliseconds."""
    keepalive_enabled: Flag = Field(False, alias="COS_GRPC_KEEPALIVE_ENABLED")
    """Whether channels to handlers are kept alive by pings; a server must allow them."""
    keepalive_time: Duration = Field(timedelta(minutes=2), alias="COS_GRPC_KEEPALIVE_TIME")
    """The time between two pings."""
    keepalive_timeout: Duration = Field(timedelta(minutes=1), alias="COS_GRPC_KEEPALIVE_TIMEOUT")
    """How long a ping may stay unanswered before the channel is given up."""
    keepalive_without_calls: Flag = Field(True, alias="COS_GRPC_KEEPALIVE_WITHOUT_CALLS")
    """Whether pings are sent while no call is running."""
    client_pool_size: Annotated[int, Field(ge=1, le=100)] = Field(1, alias="COS_GRPC_CLIENT_POOL_SIZE")
    """How many channels a process opens to one handler."""
    commands_at_once: Annotated[int, Field(ge=1, le=100_000)] = Field(5_000, alias="COS_MAX_COMMANDS")
    """How many commands one ingress process has in hand; the next are answered RESOURCE_EXHAUSTED."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = Field(
        32 * 1024 * 1024, alias="COS_HANDLER_MAX_MESSAGE_BYTES"
    )
    """The largest message to or from a handler, and so event with its state, in bytes; more is refused."""


class WriteSide(Group):
    """The application's write handler, and what is passed to and accepted from it."""

    host: Host | None = Field(None, alias="COS_WRITE_SIDE_HOST")
    """The write handler's host; required to serve, but for COS_WRITE_SIDE_HANDLER."""
    port: Port | None = Field(None, alias="COS_WRITE_SIDE_PORT")
    """The write handler's port; required to serve, but for COS_WRITE_SIDE_HANDLER."""
    protocol: HandlerProtocol = Field(HandlerProtocol.GRPC, alias="COS_WRITE_SIDE_PROTOCOL")
    """How the write handler is called."""
    use_tls: Flag = Field(False, alias="COS_WRITE_SIDE_USE_TLS")
    """Whether the write handler is called over TLS."""
    tls_ca_file: File | None = Field(None, alias="COS_WRITE_SIDE_TLS_CA_FILE")
    """The certificates (PEM) to trust the write handler by; unset: the system's."""
    tls_cert_file: File | None = Field(None, alias="COS_WRITE_SIDE_TLS_CERT_FILE")
    """The client certificate (PEM) to show to the write handler."""
    tls_key_file: File | None = Field(None, alias="COS_WRITE_SIDE_TLS_KEY_FILE")
    """The key (PEM) of the client certificate."""
    tls_server_name: Host | None = Field(None, alias="COS_WRITE_SIDE_TLS_SERVER_NAME")
    """The name the write handler's certificate is for, if that is not its host."""
    handler: Handler | None = Field(None, alias="COS_WRITE_SIDE_HANDLER")
    """A write handler in Python that runs inside the service, instead of host and port."""
    proto_validation: Flag = Field(False, alias="COS_WRITE_SIDE_PROTO_VALIDATION")
    """Whether only the event and state types named below are accepted from the write handler."""
    event_protos: Names = Field((), alias="COS_WRITE_SIDE_EVENT_PROTOS")
    """The full names of the event types to accept, separated by commas."""
    state_protos: Names = Field((), alias="COS_WRITE_SIDE_STATE_PROTOS")
    """The full names of the state types to accept, separated by commas."""
    propagated_headers: HeaderKeys = Field((), alias="COS_WRITE_SIDE_PROPAGATED_HEADERS")
    """The request headers to pass on to HandleCommand, separated by commas."""
    persisted_headers: HeaderKeys = Field((), alias="COS_WRITE_PERSISTED_HEADERS")
    """The request headers to store with events, separated by commas."""
    breaker_enabled: Flag = Field(False, alias="COS_WRITE_SIDE_BREAKER_ENABLED")
    """Whether calls stop for a while when the write handler keeps failing."""
    breaker_max_failures: BreakerFailures = Field(5, alias="COS_WRITE_SIDE_BREAKER_MAX_FAILURES")
    """How many failures in a row stop the calls."""
    breaker_call_timeout: Duration = Field(timedelta(minutes=1), alias="COS_WRITE_SIDE_BREAKER_CALL_TIMEOUT")
    """How long a call may take before the breaker counts it as failed."""
    breaker_reset_timeout: Duration = Field(
        timedelta(minutes=1), alias="COS_WRITE_SIDE_BREAKER_RESET_TIMEOUT"
    )
    """How long calls stay stopped before one is tried."""

    @property
    def target(self) -> Address:
        """Where the write handler is. Raises ConfigurationError when that was not said."""
        if self.host is None or self.port is None:
            raise ConfigurationError("COS_WRITE_SIDE_HOST and COS_WRITE_SIDE_PORT must be set")
        return Address(self.host, self.port)


class Entities(Group):
    """Where entities live, and for how long."""

    num_shards: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, alias="COS_NUM_SHARDS")
    """Into how many shards entities fall; unset: what the journal's tags say, 16 for a new one."""
    placement: Placement = Field(Placement.DEDICATED, alias="COS_ENTITY_PLACEMENT")
    """Where entities live: one process each, or many in each of a few."""
    max_live_actors: Count | None = Field(None, alias="COS_MAX_LIVE_ENTITY_ACTORS")
    """The most entities alive on one node with dedicated placement; unset: what its memory allows."""
    most_cpu_percent: Annotated[int, Field(ge=1, le=100)] = Field(85, alias="COS_AUTO_MAX_CPU_PERCENT")
    """How busy the CPUs may be for `auto` placement to give entities processes of their own; 100: always."""
    shard_actors: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, alias="COS_SHARD_ACTORS")
    """How many processes hold entities with sharded placement; unset: one for two CPUs of the cluster."""
    most_live_entities: Count = Field(100_000, alias="COS_SHARD_MAX_ENTITIES")
    """The most entities awake in one of these processes; those used longest ago make room."""
    most_live_octets: Annotated[int, Field(ge=1_000_000, le=10**12)] = Field(
        512 * 1024 * 1024, alias="COS_SHARD_MAX_BYTES"
    )
    """The most bytes that the states of awake entities take in one of these processes; likewise."""
    idle_after: Duration = Field(timedelta(minutes=2), alias="COS_PASSIVATION_IDLE_AFTER")
    """How long an entity may rest before it is passivated."""
    waiting_commands: Annotated[int, Field(ge=1, le=10_000)] = Field(500, alias="COS_MAX_WAITING_COMMANDS")
    """How many commands may wait for one entity; the next are answered RESOURCE_EXHAUSTED."""
    idempotency_ttl: Duration = Field(timedelta(hours=24), alias="COS_IDEMPOTENCY_TTL")
    """How long an idempotency key is remembered."""


class Retention(Group):
    """Snapshots, and what the journal may forget."""

    snapshot_frequency: Count = Field(100, alias="COS_SNAPSHOT_FREQUENCY")
    """How many events of an entity lie between two snapshots."""
    snapshots_kept: Count = Field(2, alias="COS_NUM_SNAPSHOTS_TO_RETAIN")
    """How many snapshots of an entity are kept."""
    snapshots_disabled: Flag = Field(False, alias="COS_DISABLE_SNAPSHOT")
    """Whether no snapshots are written."""
    logical_deletion: Flag = Field(False, alias="COS_JOURNAL_LOGICAL_DELETION")
    """Whether events that snapshots have made dispensable are deleted."""
    encryption_class: Text | None = Field(None, alias="COS_ENCRYPTION_CLASS")
    """A Java class of CoS that encrypts events."""


class ReadSides(Group):
    """What all read sides share; which there are is said in `read_sides`."""

    actors: Annotated[int, Field(ge=1, le=10_000)] = Field(1, alias="COS_READ_SIDE_ACTORS")
    """How many processes share the shards of one read side."""
    tls_ca_file: File | None = Field(None, alias="COS_READ_SIDE_TLS_CA_FILE")
    """The certificates (PEM) to trust read handlers by that use TLS; unset: the system's."""
    tls_cert_file: File | None = Field(None, alias="COS_READ_SIDE_TLS_CERT_FILE")
    """The client certificate (PEM) to show to read handlers that use TLS."""
    tls_key_file: File | None = Field(None, alias="COS_READ_SIDE_TLS_KEY_FILE")
    """The key (PEM) of the client certificate."""
    tls_server_name: Host | None = Field(None, alias="COS_READ_SIDE_TLS_SERVER_NAME")
    """The name the read handlers' certificates are for, if that is not their host."""
    breaker_enabled: Flag = Field(False, alias="COS_READ_SIDE_BREAKER_ENABLED")
    """Whether calls stop for a while when a read handler keeps failing."""
    breaker_max_failures: BreakerFailures = Field(5, alias="COS_READ_SIDE_BREAKER_MAX_FAILURES")
    """How many failures in a row stop the calls."""
    breaker_call_timeout: Duration = Field(timedelta(seconds=10), alias="COS_READ_SIDE_BREAKER_CALL_TIMEOUT")
    """How long a call may take before the breaker counts it as failed."""
    breaker_reset_timeout: Duration = Field(timedelta(minutes=1), alias="COS_READ_SIDE_BREAKER_RESET_TIMEOUT")
    """How long calls stay stopped before one is tried."""


class Logs(Group):
    """What is logged, and how."""

    level: LogLevel = Field(LogLevel.INFO, alias="LOG_LEVEL")
    """The least important lines to log (CoS: DEBUG)."""
    style: LogStyle = Field(LogStyle.JSON, alias="LOG_STYLE")
    """What a log line looks like."""


class Settings(Group):
    """All settings of the service, in groups."""

    service: Service = Service()
    database: Database = Database()
    calls: Calls = Calls()
    write_side: WriteSide = WriteSide()
    state_types: StateTypes = StateTypes()
    entities: Entities = Entities()
    retention: Retention = Retention()
    read_sides: ReadSides = ReadSides()
    subscriptions: Subscriptions = Subscriptions()
    admission: Admission = Admission()
    listeners: Listeners = Listeners()
    internal_tls: InternalTls = InternalTls()
    logs: Logs = Logs()
    traces: Traces = Traces()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """
        Build the settings from the environment and the file that COS_CONFIG names in it.

        Raises ConfigurationError with one line for each variable that is wrong.
        """
        found: dict[str, Group] = {}
        wrong: list[str] = []
        told, unreadable = with_secret(with_file(environment), "COS_DB_PASSWORD")
        wrong += unreadable
        for name, group in groups().items():
            try:
                found[name] = group.model_validate({v: told[v] for v in group.variables() if v in told})
            except ValidationError as error:
                wrong += complaints_of(group, error, told)
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        return cls.model_validate(found)


def groups() -> dict[str, type[Group]]:
    """The groups of settings, by their names in `Settings`."""
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group)
    }

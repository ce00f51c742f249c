"""Settings of what the ingress lets in, and streams out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cos_ray.config.values import Choice, Duration, File, Flag, Group, Milliseconds


class Subscriptions(Group):
    """Streams of live events."""

    enabled: Flag = Field(False, alias="COS_SUBSCRIPTION_ENABLED")
    """Whether clients may subscribe to events."""
    streams: Annotated[int, Field(ge=1, le=100_000)] = Field(5_000, alias="COS_MAX_SUBSCRIPTIONS")
    """How many subscriptions one ingress process serves; the next are answered RESOURCE_EXHAUSTED."""
    streams_per_client: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, alias="COS_MAX_SUBSCRIPTIONS_PER_CLIENT"
    )
    """How many of them one client may have, as far as clients can be told apart."""
    waiting_events: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, alias="COS_SUBSCRIPTION_WAITING_EVENTS"
    )
    """How many events may wait for a client that is slow to take them, before its stream is ended."""


class ListenerKind(Choice):
    """Who opens the public ports."""

    REPLICAS = "replicas"
    SERVE = "serve"


class TlsVersion(Choice):
    """The oldest version of TLS that is taken."""

    TLS_1_2 = "1.2"


class Listeners(Group):
    """The public ports, and what holds before a request is looked at; each replica counts for itself."""

    kind: ListenerKind = Field(ListenerKind.REPLICAS, alias="COS_INGRESS_LISTENER")
    """Who opens the public ports: the replicas themselves, or the proxies of Ray Serve, which know less."""
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(10_000, alias="COS_MAX_CONNECTIONS")
    """How many connections each port takes at once."""
    connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        5_000, alias="COS_MAX_CONNECTIONS_PER_ADDRESS"
    )
    """How many of them may come from one address, or one /64 of IPv6; a load balancer counts as one."""
    streams_per_connection: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, alias="COS_MAX_STREAMS_PER_CONNECTION"
    )
    """How many gRPC calls one connection carries at once; further ones wait at the client."""
    header_timeout: Duration = Field(timedelta(seconds=10), alias="COS_HEADER_TIMEOUT")
    """How long a new connection may take to begin with gRPC, or an HTTP request to its last header."""
    body_timeout: Duration = Field(timedelta(seconds=60), alias="COS_BODY_TIMEOUT")
    """How long the body of an HTTP request, or the message of a gRPC call, may take."""
    idle_timeout: Duration = Field(timedelta(minutes=5), alias="COS_CONNECTION_IDLE_TIMEOUT")
    """How long a connection may be without a request."""
    connection_age: Duration = Field(timedelta(minutes=1), alias="COS_MAX_CONNECTION_AGE")
    """
    After how long a gRPC client is asked to connect anew, so that new replicas get their share. A replica
    that is to be replaced goes on serving for as long as that.
    """
    unread_timeout: Duration = Field(timedelta(seconds=30), alias="COS_UNREAD_TIMEOUT")
    """How long a client may leave a message of a stream unread, before its stream is ended."""
    compression: Flag = Field(False, alias="COS_ALLOW_COMPRESSION")
    """Whether compressed gRPC messages are taken in."""
    tls_cert_file: File | None = Field(None, alias="COS_TLS_CERT_FILE")
    """The certificate (PEM) that clients see on both ports; unset: plain text. Read again when it changes."""
    tls_key_file: File | None = Field(None, alias="COS_TLS_KEY_FILE")
    """Its private key (PEM, without a password)."""
    tls_ca_file: File | None = Field(None, alias="COS_TLS_CLIENT_CA_FILE")
    """The certificates (PEM) by which clients' own ones are checked; unset: clients need none."""
    tls_min_version: TlsVersion = Field(TlsVersion.TLS_1_2, alias="COS_TLS_MIN_VERSION")
    """The oldest version of TLS; gRPC in Python knows no other lower bound."""
    drain_delay: Milliseconds | None = Field(None, alias="COS_INGRESS_DRAIN_DELAY")
    """
    How long a replica that is to be replaced says that it is not ready and still takes in connections, for
    load balancers to notice; unset: 10s where Ray Serve was told to deploy the service, else not at all.
    """


class Admission(Group):
    """What clients may ask for, and who they must be."""

    request_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = Field(
        32 * 1024 * 1024, alias="COS_MAX_REQUEST_BYTES"
    )
    """The largest request, in bytes; beyond it: RESOURCE_EXHAUSTED."""
    metadata_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = Field(
        16 * 1024, alias="COS_MAX_METADATA_BYTES"
    )
    """The largest metadata of a request, or its HTTP headers, in bytes; beyond it: RESOURCE_EXHAUSTED."""
    requests_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, alias="COS_MAX_REQUESTS_PER_SECOND"
    )
    """How many requests one client may send to one ingress process; unset: as many as it likes."""
    auth_file: File | None = Field(None, alias="COS_AUTH_FILE")
    """Who may call what, by bearer tokens and JSON Web Tokens; unset: anybody may call anything."""
    erasure_enabled: Flag = Field(False, alias="COS_ERASURE_ENABLED")
    """Whether entities may be erased for good, by EraseEntity."""


class InternalTls(Group):
    """TLS between the service's own processes on different machines; all three files, or none."""

    tls_cert_file: File | None = Field(None, alias="COS_INTERNAL_TLS_CERT_FILE")
    """
    The certificate (PEM) by which the service's processes know each other on other machines, the same path on
    each; unset: commands travel between machines in plain text. Read again when it changes.
    """
    tls_key_file: File | None = Field(None, alias="COS_INTERNAL_TLS_KEY_FILE")
    """Its private key (PEM, without a password)."""
    tls_ca_file: File | None = Field(None, alias="COS_INTERNAL_TLS_CA_FILE")
    """Its authority (PEM); whoever has a certificate of it is taken for a process of the service."""

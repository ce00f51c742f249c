"""What the ingress lets in, and how it answers: settings in the ingress's own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cos_ray.bootstrap.endpoints import tls_of
from cos_ray.config.access_file import read_access_file
from cos_ray.config.complaints import complaint
from cos_ray.config.door_settings import ListenerKind
from cos_ray.config.settings import ServerProtocol, Settings
from cos_ray.domain.errors import ConfigurationError
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.listener_settings import ListenerBounds, ListenerSettings
from cos_ray.protocol.any_form import AnyForms
from cos_ray.subscriptions.listener import Bounds
from cos_ray.subscriptions.subscriptions import SubscriptionPolicy

LOAD_BALANCERS_NOTICE = 10.0
"""Seconds in which they send nothing more to a replica that is not ready; see COS_INGRESS_DRAIN_DELAY."""


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """What an ingress replica must know beside the way to entities; light to pickle."""

    subscriptions: SubscriptionPolicy | None = None
    """None: switched off."""
    http: HttpPolicy = field(default_factory=HttpPolicy)
    descriptor_sets: tuple[bytes, ...] = ()
    """The application's compiled protos."""
    erasure: bool = False
    """Whether entities may be erased."""
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    listeners: ListenerSettings | None = None
    """None: Ray Serve's proxies listen."""


def ingress_settings_of(settings: Settings, *, is_deployed: bool = False) -> IngressSettings:
    """
    The ingress_settings that the settings ask for; `faults_of_doors` has to have found nothing.

    `is_deployed`: whether Ray Serve was told to deploy the service, and nobody launches it.
    """
    service, write_side = settings.service, settings.write_side
    watched = {*write_side.propagated_headers, *write_side.persisted_headers}
    return IngressSettings(
        subscriptions=_subscriptions(settings),
        http=HttpPolicy(
            api=service.protocol is not ServerProtocol.GRPC,
            largest_body=settings.admission.request_bytes,
            watched_headers=frozenset(name.lower() for name in watched),
            tokens=settings.admission.auth_file is not None,
        ),
        descriptor_sets=tuple(path.read_bytes() for path in service.descriptor_sets),
        erasure=settings.admission.erasure_enabled,
        admission=_admission(settings),
        listeners=_listeners(settings, is_deployed),
    )


def faults_of_ingress_settings(settings: Settings) -> Sequence[str]:
    """A line for each file that cannot be used."""
    lines = _faults_of_descriptor_sets(settings)
    try:
        _admission(settings)
    except ConfigurationError as error:
        lines.append(str(error))
    return lines


def _admission(settings: Settings) -> AdmissionPolicy:
    wanted = settings.admission
    return AdmissionPolicy(
        grpc=settings.service.protocol is not ServerProtocol.HTTP,
        request_bytes=wanted.request_bytes,
        metadata_bytes=wanted.metadata_bytes,
        requests_per_second=wanted.requests_per_second,
        access=None if wanted.auth_file is None else read_access_file(wanted.auth_file),
    )


def _listeners(settings: Settings, is_deployed: bool) -> ListenerSettings | None:
    service, wanted, admission = settings.service, settings.listeners, settings.admission
    if wanted.kind is ListenerKind.SERVE:
        return None
    bounds = ListenerBounds(
        connections=wanted.connections,
        connections_per_address=wanted.connections_per_address,
        streams_per_connection=wanted.streams_per_connection,
        header_seconds=wanted.header_timeout.total_seconds(),
        body_seconds=wanted.body_timeout.total_seconds(),
        idle_seconds=wanted.idle_timeout.total_seconds(),
        age_seconds=wanted.connection_age.total_seconds(),
        unread_seconds=wanted.unread_timeout.total_seconds(),
        request_bytes=admission.request_bytes,
        metadata_bytes=admission.metadata_bytes,
        compression=wanted.compression,
    )
    timeout = settings.calls.command_timeout.total_seconds()
    delay = LOAD_BALANCERS_NOTICE if is_deployed else 0.0
    return ListenerSettings(
        drain_delay=delay if wanted.drain_delay is None else wanted.drain_delay.total_seconds(),
        # A service that is launched ends within 30 s, as operators are told.
        grace=timeout + 1.0 if is_deployed else min(timeout + 1.0, 6.0),
        grpc_host=service.address,
        grpc_port=service.port,
        http_host=service.http_address or service.address,
        http_port=service.http_port,
        tls=tls_of(wanted),
        bounds=bounds,
    )


def _faults_of_descriptor_sets(settings: Settings) -> list[str]:
    sets, lines = [], []
    for path in settings.service.descriptor_sets:
        try:
            sets.append(path.read_bytes())
        except OSError as error:
            reason = f"a file that can be read ({error.strerror})"
            lines.append(complaint("COS_DESCRIPTOR_SETS", str(path), reason))
    try:
        AnyForms(sets)
    except ValueError as error:
        told = ",".join(map(str, settings.service.descriptor_sets))
        allowed = f"files of `protoc --descriptor_set_out --include_imports` (one {error})"
        lines.append(complaint("COS_DESCRIPTOR_SETS", told, allowed))
    return lines


def _subscriptions(settings: Settings) -> SubscriptionPolicy | None:
    wanted = settings.subscriptions
    if not wanted.enabled:
        return None
    return SubscriptionPolicy(
        streams=wanted.streams,
        streams_per_client=wanted.streams_per_client,
        bounds=Bounds(events=wanted.waiting_events),
    )

"""
What this release makes of the settings: what it needs, cannot do yet, or has no use for.

Every variable of CoS is accepted; none that matters is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from cos_ray.config.complaints import complaint
from cos_ray.config.door_settings import InternalTls, ListenerKind
from cos_ray.config.environment import CONFIG
from cos_ray.config.settings import Settings, WriteSide, groups
from cos_ray.config.values import Group

IGNORED = {"COS_DEPLOYMENT_MODE", "COS_REPLICA_COUNT", "POD_IP", "COS_KUBERNETES_APP_LABEL"}
"""CoS's variables for forming a cluster, which Ray does here."""

READ_SIDE_SETTING = "COS_READ_SIDE_CONFIG__"
"""How variables of one read side begin; they are read, and complained about, in `read_sides`."""

READ_SIDE_VARIABLES = {"COS_READ_SIDE_ENABLED", "COS_READ_SIDE_CONFIG"}

COMMANDS_OWN = {
    "COS_TOKEN",
    "COS_TOKEN_FILE",
    "COS_TLS_CA_FILE",
    "COS_TLS_CLIENT_CERT_FILE",
    "COS_TLS_CLIENT_KEY_FILE",
    "COS_TLS_SERVER_NAME",
}
"""What commands show to a running service; no setting of the service, but at home in the same shell."""


_OF_TLS = "COS_WRITE_SIDE_TLS_"
_OF_A_CONNECTION = (
    "COS_WRITE_SIDE_HOST",
    "COS_WRITE_SIDE_PORT",
    "COS_WRITE_SIDE_PROTOCOL",
    "COS_WRITE_SIDE_USE_TLS",
    _OF_TLS,
)


def missing(told: Mapping[str, str]) -> list[str]:
    """A line for each variable that serving needs and nobody set."""
    if "COS_WRITE_SIDE_HANDLER" in told:
        return []
    needed = {"COS_WRITE_SIDE_HOST": "host", "COS_WRITE_SIDE_PORT": "port (1 to 65535)"}
    return [
        f"{variable} is not set, but needed: the {what} of your write handler"
        for variable, what in needed.items()
        if variable not in told
    ]


def contradictions(settings: Settings, told: Mapping[str, str]) -> list[str]:
    """A line for each setting that another one leaves without a meaning."""
    lines = []
    if settings.write_side.handler is not None:
        network = [variable for variable in WriteSide.variables() if variable.startswith(_OF_A_CONNECTION)]
        allowed = "leaving it out, for COS_WRITE_SIDE_HANDLER runs inside the service"
        lines += [complaint(v, told[v], allowed) for v in network if v in told]
    groups_with_tls = [settings.read_sides, settings.listeners]
    if settings.write_side.handler is None:
        groups_with_tls.insert(0, settings.write_side)
    for side in groups_with_tls:
        variables = {field: variable for variable, field in side.variables().items()}
        certificate, key = variables["tls_cert_file"], variables["tls_key_file"]
        for one, other in ((certificate, key), (key, certificate)):
            if one in told and other not in told:
                lines.append(complaint(one, told[one], f"setting {other} as well"))
    if settings.service.ray_address is not None and "COS_METRICS_PORT" in told:
        allowed = "leaving it out with RAY_ADDRESS: each node of a cluster has metrics of its own"
        lines.append(complaint("COS_METRICS_PORT", told["COS_METRICS_PORT"], allowed))
    lines += _contradictions_of_listeners(settings, told) + _incomplete(InternalTls, told)
    if not settings.write_side.use_tls and settings.write_side.handler is None:
        needless = [variable for variable in WriteSide.variables() if variable.startswith(_OF_TLS)]
        allowed = "leaving it out, or COS_WRITE_SIDE_USE_TLS=true"
        lines += [complaint(v, told[v], allowed) for v in needless if v in told]
    return lines


def _contradictions_of_listeners(settings: Settings, told: Mapping[str, str]) -> list[str]:
    lines = []
    service = settings.service
    if settings.listeners.kind is ListenerKind.SERVE and service.http_address not in (None, service.address):
        allowed = f"the same as COS_ADDRESS ({service.address}) with COS_INGRESS_LISTENER=serve"
        lines.append(complaint("COS_HTTP_ADDRESS", str(service.http_address), allowed))
    if "COS_TLS_CLIENT_CA_FILE" in told and "COS_TLS_CERT_FILE" not in told:
        allowed = "setting COS_TLS_CERT_FILE and COS_TLS_KEY_FILE as well"
        lines.append(complaint("COS_TLS_CLIENT_CA_FILE", told["COS_TLS_CLIENT_CA_FILE"], allowed))
    if settings.listeners.kind is ListenerKind.SERVE and "COS_TLS_CERT_FILE" in told:
        allowed = "leaving it out with COS_INGRESS_LISTENER=serve: Ray Serve speaks plain text"
        lines.append(complaint("COS_TLS_CERT_FILE", told["COS_TLS_CERT_FILE"], allowed))
    return lines


def _incomplete(group: type[Group], told: Mapping[str, str]) -> list[str]:
    """A line for each variable of a group that means nothing without the others."""
    there = [variable for variable in group.variables() if variable in told]
    lacking = [variable for variable in group.variables() if variable not in told]
    if not there or not lacking:
        return []
    allowed = f"setting {' and '.join(lacking)} as well"
    return [complaint(variable, told[variable], allowed) for variable in there]


def unsupported(settings: Settings) -> list[str]:
    """A line for each setting that asks for something this release cannot do."""
    retention = settings.retention
    asked = [
        (
            retention.encryption_class is not None,
            "COS_ENCRYPTION_CLASS",
            retention.encryption_class or "",
            "leaving it out",
        ),
    ]
    return [
        f"{variable} is {value!r}, which is not available in this release; allowed: {instead}"
        for is_asked, variable, value, instead in asked
        if is_asked
    ]


def notices(told: Mapping[str, str], in_file: Collection[str] = ()) -> list[str]:
    """
    Lines to log about variables that have no effect: CoS's own, and names nobody knows.

    `in_file`: those of them that the file of COS_CONFIG names.
    """
    lines = []
    if ignored := sorted(IGNORED.intersection(told)):
        lines.append(f"accepted and ignored: {', '.join(ignored)}")
    known = known_variables()
    for variable in sorted(told):
        if (
            variable.startswith("COS_")
            and variable not in known
            and not variable.startswith(READ_SIDE_SETTING)
        ):
            near = get_close_matches(variable, known, n=1)
            lines.append(f"unknown variable {variable}" + (f"; did you mean {near[0]}?" if near else ""))
    # In the environment there is much that is not meant for us; in our file there is not.
    needless = [v for v in sorted(in_file) if not v.startswith(("COS_", "OTEL_")) and v not in known]
    return lines + [f"unknown variable {variable} in the file of {CONFIG}" for variable in needless]


def known_variables() -> set[str]:
    """Every variable that is understood, but for the patterned ones of single read sides."""
    ours = {variable for group in groups().values() for variable in group.variables()}
    return ours | READ_SIDE_VARIABLES | COMMANDS_OWN | IGNORED | {CONFIG}

"""
Every metric there is: what it is called, what it means, and the few labels it has.

Prometheus sees them with `ray_` before the name and, but for gauges, `_total` after it. A histogram
named `x` is three counters: `x_bucket` (by `le`, each bucket with all smaller ones), `x_sum` and
`x_count`. Why not one of Ray's own histograms: see `cos_ray.cluster.metrics_export`.
"""

from __future__ import annotations

from cos_ray.telemetry.meters import Kind, Metric

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, for what a client waits for."""

_LONG_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 3600.0),
)
"""Seconds, for what may be put off."""

COMMANDS = Metric(
    "cos_commands",
    Kind.COUNTER,
    "Commands answered: accepted, or refused with a gRPC code.",
    ("outcome",),
)
STAGE_SECONDS = Metric(
    "cos_command_stage_seconds",
    Kind.HISTOGRAM,
    "How long a step of a command took: queue, recover, handle_command (with handle_event, where both are "
    "asked in one trip), handle_event, append; total is all of it, as the ingress sees it.",
    ("stage",),
    _BOUNDS,
)
IN_PROGRESS = Metric(
    "cos_commands_in_progress", Kind.GAUGE, "Commands that an ingress process has taken in and not answered."
)
TURNED_AWAY = Metric(
    "cos_requests_turned_away",
    Kind.COUNTER,
    "Requests of any kind that were not let in: too large, too many, not allowed.",
    ("code",),
)
REFUSALS = Metric(
    "cos_refusals",
    Kind.COUNTER,
    "Connections and requests that the public ports did not take in, by port (grpc, http) and cause.",
    ("port", "cause"),
)
LIVE_ENTITIES = Metric("cos_live_entities", Kind.GAUGE, "Entities in memory.")
LIVE_OCTETS = Metric(
    "cos_live_entity_bytes", Kind.GAUGE, "About how much memory live entities take, with sharded placement."
)
ACTIVATIONS = Metric("cos_activations", Kind.COUNTER, "Entities woken.")
PASSIVATIONS = Metric("cos_passivations", Kind.COUNTER, "Entities that left memory, being idle or too many.")
CONFLICTS = Metric(
    "cos_revision_conflicts",
    Kind.COUNTER,
    "Appends lost to another copy of the same entity, then tried again.",
)
TYPE_REFUSALS = Metric(
    "cos_state_type_refusals",
    Kind.COUNTER,
    "Commands refused, for they would have led to a state of another type that nobody declared.",
)
TYPE_CHANGES = Metric(
    "cos_state_type_changes",
    Kind.COUNTER,
    "Pairs of state types, the one after the other, that the journal holds since now; grounds: declared, "
    "allowed, warned (by COS_TYPE_CHANGES), or held before they were watched.",
    ("grounds",),
)
BATCH_SECONDS = Metric(
    "cos_journal_batch_seconds",
    Kind.HISTOGRAM,
    "How long the database took to store one batch of appends.",
    (),
    _BOUNDS,
)
BATCH_APPENDS = Metric(
    "cos_journal_batch_appends",
    Kind.HISTOGRAM,
    "How many appends travelled together.",
    (),
    (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
)
WAITING_APPENDS = Metric(
    "cos_journal_waiting_appends", Kind.GAUGE, "Appends that are asked for and not answered."
)
JOURNAL_FAILURES = Metric(
    "cos_journal_failures",
    Kind.COUNTER,
    "Appends that failed for the database's sake: unavailable (surely not stored) or unknown.",
    ("outcome",),
)
DELIVERIES = Metric(
    "cos_read_side_deliveries", Kind.COUNTER, "Events confirmed by the read handler.", ("read_side",)
)
DELIVERY_FAILURES = Metric(
    "cos_read_side_failures", Kind.COUNTER, "Calls that the read handler did not confirm.", ("read_side",)
)
RETRIES = Metric(
    "cos_read_side_retries", Kind.COUNTER, "Deliveries of events that had failed before.", ("read_side",)
)
PARKED = Metric("cos_read_side_parked", Kind.COUNTER, "Events set aside as dead letters.", ("read_side",))
SKIPPED = Metric(
    "cos_read_side_skipped", Kind.COUNTER, "Events stepped over, by policy or by an operator.", ("read_side",)
)
READ_HANDLER_SECONDS = Metric(
    "cos_read_side_handler_seconds",
    Kind.HISTOGRAM,
    "How long the read handler took for one call.",
    ("read_side",),
    _BOUNDS,
)
DELAY_SECONDS = Metric(
    "cos_read_side_delay_seconds",
    Kind.HISTOGRAM,
    "From the making of an event to its confirmation by the read handler.",
    ("read_side",),
    _LONG_BOUNDS,
)
LAG_EVENTS = Metric(
    "cos_read_side_lag_events",
    Kind.GAUGE,
    "Events in the journal that the read side has not got behind it (at most 10,000 are counted in a shard).",
    ("read_side",),
)
LAG_SECONDS = Metric(
    "cos_read_side_lag_seconds",
    Kind.GAUGE,
    "How long the oldest of these events has waited; 0 without any.",
    ("read_side",),
)
READ_SIDE_SHARDS = Metric(
    "cos_read_side_shards",
    Kind.GAUGE,
    "Shards of the read side in each state: starting, running, retrying, stalled, paused, stopped, unknown.",
    ("read_side", "state"),
)
DEAD_LETTERS = Metric(
    "cos_read_side_dead_letters", Kind.GAUGE, "Events that are set aside now.", ("read_side",)
)
SUBSCRIPTIONS = Metric("cos_subscriptions", Kind.GAUGE, "Open subscriptions.")
SUBSCRIPTION_EVENTS = Metric("cos_subscription_events", Kind.COUNTER, "Events handed to subscribers.")
SUBSCRIPTIONS_CUT = Metric(
    "cos_subscriptions_cut", Kind.COUNTER, "Subscribers cut off, for they took their events too slowly."
)
BREAKER_OPEN = Metric(
    "cos_breaker_open",
    Kind.GAUGE,
    "Processes whose circuit breaker is open: the handler is left alone for a while.",
    ("handler",),
)

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in this order."""


def exposed_names(metric: Metric) -> tuple[str, ...]:
    """What Prometheus calls it."""
    match metric.kind:
        case Kind.COUNTER:
            return (f"ray_{metric.name}_total",)
        case Kind.GAUGE:
            return (f"ray_{metric.name}",)
        case Kind.HISTOGRAM:
            return tuple(f"ray_{metric.name}_{part}_total" for part in ("bucket", "sum", "count"))

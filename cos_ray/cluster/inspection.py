"""Looks at a running cluster from outside, as `ray list actors` does."""

from __future__ import annotations

from collections.abc import Sequence

from ray.util.state import StateApiClient
from ray.util.state.common import ActorState, ListApiOptions, StateResource

from cos_ray.cluster.names import entity_actor_name
from cos_ray.domain.ids import EntityId

MOST = 10_000
"""How many actors are listed at the most."""


def living_actors(dashboard: str, token: str | None, name: str | None = None) -> Sequence[ActorState]:
    """Actors that live, by the cluster's dashboard; `token`: its RAY_AUTH_TOKEN, if it asks for one."""
    # Passed on by hand: Ray itself would take one from this process's environment, and keep it for good.
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    client = StateApiClient(dashboard, headers={"Content-Type": "application/json", **headers})
    filters = [("state", "=", "ALIVE"), *([] if name is None else [("name", "=", name)])]
    options = ListApiOptions(limit=MOST, filters=filters, detail=True)
    found: Sequence[ActorState] = client.list(StateResource.ACTORS, options, raise_on_missing_output=True)
    return found


def pids_of_entity(dashboard: str, token: str | None, entity_id: EntityId) -> list[int]:
    """The processes of an entity's live actors; normally one."""
    found = living_actors(dashboard, token, entity_actor_name(entity_id))
    return [actor.pid for actor in found if actor.pid]

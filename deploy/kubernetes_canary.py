"""The objects of a canary in Kubernetes, made of those of the overlay."""

import copy
from collections.abc import Sequence
from typing import Any

from deploy.target import DeployError

NAME = "cats-vs-dogs"
"""Of the namespace, the Deployment, the Service, the ConfigMap and the HTTPRoute."""
CANARY = f"{NAME}-canary"
"""Of the candidate's Deployment and Service, and the label of its pods."""
ANNOTATION = "cats-vs-dogs/deployment"
"""Holds the setting DEPLOYMENT of a Deployment's pods."""
_LABEL = "app.kubernetes.io/name"
_COPIED = ("Deployment", "NetworkPolicy")
_Object = dict[str, Any]


def manifests(overlay: Sequence[_Object], replicas: int, deployment: str) -> _Object:
    """Return a List with the candidate's Deployment and what it needs, and the route, without traffic for it.

    Args:
        overlay: the objects of the overlay, with the candidate's image and variables.
        replicas: of the candidate: as many as are live, because it may get half of the traffic.
        deployment: the setting DEPLOYMENT.

    Raises:
        DeployError: the overlay has no HTTPRoute and no Service for a candidate.
    """
    named = {(one["kind"], one["metadata"]["name"]): one for one in overlay}
    try:
        shared = [named["HTTPRoute", NAME], named["Service", CANARY]]
    except KeyError:
        raise DeployError("--canary: the overlay needs the component deploy/k8s/components/canary") from None
    shared += [one for (kind, _), one in named.items() if kind == "ConfigMap"]
    copies = [_renamed(one) for (kind, name), one in named.items() if name == NAME and kind in _COPIED]
    for one in copies:
        if one["kind"] == "Deployment":
            one["metadata"]["annotations"] = {ANNOTATION: deployment}
            one["spec"]["replicas"] = replicas
    return {"apiVersion": "v1", "kind": "List", "items": [*shared, *copies]}


def weights(percent: int) -> list[_Object]:
    """Return a JSON patch of the HTTPRoute that gives the candidate this share."""
    return [
        {"op": "replace", "path": f"/spec/rules/0/backendRefs/{number}/weight", "value": weight}
        for number, weight in enumerate((100 - percent, percent))
    ]


def share_of(route: _Object) -> int:
    """Return the candidate's share of the traffic, in percent."""
    return int(route["spec"]["rules"][0]["backendRefs"][1].get("weight", 1))


def _renamed(one: _Object) -> _Object:
    """Return a copy for the candidate: with its name, and its label in every selector."""

    def relabel(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: CANARY if (key, value) == (_LABEL, NAME) else relabel(value)
                for key, value in part.items()
            }
        return [relabel(item) for item in part] if isinstance(part, list) else part

    renamed: _Object = relabel(copy.deepcopy(one))
    renamed["metadata"]["name"] = CANARY
    return renamed

"""What a gateway took over of an HTTPRoute."""

from __future__ import annotations

from sluice_cluster.cluster import Document, NotApplied


def split_of(routes: list[Document], name: str) -> tuple[dict[str, int], int]:
    """
    Weight by service of the route with this name, and the mirror's percent; no route is no traffic.

    Raises:
        NotApplied: a gateway has not taken its newest generation over, or its rules split differently.
    """
    route = next((each for each in routes if each["metadata"]["name"] == name), None)
    if route is None:
        return {}, 0
    parents = route.get("status", {}).get("parents", [])
    for wanted in ("Accepted", "ResolvedRefs"):
        if not parents or not all(_holds(parent, wanted, route["metadata"]["generation"]) for parent in parents):
            raise NotApplied(
                f"route {name}", f"its newest generation is not {wanted} by its gateway", "wait, or see it"
            )
    (weights, mirror), *others = [_rule(rule) for rule in route["spec"]["rules"]]
    if any(other != (weights, mirror) for other in others):
        raise NotApplied(f"route {name}", "its rules split the traffic differently", "see who changed it")
    return weights, mirror


def _rule(rule: Document) -> tuple[dict[str, int], int]:
    mirrors = [each["requestMirror"]["percent"] for each in rule.get("filters", []) if each["type"] == "RequestMirror"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}, sum(mirrors)


def _holds(parent: Document, wanted: str, generation: int) -> bool:
    return any(
        each["type"] == wanted and each["status"] == "True" and each.get("observedGeneration", generation) == generation
        for each in parent.get("conditions", [])
    )

"""What a gateway took over of an HTTPRoute."""

from __future__ import annotations

from fractions import Fraction

from sluice_cluster.cluster import NotApplied, Resource


def split_of(routes: list[Resource], name: str) -> tuple[dict[str, int], int]:
    """
    Weight by service of the route with this name, and the mirror's percent; no route is no traffic.

    Raises:
        NotApplied: a gateway has not taken its newest generation over, its rules split differently, or it mirrors more
            than once or by no whole percent.
    """
    route = next((each for each in routes if each["metadata"]["name"] == name), None)
    if route is None:
        return {}, 0
    if lack := awaited(route):
        kind = lack.partition(":")[0]
        raise NotApplied(f"route {name}", f"its newest generation is not {kind} by its gateway", "wait, or see it")
    (weights, mirrors), *others = [_rule(rule) for rule in route["spec"]["rules"]]
    if any(other != (weights, mirrors) for other in others):
        raise NotApplied(f"route {name}", "its rules split the traffic differently", "see who changed it")
    percent = mirrors[0] if mirrors else Fraction(0)
    if len(mirrors) > 1 or percent.denominator > 1:
        shares = " and ".join(f"{float(each):g} %" for each in mirrors)
        raise NotApplied(f"route {name}", f"it mirrors {shares}, not one whole percent", "see who changed it")
    return weights, percent.numerator


def awaited(route: Resource) -> str:
    """What a route's newest generation still lacks of its gateway, and what that says of it; empty where nothing."""
    parents = route.get("status", {}).get("parents", [])
    if not parents:
        return "Accepted: no gateway says anything of it"
    for kind in ("Accepted", "ResolvedRefs"):
        for parent in parents:
            if not _holds(parent, kind, route["metadata"]["generation"]):
                said = [each.get("message", "") for each in parent.get("conditions", []) if each["type"] == kind]
                return f"{kind}: {' '.join(said) or 'its gateway says nothing of it'}"
    return ""


def _rule(rule: Resource) -> tuple[dict[str, int], list[Fraction]]:
    mirrors = [_percent(each["requestMirror"]) for each in rule.get("filters", []) if each["type"] == "RequestMirror"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}, mirrors


def _percent(mirror: Resource) -> Fraction:
    """Of the requests; the API takes ``percent`` or ``fraction``, and neither is all of them."""
    if fraction := mirror.get("fraction"):
        return Fraction(100 * fraction["numerator"], fraction.get("denominator", 100))
    return Fraction(mirror.get("percent", 100))


def _holds(parent: Resource, kind: str, generation: int) -> bool:
    return any(
        each["type"] == kind and each["status"] == "True" and each.get("observedGeneration", generation) == generation
        for each in parent.get("conditions", [])
    )

"""
Messages to a shop, written by rules from a seed, with what they complain of.

A message has clauses: a thing and its trouble, which is a complaint, or a thing that is fine, which is none. Many
troubles belong to two subjects, so that the thing decides. Some answer an earlier mail of the shop, which they quote
below their own words; what is quoted is no complaint. Words have typos, and a few labels are wrong.

Days differ: couriers strike on some, the login is down on others. A day depends on the seed and its date alone, by
``random.Random(text).random()``, which Python keeps the same over its versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar

SEED = 20240501
LABELS = ("billing", "delivery", "login", "damaged")
QUOTE = "\n> "
"""Where the quoted mail begins."""
LONGEST = 600
"""Characters; no message has as many."""
CHANNELS = ("mail", "chat", "app")
_A_DAY = 110
_WRONG_LABELS = 0.03
_TYPO = 0.04
_QUOTED = 0.3
_STRIKE, _OUTAGE = 0.1, 0.18
"""Days below the first have a strike, those between the two an outage."""

_THINGS: Mapping[str, Sequence[str]] = {
    "billing": ("invoice", "bill", "refund", "payment", "card", "voucher", "direct debit", "receipt"),
    "delivery": ("parcel", "order", "courier", "package", "shipment", "driver", "tracking", "pick-up"),
    "login": ("account", "app", "password", "code", "page", "sign-in", "profile", "reset mail"),
    "damaged": ("cup", "lamp", "screen", "chair", "vase", "kettle", "mirror", "shelf"),
}
_OWN_TROUBLES: Mapping[str, Sequence[str]] = {
    "billing": ("is too high", "was taken twice", "does not add up", "has the wrong amount"),
    "delivery": ("is late again", "went to a neighbour", "has not moved for days", "rang at no door"),
    "login": ("locked me out", "does not know me", "logs me out", "expired at once"),
    "damaged": ("came in pieces", "has a crack", "is bent", "leaks", "is scratched all over"),
}
_SHARED_TROUBLES: Mapping[frozenset[str], Sequence[str]] = {
    frozenset({"billing", "delivery"}): ("is still missing", "was cancelled by you"),
    frozenset({"login", "damaged"}): ("is broken", "does not work"),
    frozenset({"delivery", "login"}): ("never came", "cannot be found"),
    frozenset({"billing", "damaged"}): ("is not what was agreed", "has been exchanged wrongly"),
}
_FINE = ("is fine", "was perfect", "works now, thanks", "is sorted", "is all right")
_OWNERS = ("my", "the", "our", "that")
_GREETINGS = ("", "", "hello,", "hi there,", "dear team,", "good morning,")
_NOISE = (
    "I wrote before.",
    "order number follows.",
    "please call me back.",
    "this is the second time!",
    "kind regards.",
    "sent from my phone",
    "I am a customer since 2009.",
    "what are your hours?",
    "thank you very much",
)
_QUOTING = ("you wrote about", "we are sorry that", "our answer on")
_CHANNEL_OF: Mapping[str, tuple[float, float]] = {
    "billing": (0.65, 0.2),
    "delivery": (0.3, 0.5),
    "login": (0.15, 0.2),
    "damaged": (0.45, 0.15),
}
"""Shares of mail and chat by the first complaint; the rest writes in the app."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Message:
    """One message; ``labels`` in the order of ``LABELS``, none where nothing is complained of."""

    message_id: str
    written: datetime
    answered: datetime
    text: str
    channel: str
    labels: tuple[str, ...]


def messages_of(day: datetime) -> list[Message]:
    """Those of the day that begins at ``day`` (midnight, UTC), by time."""
    random = Random(f"{SEED} {day:%Y-%m-%d}")  # noqa: S311  a stated seed is the point
    happening = random.random()
    weights = dict(zip(LABELS, (3.0, 3.0, 2.0, 2.0), strict=True))
    count = _A_DAY * (0.6 if day.weekday() > 4 else 1.0) * (0.85 + 0.3 * random.random())
    if happening < _STRIKE:
        weights["delivery"] *= 6
        count *= 1.5
    elif happening < _OUTAGE:
        weights["login"] *= 6
        count *= 1.2
    minutes = sorted(_minute(random) for _ in range(int(count)))
    return [_write(random, f"m-{day:%y%m%d}-{place:03d}", day, minute, weights) for place, minute in enumerate(minutes)]


def messages_between(start: datetime, end: datetime) -> Iterator[Message]:
    """Those written in ``[start, end)``, by time."""
    day = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        yield from (message for message in messages_of(day) if start <= message.written < end)
        day += timedelta(days=1)


def _minute(random: Random) -> float:
    """More at noon than at night."""
    return 1440 * (random.random() + random.random()) / 2


def _write(random: Random, name: str, day: datetime, minute: float, weights: Mapping[str, float]) -> Message:
    complaints = _complaints(random, weights)
    clauses = [f"{_thing(random, one)} {_trouble(random, one)}" for one in complaints]
    fine = [one for one in LABELS if one not in complaints]
    clauses += [
        f"{_thing(random, _pick(random, fine))} {_pick(random, _FINE)}"
        for _ in range(max(_up_to(random, 2), not complaints))
    ]
    _shuffle(random, clauses)
    words = [_pick(random, _GREETINGS), (", and " if random.random() < 0.4 else ". ").join(clauses) + "."]
    words += [_pick(random, _NOISE) for _ in range(_up_to(random, 3))]
    text = _misspelt(random, " ".join(each for each in words if each))
    if random.random() < _QUOTED:
        text += QUOTE + _quoted(random, weights)
    labels = _flipped(random, complaints) if random.random() < _WRONG_LABELS else complaints
    written = day + timedelta(minutes=minute)
    answered = written + timedelta(hours=2 + 8 * random.random())
    return Message(name, written, answered, text, _channel(random, complaints), labels)


def _complaints(random: Random, weights: Mapping[str, float]) -> tuple[str, ...]:
    """None in one of seven, one mostly, two or three."""
    share = random.random()
    wanted = 0 if share < 0.14 else 1 if share < 0.64 else 2 if share < 0.92 else 3
    chosen: set[str] = set()
    while len(chosen) < wanted:
        chosen.add(_weighted(random, weights))
    return tuple(one for one in LABELS if one in chosen)


def _thing(random: Random, subject: str) -> str:
    return f"{_pick(random, _OWNERS)} {_pick(random, _THINGS[subject])}"


def _trouble(random: Random, subject: str) -> str:
    shared = [each for subjects, troubles in _SHARED_TROUBLES.items() if subject in subjects for each in troubles]
    return _pick(random, shared if random.random() < 0.6 else _OWN_TROUBLES[subject])


def _quoted(random: Random, weights: Mapping[str, float]) -> str:
    """A mail of the shop: of any subject, whatever the message is of."""
    subject = _weighted(random, weights)
    return f"{_pick(random, _QUOTING)} {_thing(random, subject)} {_trouble(random, subject)}. your service team"


def _misspelt(random: Random, text: str) -> str:
    """Some words lose a letter, or have two change places."""
    return " ".join(_slip(random, word) if random.random() < _TYPO else word for word in text.split(" "))


def _slip(random: Random, word: str) -> str:
    if len(word) < 4:
        return word
    at = 1 + int(random.random() * (len(word) - 2))
    swap = random.random() < 0.5
    return word[:at] + (word[at + 1] + word[at] + word[at + 2 :] if swap else word[at + 1 :])


def _flipped(random: Random, labels: tuple[str, ...]) -> tuple[str, ...]:
    """A label more, or one less: a person who reads in a hurry."""
    slip = _pick(random, LABELS)
    return tuple(one for one in LABELS if (one in labels) != (one == slip))


def _channel(random: Random, complaints: tuple[str, ...]) -> str:
    mail, chat = _CHANNEL_OF[complaints[0]] if complaints else (0.4, 0.3)
    share = random.random()
    return "mail" if share < mail else "chat" if share < mail + chat else "app"


def _weighted(random: Random, weights: Mapping[str, float]) -> str:
    left = random.random() * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return LABELS[-1]


def _pick(random: Random, items: Sequence[_Item]) -> _Item:
    return items[int(random.random() * len(items))]


def _up_to(random: Random, most: int) -> int:
    """0 … most, each as likely."""
    return int(random.random() * (most + 1))


def _shuffle(random: Random, items: list[str]) -> None:
    for last in range(len(items) - 1, 0, -1):
        other = int(random.random() * (last + 1))
        items[last], items[other] = items[other], items[last]

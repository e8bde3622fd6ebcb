"""
Every error that a user can meet, in one place.

    SluiceError                 exit 2: the input is wrong; one line says what, which rule, and the fix
    ├── BadInput                a file, span, config, request or argument breaks its contract
    ├── BadArtifact             a bundle, release file or record is not what its digest or schema says
    ├── Busy                    somebody else holds the lock; says who
    ├── Unavailable             a store that this needs does not answer, or refuses; exit 1
    └── Refused                 a valid request that a rule forbids (a hold, a known-later feature); exit 3
"""

from __future__ import annotations

_LONGEST, _LONGEST_THING = 420, 210


def _shown(text: str, most: int = _LONGEST) -> str:
    """Of printable characters only, and without its middle where that leads nowhere."""
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return line if len(line) <= most else f"{line[: most - 70]}…{line[-69:]}"


class SluiceError(Exception):
    """
    Base of all errors that are shown to a user as one line, and a short one: input of others is in it.

    Args:
        thing: what is wrong, named so that it can be found (a path, a column, a digest).
        rule: the rule that it breaks, with the observed value.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, thing: str, rule: str, fix: str) -> None:
        self.thing, self.rule, self.fix = thing, rule, fix
        parts = (_shown(thing, _LONGEST_THING), _shown(rule), _shown(fix))
        super().__init__("{}: {}; {}".format(*parts))


class BadInput(SluiceError):
    """A file, span, config, request or argument breaks its contract."""


class BadArtifact(SluiceError):
    """A stored thing is not what its digest or its schema says."""


class Busy(SluiceError):
    """Another process holds the lock."""


class Unavailable(SluiceError):
    """A store that this needs does not answer, or refuses us: a fault that may be over when it is asked again."""

    exit_code = 1


class Refused(SluiceError):
    """A well-formed request that a rule forbids."""

    exit_code = 3


def one_line(error: BaseException, most: int | None = None) -> str:
    """What an error of somebody else says, on one line and of at most so many characters: a ``rule`` has to be one."""
    return " ".join(str(error).split())[:most]

"""
A rollback while Git cannot be written: acted on at once, told to Git later, never undone in between.

    sluice rollback --break-glass ─► record, on disk ─► everything that applies a state obeys it (``effective``)
                                         │
             the first writer that reaches Git ─► one rollback commit with the record's id ─► record removed

Killed before the commit, the record stands; killed after it, the commit is found by its id and only the record goes.
While it stands nothing else is written about its environment, so nothing advances behind its back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluice.content import write_json
from sluice.documents.event_time import Moment
from sluice.documents.state import Digest, Hold, Label, ReleaseState, refusal
from sluice.documents.verdict import Decision, Reason, Verdict, identify
from sluice.errors import BadArtifact, Busy, Refused
from sluice.release.snapshot import Snapshot

NO_EARLIER = "there is no earlier model that was confirmed, is not held, and was not rolled back since"


class BreakGlass(BaseModel):
    """One rollback that Git does not know yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Of the decision that it becomes."""
    task: Label
    environment: Label
    digest: Digest
    """What is taken out of service and held."""
    earlier: tuple[Digest, ...]
    """Models that may serve in its place, the best first."""
    reason: str = Field(min_length=1)
    by: str = Field(min_length=1)
    at: Moment
    base: str = Field(min_length=1)
    """The newest commit that was known here."""
    run: dict[str, Any] = {}
    """Where the digest comes from, as far as it was known here."""


def break_glass(
    state: ReleaseState, base: str, earlier: Sequence[str], run: dict[str, Any], *, reason: str, by: str, at: str
) -> BreakGlass:
    """
    The record of going back from ``state``.

    Args:
        base: the commit that ``state`` was read from.
        earlier: models to go back to, the best first.

    Raises:
        Refused: nothing is served, or there is nothing to go back to.
    """
    digest = state.candidate or state.stable
    if digest is None:
        raise Refused(f"rollback in {state.environment}", "nothing is served", "propose a model first")
    last = [state.stable] if state.candidate and state.stable else []
    choice = tuple(one for one in dict.fromkeys([*last, *earlier]) if one != digest and not state.held(one))
    if not choice and not state.candidate:
        raise Refused(f"rollback in {state.environment}", NO_EARLIER, "stop serving")
    inputs = [state.task, state.environment, digest, reason, by, at, base]
    return BreakGlass(
        id=identify("rollback", inputs),
        task=state.task,
        environment=state.environment,
        digest=digest,
        earlier=choice,
        reason=reason,
        by=by,
        at=at,
        base=base,
        run=run,
    )


def effective(state: ReleaseState, record: BreakGlass | None) -> ReleaseState:
    """
    What has to be served: the state in Git, without the digest that a person took out while Git did not know.

        Git says meanwhile                        effective
        the digest is held                        as Git says
        it is the candidate                       its stable answers alone; held
        it is stable (it was promoted)            the best earlier model that is not held answers alone; held
        it is neither                             as Git says, and it is held
        another rollout runs, the digest stable   that rollout ends too: it was compared with a bad model
    """
    if record is None or state.held(record.digest):
        return state
    holds = (*state.holds, Hold(digest=record.digest, reason=record.reason, by=record.by, at=record.at))
    if record.digest not in (state.stable, state.candidate):
        return state.model_copy(update={"holds": holds})
    left = state.stable if state.candidate == record.digest else _best(record, state)
    return state.settled(left, record.at, holds)


def _best(record: BreakGlass, state: ReleaseState) -> str | None:
    return next((digest for digest in record.earlier if not state.held(digest)), None)


def decision_of(record: BreakGlass, snapshot: Snapshot) -> Decision:
    """The decision that a record becomes on the state that Git has by then; always the same id."""
    state, after = snapshot.state, effective(snapshot.state, record)
    evidence = {"reason": record.reason, "by": record.by, "now": record.at, "break_glass": True, "base": record.base}
    text = f"{record.by}: {record.reason} (break-glass on {record.base[:12]}, while Git could not be written)"
    return Decision.between(
        state,
        after,
        evidence,
        id=record.id,
        stage="rollback",
        action="rollback",
        verdict=Verdict.PASS,
        candidate=record.digest,
        reasons=(Reason.plain("person", Verdict.PASS, text),),
        now=record.at,
        policy_digest=snapshot.policy_digest,
        run=record.run,
    )


@dataclass(frozen=True)
class Glass:
    """Where the record of one environment lies: at most one at a time."""

    path: Path

    def pending_record(self) -> BreakGlass | None:
        """
        The record, if one stands.

        Raises:
            BadArtifact: the file is not one.
        """
        try:
            return BreakGlass.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            problem = refusal(str(self.path), error)
            fix = "restore it, or remove it and roll back again"
            raise BadArtifact(problem.thing, problem.rule, fix) from error

    def write(self, record: BreakGlass) -> None:
        """
        Put a record on disk, for good.

        Raises:
            Refused: one stands already.
        """
        with self.lock(wait=False):
            if other := self.pending_record():
                rule = f"a break-glass rollback of {other.digest} stands since {other.at} by {other.by}"
                raise Refused(f"rollback in {record.environment}", rule, "let any `sluice` command write it into Git")
            write_json(self.path, record.model_dump(mode="json"))
            self._reach_disk()

    def remove(self) -> None:
        """Git has it now."""
        self.path.unlink(missing_ok=True)
        self._reach_disk()

    @contextlib.contextmanager
    def lock(self, *, wait: bool) -> Iterator[None]:
        """
        One writer or remover at a time; the lock goes with its holder.

        Raises:
            Busy: somebody else has it, and ``wait`` is false.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                rule = "is being written into Git by another process"
                raise Busy(str(self.path), rule, "see `sluice status`, and try again") from error
            yield

    def _reach_disk(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

"""One rollout in memory, looked at every hour, while its source of evidence is broken from one phase on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from sluice.content import canonical_json
from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.file import read_document
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Verdict
from sluice.errors import SluiceError
from sluice.gates.policy import GatePolicy
from sluice.predictions.log import window_frame, window_path, write_window
from sluice.rollout.advance import advance
from tests.faults import sample
from tests.faults.prometheus import Scraped, SpoilAnswer
from tests.faults.registry import Trial

CANDIDATE = sample.digest("b")


@dataclass
class Look:
    """One look on its way from the servers to the gate; a fault changes what it likes, and says that it did."""

    state: ReleaseState
    start: datetime
    now: datetime
    frame: pl.DataFrame
    """The newest window's predictions."""
    windows: Path
    applied: Applied
    number: int
    """Looks since the fault began, from 0."""
    seed: int
    bytes_instead: bytes | None = None
    """What the window's file holds instead of the frame."""
    absent: bool = False
    """The window is not there yet."""
    unlabelled: float = 0.0
    """Share of labels that never come."""


Spoil = Callable[[Look], bool]
SpoilDocument = Callable[[Look, bytes, list[bytes]], bytes | None]
"""From the evidence document and those of the looks before to what arrives; ``None`` where nothing does."""


@dataclass(frozen=True)
class Fault:
    """
    What is broken.

    Attributes:
        blind: nothing that is true can be read while it lasts, so no step forward is right.
        log: breaks the prediction log, the traffic or the cluster.
        document: breaks the evidence document on its way.
        built: breaks evidence that was never a document.
        prometheus: breaks the answers of a Prometheus.
        at_servers: ``log`` breaks what reaches the servers, so that a Prometheus sees it too.
        blameless: no candidate may be rolled back for it that is as good as stable.
    """

    name: str
    holds: str
    blind: bool
    log: Spoil | None = None
    document: SpoilDocument | None = None
    built: Callable[[Look, Evidence], Evidence] | None = None
    prometheus: SpoilAnswer | None = None
    at_servers: bool = False
    blameless: bool = False
    phases: tuple[str, ...] = sample.PHASES

    @property
    def ways(self) -> tuple[str, ...]:
        """Where it can strike."""
        ways = {"log": self.log, "document": self.document, "built": self.built}
        scraped = self.prometheus or self.at_servers
        return (*(way for way, spoil in ways.items() if spoil), *(("prometheus",) if scraped else ()))


@dataclass
class _Rollout:
    directory: Path
    fault: Fault
    phase: str
    seed: int
    way: str
    state: ReleaseState
    broken_since: int | None = None
    documents: list[bytes] = field(default_factory=list)
    fired: bool = False
    wrong: int = 0
    scraped: Scraped | None = None
    misheld: bool = False
    """A candidate that failed is free, or one that did not is held."""
    is_blamed: bool = False
    """A candidate as good as stable was rolled back for what is not its fault."""

    @property
    def bad(self) -> bool:
        return self.seed % 2 == 0

    def look(self, index: int) -> Verdict:
        """One window, one look, perhaps one step."""
        start = sample.BEGIN + index * sample.LOOK
        if self.broken_since is None and sample.phase_of(self.state) == self.phase:
            self.broken_since = index
        broken = self.broken_since is not None
        truth = {CANDIDATE: sample.BAD} if broken and self.bad else {}
        records = sample.requests(self.state, start, self.seed, truth)
        look = Look(
            state=self.state,
            start=start,
            now=start + sample.LOOK,
            frame=window_frame({**one.__dict__, "event_time": iso(one.event_time)} for one in records),
            windows=self.directory / "windows",
            applied=sample.applied_of(self.state),
            number=index - (self.broken_since or 0),
            seed=self.seed,
        )
        by_traffic = self.way == "log" or (self.scraped is not None and self.fault.at_servers)
        in_force = broken and by_traffic and self.fault.log is not None and self.fault.log(look)
        _write(look)
        evidence, spoilt = self._evidence(look, broken=broken)
        advice = advance(self.state, evidence, self._policy, iso(look.now))
        self._count(advice.action, in_force=in_force or spoilt)
        self.state = advice.after
        blamed = any(one.verdict is Verdict.FAIL and one.rule != "split" for one in advice.reasons)
        gone = self.state.rollout is None and self.state.stable != CANDIDATE
        self.is_blamed |= gone and blamed and self.fault.blameless and not self.bad
        self.misheld |= gone and blamed != bool(self.state.held(CANDIDATE))
        return advice.verdict

    @property
    def _policy(self) -> GatePolicy:
        return sample.policy_of_servers() if self.scraped else sample.policy()

    def _from_prometheus(self, scraped: Scraped, look: Look, *, broken: bool) -> tuple[Evidence, bool]:
        scraped.serve(look.state, look.frame, look.now)
        before = scraped.spoilt
        spoil = self.fault.prometheus if broken else None
        evidence = scraped.read(look.state, self._policy, look.applied, look.now, spoil)
        return evidence, scraped.spoilt > before

    def _evidence(self, look: Look, *, broken: bool) -> tuple[Evidence, bool]:
        """What arrives at the gate, and whether it was spoilt on the way; a source that fails shows nothing."""
        if self.scraped:
            return self._from_prometheus(self.scraped, look, broken=broken)
        nothing = sample.nothing_seen(look.state, look.applied, look.now)
        try:
            rows = sample.rows_of(look.windows, look.state, look.now)
            evidence = sample.evidence_from(rows, look.state, look.applied, look.now, unlabelled=look.unlabelled)
        except SluiceError:
            return nothing, False
        sent = canonical_json(evidence.model_dump(mode="json"))
        earlier, self.documents = self.documents, [*self.documents, sent]
        if broken and self.way == "built" and self.fault.built:
            return self.fault.built(look, evidence), True
        if not broken or self.way != "document" or self.fault.document is None:
            return evidence, False
        arrived = self.fault.document(look, sent, earlier)
        path = self.directory / "evidence.json"
        path.unlink(missing_ok=True)
        if arrived is not None:
            path.write_bytes(arrived)
        with contextlib.suppress(SluiceError):
            return read_document(path, Evidence, "the evidence schema"), arrived != sent
        return nothing, True

    def _count(self, action: str, *, in_force: bool) -> None:
        self.fired |= in_force
        forward = action in ("set-weight", "promote", "confirm")
        if forward and self.broken_since is not None and (self.bad or (in_force and self.fault.blind)):
            self.wrong += 1


def _write(look: Look) -> None:
    path = window_path(look.windows, look.start, look.now)
    path.parent.mkdir(parents=True, exist_ok=True)
    if look.bytes_instead is not None:
        path.write_bytes(look.bytes_instead)
    elif not look.absent:
        write_window(path, look.frame)


def rollout(directory: Path, fault: Fault, phase: str, seed: int, way: str) -> Trial:
    """
    Play one rollout whose source breaks when it reaches ``phase``, to its end.

    In trials with an even seed the candidate turns bad at the same moment; no step forward is right from then on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    begun = sample.state_in("bootstrap" if phase == "bootstrap" else "shadow", sample.BEGIN)
    played = _Rollout(directory, fault, phase, seed, way, begun)
    most = int(sample.LONGEST / sample.LOOK)
    verdict, index = Verdict.INCONCLUSIVE, 0
    played.scraped = Scraped() if way == "prometheus" else None
    try:
        while played.state.rollout is not None and index <= most:
            verdict = played.look(index)
            index += 1
    finally:
        if played.scraped:
            played.scraped.close()
    hung = played.state.rollout is not None
    complaints = {
        f"still in {sample.phase_of(played.state)} after {index} hours": hung,
        f"{played.wrong} steps forward": played.wrong > 0,
        "the candidate's hold is not what the reasons say": played.misheld,
        "the candidate was blamed": played.is_blamed,
    }
    found = [text for text, so in complaints.items() if so]
    return Trial(
        fired=played.fired,
        survived=not hung and not played.misheld and not played.is_blamed,
        wrong=played.wrong,
        inconclusive=verdict is Verdict.INCONCLUSIVE,
        said=f"{phase}, seed {seed}, {way}: {'; '.join(found)}" if found else "",
    )

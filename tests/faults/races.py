"""Several writers of one repository: every decision lands once, on the state that it was made on, or is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sluice.documents.event_time import iso
from sluice.documents.verdict import Decision
from sluice.errors import SluiceError
from sluice.gitops.writer import CommittedDecision, GitOps, Snapshot
from sluice.operations.operator import add_hold
from sluice.rollout.advance import propose
from tests.faults import sample
from tests.faults.history import SAME, judged, ledger_problems, left_in, lost_or_doubled, reference, tip_of
from tests.faults.registry import Row, Trial, seeds
from tests.faults.writer import ROOT, started

_RACE = "every decision lands once or says why not; the ledger is whole"


def _answers(writers: Sequence[subprocess.Popen[str]]) -> list[list[str]]:
    """The words of every line that the writers print."""
    return [line.split(maxsplit=3) for writer in writers for line in writer.communicate(timeout=900)[0].splitlines()]


def _from_elsewhere(remote: str | Path) -> str:
    """The same repository by a URL, where no line of writers can be seen: the push alone decides."""
    return Path(remote).absolute().as_uri()


def racing(directory: Path, writers: int, each: int, *, elsewhere: bool = False) -> Trial:
    """Writers in processes of their own, all on the same branch at once; every decision lands, or says why not."""
    world = reference(directory).copy(0, directory / "home")
    remote = _from_elsewhere(world.gitops.remote) if elsewhere else world.gitops.remote
    digests = [f"sha256:{number:064x}" for number in range(writers * each)]
    children = [
        started("hold", remote, directory / f"clone-{k}", k, *digests[k * each : (k + 1) * each])
        for k in range(writers)
    ]
    answers = _answers(children)
    landed = [words[1] for words in answers if words[1] != "refused"]
    made = world.gitops.decisions()
    lost = lost_or_doubled([one.id for one in made], landed)
    held = [hold.digest for hold in world.gitops.snapshot().state.holds]
    problems = ledger_problems(world.gitops)
    if len(answers) != len(digests) or len(landed) != len(held) or len(held) != len(set(held)):
        problems.append(f"{len(answers)} answers, {len(landed)} landed, {len(held)} holds of {len(digests)}")
    slowest = sorted(float(words[0]) for words in answers)
    p99 = slowest[max(0, -(-len(slowest) * 99 // 100) - 1)] if slowest else 0.0
    fired = any(child.returncode == 0 for child in children) and writers > 1
    return Trial(fired, not problems, lost=lost, said="; ".join(problems), seconds=p99)


def two_promotions(directory: Path, index: int) -> Trial:
    """Two models are proposed at once: one starts, the other is refused with the reason, and both are recorded."""
    world = reference(directory).copy(1, directory / "home")
    children = [
        started("propose", world.gitops.remote, directory / f"clone-{name}", 2 * index + k, sample.digest(name))
        for k, name in enumerate("bc")
    ]
    actions = sorted(words[2] for words in _answers(children))
    made = world.gitops.decisions()[3:]
    problems = ledger_problems(world.gitops)
    if actions != ["refuse", "start-shadow"]:
        problems.append(f"the two ended as {actions}")
    return Trial(fired=True, survived=not problems, lost=abs(len(made) - 2), said="; ".join(problems))


def walked_by_two(directory: Path, _: int) -> Trial:
    """Two controllers walk the same rollout at once, with logs and clones of their own."""
    played = reference(directory)
    world, twin = played.copy(1, directory / "home"), directory / "twin"
    shutil.copytree(world.home, twin)
    shutil.rmtree(twin / "gitops.git")
    (twin / "gitops.git").symlink_to(world.gitops.remote)
    children = [started("step", home, 1) for home in (world.home, twin)]
    said = [line for child in children for line in child.communicate(timeout=300)[0].splitlines()]
    wanted = played.left(2)._replace(windows=left_in(world).windows)  # each has those that it got to serve
    return judged(world, wanted, fired=not any(child.returncode for child in children), said="; ".join(said))


def overtaken(directory: Path, what: str, times: int) -> Trial:
    """While a controller makes up its mind, another one writes; its push is refused, and it decides anew."""
    world = reference(directory).copy(1, directory / "home")
    url = _from_elsewhere(world.gitops.remote)
    ours, theirs = (GitOps(url, sample.ENVIRONMENT, clone=directory / name / "clone") for name in ("ours", "theirs"))
    before, other, seen = [made.id for made in ours.decisions()], list[str](), list[Snapshot]()

    def decide(snapshot: Snapshot) -> Decision:
        seen.append(snapshot)
        if len(seen) <= times:
            other.append(_meanwhile(theirs, what, len(seen)))
        return propose(snapshot, _PROPOSED, sample.PASSED, {"auc": 0.8}, {"id": "overtaken"}, iso(sample.BEGIN))

    written = ours.commit(decide)
    action = written.decision.action if written else "nothing"
    lost = lost_or_doubled([made.id for made in world.gitops.decisions()], [*before, *other, *_ids(written)])
    problems = ledger_problems(world.gitops)
    if action != _OVERTAKEN[what] or len(seen) != times + 1:
        problems.append(f"{action} after {len(seen)} looks")
    wrong = int(action not in ("refuse", _OVERTAKEN[what]))
    return Trial(len(other) == times, not problems, wrong=wrong, lost=lost, said="; ".join(problems))


_PROPOSED = sample.digest("e")
_OVERTAKEN = {"a hold of another": "start-shadow", "a hold of the same": "refuse", "a rollout": "refuse"}
"""What is written meanwhile, and what must become of the proposal."""


_SLIPPING_IN = """#!/bin/sh
cat >/dev/null
rm {once} 2>/dev/null || exit 0
cd {root} && exec env -i PATH="$PATH" HOME="$HOME" {python} -m tests.faults.writer hold {url} {clone} 1 {digest} >&2
"""


def overtaken_in_flight(directory: Path, what: str) -> Trial:
    """Another controller's push lands after the repository said where it stands, and before it takes ours."""
    world = reference(directory).copy(1, directory / "home")
    url, once = _from_elsewhere(world.gitops.remote), directory / "once"
    digest = _PROPOSED if what == "a hold of the same" else sample.digest("d")
    words = {"root": ROOT, "python": sys.executable, "url": url, "clone": directory / "theirs"}
    ours = GitOps(url, sample.ENVIRONMENT, clone=directory / "ours")
    before = len(ours.decisions())
    once.touch()
    hook = Path(world.gitops.remote) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_SLIPPING_IN.format(once=once, digest=digest, **words))
    hook.chmod(0o755)
    seen = list[Snapshot]()

    def decide(snapshot: Snapshot) -> Decision:
        seen.append(snapshot)
        return propose(snapshot, _PROPOSED, sample.PASSED, {"auc": 0.8}, {"id": "in flight"}, iso(sample.BEGIN))

    written = ours.commit(decide)
    actions = [made.action for made in world.gitops.decisions()[before:]]
    problems = ledger_problems(world.gitops)
    if actions != ["hold", _OVERTAKEN[what]] or len(seen) != 2 or written is None:
        problems.append(f"{actions} after {len(seen)} looks")
    lost = abs(len(actions) - 2)
    return Trial(not once.exists(), not problems, lost=lost, said="; ".join(problems))


def _meanwhile(gitops: GitOps, what: str, number: int) -> str:
    now = iso(sample.BEGIN)
    if what == "a rollout" and number == 1:
        begun = gitops.commit(lambda seen: propose(seen, sample.digest("d"), sample.PASSED, {}, {"id": "first"}, now))
        return _ids(begun)[0]
    digest = _PROPOSED if what == "a hold of the same" and number == 1 else f"sha256:{number:064x}"
    return add_hold(gitops, digest, "meanwhile", "kim", now).id


def _ids(written: CommittedDecision | None) -> list[str]:
    return [written.decision.id] if written else []


def outdated(directory: Path, step: int) -> Trial:
    """A controller hands over a decision that it made on an older state; it is not written over the newer one."""
    world = reference(directory).copy(step, directory / "home")
    snapshot = world.gitops.snapshot()
    run = {"id": "outdated"}
    made = propose(snapshot, sample.digest("f"), sample.PASSED, {"auc": 0.8}, run, iso(sample.BEGIN))
    add_hold(world.gitops, sample.digest("f"), "meanwhile", "kim", iso(sample.BEGIN))
    tip, refused = tip_of(Path(world.gitops.remote)), False
    try:
        world.gitops.commit(lambda _: made)
    except (ValueError, SluiceError):
        refused = True
    written = tip_of(Path(world.gitops.remote)) != tip
    problems = ledger_problems(world.gitops)
    return Trial(True, refused and not problems, wrong=int(written), said="; ".join(problems))


ROWS = (
    Row("git: writers racing", "repository", _RACE, lambda full: [(16, 25) if full else (4, 5)], racing),
    Row(
        "git: writers racing from other machines",
        "repository",
        _RACE,
        lambda full: [(16, 10) if full else (4, 5)],
        partial(racing, elsewhere=True),
    ),
    Row(
        "git: another writes while one decides",
        "repository",
        "refused by git, decided anew on the newer state",
        lambda full: [(what, times) for what in _OVERTAKEN for times in ((1, 2, 5) if full else (1, 2))],
        overtaken,
    ),
    Row(
        "git: another's push slips in before one's own",
        "repository",
        "refused by git, decided anew on the newer state",
        lambda _: [(what,) for what in ("a hold of another", "a hold of the same")],
        overtaken_in_flight,
    ),
    Row("git: two promotions at once", "repository", _RACE, seeds(2, 20), two_promotions),
    Row("git: two controllers on one rollout", "repository", SAME, seeds(1, 10), walked_by_two),
    Row("git: a decision about an older state", "repository", "refused, nothing is written", seeds(1, 3), outdated),
)

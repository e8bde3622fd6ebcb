"""
Other versions' repositories, with a rollout on its way.

``repositories/`` holds what older versions wrote (``git fast-export``): ``before-the-chain`` has records without an
envelope, ``chained`` has them as they are now. Both stand in a canary of b against a.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sluice.errors import BadArtifact, BadInput
from sluice.git.command import create_bare, git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from tests.faults import sample
from tests.faults.history import judged, ledger_problems, lost_or_doubled, reference, tip_of
from tests.faults.play import STEPS, World, play
from tests.faults.registry import Row, Trial

_WRITTEN = Path(__file__).with_name("repositories")
_RELEASE, _HOLDS, _POLICY = (
    f"{sample.OVERLAY}/{name}" for name in ("release/kustomization.yaml", "release/holds.yaml", "gate-policy.yaml")
)


def _imported(name: str, home: Path) -> World:
    remote = home / "gitops.git"
    create_bare(remote)
    git(remote, "fast-import", "--quiet", data=(_WRITTEN / f"{name}.fast-export").read_bytes())
    return World(home)


def upgraded(directory: Path, name: str, end: str) -> Trial:
    """What an older version began is read, and goes on to its end; its records stay as they are."""
    world = _imported(name, directory / "home")
    said = _with_a_policy_of_today(world)
    before = dict(world.gitops.records())
    begun = [made.id for made in world.gitops.decisions()]
    fired = world.gitops.snapshot().state.stage == "canary"
    if end == "promoted":
        world.walk(sample.digest("b"))
    else:
        late = sample.BEGIN + timedelta(hours=100)
        world.look(world.sync(), late)
        world.drain()
    after, made = dict(world.gitops.records()), [one.id for one in world.gitops.decisions()]
    lost = lost_or_doubled(made[: len(begun)], begun) + sum(after.get(path) != text for path, text in before.items())
    state = world.gitops.snapshot().state
    stable = sample.digest("b" if end == "promoted" else "a")
    problems = [said] * bool(said) + ledger_problems(world.gitops)
    if (state.stage, state.stable) != ("stable", stable):
        problems.append(f"ended as {state.stage} with {state.stable}")
    wrong = int(end != "promoted" and state.stable != stable)
    return Trial(fired, not problems, wrong=wrong, lost=lost, said="; ".join(problems))


def _with_a_policy_of_today(world: World) -> str:
    """A policy in words of its time is refused by its first unknown key; a person commits one of today."""
    said = _refusal(world.gitops.snapshot, "online.shadow")
    _overwrite(world.gitops, _POLICY, sample.POLICY_TEXT)
    return said


def _literal(text: bytes) -> bytes:
    return text.replace(b'  - "task=', b'  - "paused-by=kim"\n  - "task=')


def _stage(text: bytes) -> bytes:
    return re.sub(rb'"stage=[a-z]+"', b'"stage=afterglow"', text)


def _hold(text: bytes) -> bytes:
    return text.replace(b"  reason:", b'  until: "2030-01-01T00:00:00Z"\n  reason:', 1)


def _rule(text: bytes) -> bytes:
    return text.replace(b"    minimum_n: 300\n", b"    minimum_n: 300\n    maximum_regret: 0.1\n", 1)


def _first_model(text: bytes) -> bytes:
    return text.replace(b"{allowed: true,", b"{allowed: true, approver: kim,", 1)


def _envelope(text: bytes) -> bytes:
    return (json.dumps({**json.loads(text), "witness": "kim"}, sort_keys=True, indent=2) + "\n").encode()


def _decision(text: bytes) -> bytes:
    document = json.loads(text)
    document["decision"]["approved_by"] = "kim"
    return (json.dumps(document, sort_keys=True, indent=2) + "\n").encode()


_NEWER: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a key of the release file": (_RELEASE, _literal, "paused-by"),
    "a stage": (_RELEASE, _stage, "stage"),
    "a key of a hold": (_HOLDS, _hold, "until"),
    "a rule of the policy": (_POLICY, _rule, "maximum_regret"),
    "a key of the policy": (_POLICY, _first_model, "approver"),
    "a key of the ledger's envelope": ("", _envelope, "witness"),
    "a key of a decision": ("", _decision, "approved_by"),
}
"""What a newer version may have written: the file (the last record where it is empty), how, and the name in it."""


def newer(directory: Path, what: str) -> Trial:
    """A newer version wrote a file: it is refused by the key's name, nothing is written; restored, it goes on."""
    played = reference(directory)
    world = played.copy(7, directory / "home")
    path, change, key = _NEWER[what]
    path = path or world.gitops.records()[-1][0]
    text = world.gitops.file(path) or b""
    _overwrite(world.gitops, path, change(text))
    tip = tip_of(Path(world.gitops.remote))
    fired = (world.gitops.file(path) or b"") != text
    reading = world.gitops.decisions if "/decisions/" in path else lambda: world.propose("e", sample.BEGIN)
    said = _refusal(reading, key)
    if not said and tip_of(Path(world.gitops.remote)) != tip:
        said = "something was written"
    shutil.rmtree(world.home)
    again = played.copy(7, directory / "home")
    play(again.home, steps=STEPS[7:])
    return judged(again, played.left(len(STEPS)), fired=fired, said=said)


def _refusal(act: Callable[[], object], key: str) -> str:
    """What is wrong with how an act is refused; empty where it is, in one line with the key's name."""
    try:
        act()
    except (BadInput, BadArtifact) as error:
        return "" if key in str(error) and "\n" not in str(error) else f"refused with {error}"
    return "half-read"


def _overwrite(gitops: GitOps, path: str, text: bytes) -> None:
    """One commit by hand."""
    head = b"commit refs/heads/main\ncommitter Kim <kim@localhost> 1383500000 +0000\ndata 8\nby hand\n\n"
    file = b"from refs/heads/main^0\nM 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(text), text)
    git(Path(gitops.remote), "fast-import", "--quiet", data=head + file)


def tampered(directory: Path, index: int) -> Trial:
    """A byte of a record is changed by hand; the ledger's verification names it."""
    played = reference(directory)
    world = played.copy(len(STEPS), directory / "home")
    records = world.gitops.records()
    path, text = records[index % len(records)]
    place = (index * 7919) % len(text)
    changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
    _overwrite(world.gitops, path, changed)
    report = verify(world.gitops)
    named = any(path in problem.where for problem in report.problems)
    return Trial(changed != text, named, said="" if named else f"byte {place} of {path} went unseen")


ROWS = (
    Row(
        "upgrade: a rollout begun by an older version",
        "upgrades",
        "read, ended by today's rules, old records unchanged",
        lambda _: [(name, end) for name in ("before-the-chain", "chained") for end in ("promoted", "timed out")],
        upgraded,
    ),
    Row(
        "downgrade: files of a newer version",
        "upgrades",
        "refused by the key's name, nothing is written",
        lambda _: [(what,) for what in _NEWER],
        newer,
    ),
    Row(
        "ledger: a byte changed by hand",
        "upgrades",
        "`sluice ledger verify` names the record",
        lambda full: [(index,) for index in range(60 if full else 4)],
        tampered,
    ),
)

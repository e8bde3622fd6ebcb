"""The repository and the road to it: racing writers, refused and lost pushes, outages, damage, rewritten history."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sluice.errors import BadArtifact, BadInput, SluiceError
from sluice.release.git import git
from sluice.release.gitops import GitOps
from sluice.release.ledger import verify
from sluice.release.operator import add_hold
from sluice.release.rollout import propose
from sluice.release.state import iso
from tests.faults import sample
from tests.faults.history import judged, ledger_problems, left_in, lost_or_doubled, reference, tip_of
from tests.faults.play import STEPS, play
from tests.faults.registry import SEED, Row, Trial
from tests.faults.wrapped_git import failing

_ROOT = Path(__file__).parents[2]
_SAME = "the same commits and records as undisturbed, byte for byte"
_NAMED = "one line names what is broken, nothing is written; mended, it goes on to the same end"
_DOWN = "unable to access the repository: Could not resolve host"
_LOST = "the remote end hung up unexpectedly"


def _writer(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _answers(writers: Sequence[subprocess.Popen[str]]) -> list[list[str]]:
    """The words of every line that the writers print."""
    return [line.split(maxsplit=3) for writer in writers for line in writer.communicate(timeout=900)[0].splitlines()]


def racing(directory: Path, writers: int, each: int) -> Trial:
    """Writers in processes of their own, all on the same branch at once; every decision lands, or says why not."""
    world = reference(directory).copy(0, directory / "home")
    digests = [f"sha256:{number:064x}" for number in range(writers * each)]
    children = [
        _writer("hold", world.gitops.remote, directory / f"clone-{k}", k, *digests[k * each : (k + 1) * each])
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
        _writer("propose", world.gitops.remote, directory / f"clone-{name}", 2 * index + k, sample.digest(name))
        for k, name in enumerate("bc")
    ]
    actions = sorted(words[2] for words in _answers(children))
    made = world.gitops.decisions()[2:]
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
    children = [_writer("step", home, 1) for home in (world.home, twin)]
    said = [line for child in children for line in child.communicate(timeout=300)[0].splitlines()]
    wanted = played.left(2)._replace(windows=left_in(world).windows)  # each has those that it got to serve
    return judged(world, wanted, fired=not any(child.returncode for child in children), said="; ".join(said))


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


_REJECTING = """#!/bin/sh
read -r left <{left} 2>/dev/null || left=0
test "$left" -gt 0 || exit 0
echo $((left - 1)) >{left}
echo "the branch is protected for now" >&2
exit 1
"""


def rejected(directory: Path, times: int) -> Trial:
    """A hook of the repository rejects pushes for a while."""
    played = reference(directory)
    world, left = played.copy(0, directory / "home"), directory / "left"
    left.write_text(f"{times}\n")
    hook = Path(world.gitops.remote) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_REJECTING.format(left=left))
    hook.chmod(0o755)
    said = ""
    for _ in range(times + 1):
        try:
            play(world.home)
            break
        except SluiceError as error:
            said = str(error)
    fired = int(left.read_text()) < times
    return judged(world, played.left(len(STEPS)), fired=fired, said="two lines" if "\n" in said else "")


def lost_acknowledgement(directory: Path, index: int) -> Trial:
    """Pushes land, and the answer never comes back."""
    played = reference(directory)
    world = played.copy(index % len(STEPS), directory / "home")
    with failing(directory / "bin", "push", 3, _LOST, after=True) as script:
        play(world.home, steps=STEPS[index % len(STEPS) :])
    return judged(world, played.left(len(STEPS)), fired=script.fired > 0)


def unreachable(directory: Path, command: str, times: int) -> Trial:
    """Every call of one git command fails for a while; the controller is started again after each refusal."""
    played = reference(directory)
    world, refused = played.copy(0, directory / "home"), 0
    with failing(directory / "bin", command, times, _DOWN) as script:
        for _ in range(times + 1):
            try:
                play(world.home)
                break
            except BadInput as error:
                refused += _DOWN in str(error) and "\n" not in str(error)
    return judged(world, played.left(len(STEPS)), fired=script.fired == times and refused > 0)


def gone_for_a_while(directory: Path, step: int) -> Trial:
    """The repository is not there at all, then it is again."""
    played = reference(directory)
    world = played.copy(step, directory / "home")
    remote = Path(world.gitops.remote)
    remote.rename(away := remote.with_name("away"))
    refused = _refusal(lambda: STEPS[step](world))
    made = remote.exists()
    if not made:
        away.rename(remote)
    play(world.home, steps=STEPS[step:])
    said = "" if refused and not made else "written into nothing"
    return judged(world, played.left(len(STEPS)), fired=refused is not None, said=said)


def _refusal(act: Callable[[], object]) -> str | None:
    """The one line that an act is refused with; ``None`` when it is not."""
    try:
        act()
    except (BadInput, BadArtifact) as error:
        return str(error)
    return None


def rewritten(directory: Path, back: int) -> Trial:
    """Somebody forces the branch back: the decisions that are gone are missed, by the writer or the ledger."""
    played = reference(directory)
    world = played.copy(len(STEPS), directory / "home")
    head = verify(world.gitops).head
    remote = Path(world.gitops.remote)
    before = tip_of(remote)
    git(remote, "update-ref", "refs/heads/main", f"main~{back}")
    fired = tip_of(remote) != before
    missed = _refusal(world.gitops.snapshot) or _broken(world.gitops, head)
    git(remote, "update-ref", "refs/heads/main", before)
    return judged(world, played.left(len(STEPS)), fired=fired, said="" if missed else "nobody missed them")


def _broken(gitops: GitOps, head: str | None) -> str | None:
    try:
        report = verify(gitops, expect=head)
    except (BadInput, BadArtifact) as error:
        return str(error)
    return None if report.is_intact else report.problems[0].rule


def damaged(directory: Path, what: str, index: int) -> Trial:
    """A ref or an object of the repository is overwritten; restored from a copy, everything goes on."""
    played = reference(directory)
    step = 1 + index % (len(STEPS) - 1)
    world = played.copy(step, directory / "home")
    remote, copy = Path(world.gitops.remote), directory / "copy.git"
    shutil.copytree(remote, copy)
    _damage(remote, what, index)
    noticed = _noticed(world.gitops, tip_of(copy))
    shutil.rmtree(remote)
    copy.rename(remote)
    play(world.home, steps=STEPS[step:])
    return judged(world, played.left(len(STEPS)), fired=True, said=noticed)


def _damage(remote: Path, what: str, index: int) -> None:
    if what == "ref":
        (remote / "refs" / "heads" / "main").write_text("0123456789" * 4 + "\n" if index % 2 else "half")
        return
    name = git(remote, "rev-parse", {"commit": "main", "tree": "main^{tree}"}.get(what, f"main:{_a_record(remote)}"))
    text = name.decode().strip()
    path = remote / "objects" / text[:2] / text[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if index % 2 else b"")


def _a_record(remote: Path) -> str:
    names = git(remote, "ls-tree", "-r", "--name-only", "main", f"{sample.OVERLAY}/decisions/").decode().split()
    return names[-1]


def _noticed(gitops: GitOps, tip: str) -> str:
    """What is wrong with how the damage was met: it is named, and nothing is written."""
    found = _refusal(lambda: verify(gitops))
    if found is None or "\n" in found:
        return f"the ledger's verification said {found!r}"
    fresh = GitOps(gitops.remote, gitops.environment, clone=Path(gitops.remote).with_name("fresh"))
    told = _refusal(fresh.decisions)
    return "" if told is None or "\n" not in told else f"a reader said {told!r}"


def damaged_clone(directory: Path, index: int) -> Trial:
    """The private copy is damaged at random between two steps; it is only a cache."""
    played = reference(directory)
    step = index % len(STEPS)
    world = played.copy(step, directory / "home")
    world.gitops.snapshot()
    chance = random.Random(f"{SEED} clone {index}")  # noqa: S311
    files = sorted(path for path in (world.home / "clone").rglob("*") if path.is_file() and path.suffix != ".sample")
    chosen = chance.sample(files, max(1, len(files) // 2))
    for path in chosen:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size + 1) // 2])
    play(world.home, steps=STEPS[step:])
    return judged(world, played.left(len(STEPS)), fired=bool(chosen))


def full_disk(directory: Path, most: int, step: int) -> Trial:
    """No file may grow beyond ``most`` bytes, neither the controller's nor git's; then there is room again."""
    played = reference(directory)
    world = played.copy(step, directory / "home")
    child = _writer("step", world.home, step, most)
    said = child.communicate(timeout=300)[0].splitlines()
    play(world.home, steps=STEPS[step:])
    return judged(world, played.left(len(STEPS)), fired=child.returncode == 2, said="" if len(said) == 1 else "no line")


_ONLY_GIT = (2, 4, 5, 6, 7, 8)
"""Steps that send no traffic: a full disk costs the prediction log lines, which is another story."""


def _seeds(short: int, full: int) -> Callable[[bool], list[tuple[int]]]:
    return lambda everything: [(index,) for index in range(full if everything else short)]


def _damages(full: bool) -> list[tuple[str, int]]:
    return [(what, index) for what in ("ref", "commit", "tree", "record") for index in range(8 if full else 2)]


_RACE = "every decision lands once or says why not; the ledger is whole"
ROWS = (
    Row("git: writers racing", "repository", _RACE, lambda full: [(16, 25) if full else (4, 5)], racing),
    Row("git: two promotions at once", "repository", _RACE, _seeds(2, 20), two_promotions),
    Row("git: two controllers on one rollout", "repository", _SAME, _seeds(1, 10), walked_by_two),
    Row("git: a decision about an older state", "repository", "refused, nothing is written", _seeds(1, 3), outdated),
    Row(
        "git: push rejected by the repository",
        "repository",
        _SAME,
        lambda full: [(times,) for times in ((1, 5, 50) if full else (3,))],
        rejected,
    ),
    Row("git: acknowledgement lost", "repository", _SAME, _seeds(3, 18), lost_acknowledgement),
    Row(
        "git: repository out of reach",
        "repository",
        _SAME,
        lambda full: [(name, times) for name in ("fetch", "push") for times in ((1, 4, 12) if full else (4,))],
        unreachable,
    ),
    Row("git: repository gone for a while", "repository", _NAMED, _seeds(2, len(STEPS)), gone_for_a_while),
    Row(
        "git: history forced back",
        "repository",
        "the missing decisions are missed",
        (lambda full: [(back,) for back in (range(1, 13) if full else (1, 5))]),
        rewritten,
    ),
    Row("git: ref or object damaged", "repository", _NAMED, _damages, damaged),
    Row("git: private copy damaged", "repository", _SAME, _seeds(3, 30), damaged_clone),
    Row(
        "git: disk full",
        "repository",
        _SAME,
        lambda full: [
            (most, step) for most in (1, 40, 100, 200, 300) for step in _ONLY_GIT if full or (most + step) % 6 == 0
        ],
        full_disk,
    ),
)

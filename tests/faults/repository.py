"""The repository and the road to it: refused and lost pushes, outages, damage, rewritten history."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from sluice.errors import BadArtifact, BadInput, SluiceError
from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from tests.faults import sample
from tests.faults.history import SAME, judged, reference, tip_of
from tests.faults.play import STEPS, play
from tests.faults.registry import SEED, Row, Trial, seeds
from tests.faults.wrapped_git import failing
from tests.faults.writer import started

_ROOT = Path(__file__).parents[2]
_NAMED = "one line names what is broken, nothing is written; mended, it goes on to the same end"
_DOWN = "unable to access the repository: Could not resolve host"
_LOST = "the remote end hung up unexpectedly"


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
    child = started("step", world.home, step, most)
    said = child.communicate(timeout=300)[0].splitlines()
    play(world.home, steps=STEPS[step:])
    return judged(world, played.left(len(STEPS)), fired=child.returncode == 2, said="" if len(said) == 1 else "no line")


_ONLY_GIT = (2, 4, 5, 6, 7, 8)
"""Steps that send no traffic: a full disk costs the prediction log lines, which is another story."""


def _damages(full: bool) -> list[tuple[str, int]]:
    return [(what, index) for what in ("ref", "commit", "tree", "record") for index in range(8 if full else 2)]


ROWS = (
    Row(
        "git: push rejected by the repository",
        "repository",
        SAME,
        lambda full: [(times,) for times in ((1, 5, 50) if full else (3,))],
        rejected,
    ),
    Row("git: acknowledgement lost", "repository", SAME, seeds(3, 18), lost_acknowledgement),
    Row(
        "git: repository out of reach",
        "repository",
        SAME,
        lambda full: [(name, times) for name in ("fetch", "push") for times in ((1, 4, 12) if full else (4,))],
        unreachable,
    ),
    Row("git: repository gone for a while", "repository", _NAMED, seeds(2, len(STEPS)), gone_for_a_while),
    Row(
        "git: history forced back",
        "repository",
        "the missing decisions are missed",
        (lambda full: [(back,) for back in (range(1, 13) if full else (1, 5))]),
        rewritten,
    ),
    Row("git: ref or object damaged", "repository", _NAMED, _damages, damaged),
    Row("git: private copy damaged", "repository", SAME, seeds(3, 30), damaged_clone),
    Row(
        "git: disk full",
        "repository",
        SAME,
        lambda full: [
            (most, step) for most in (1, 40, 100, 200, 300) for step in _ONLY_GIT if full or (most + step) % 6 == 0
        ],
        full_disk,
    ),
)

"""The ledger: chained, verified against its commits, and quick; a byte changed anywhere is found and named."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.content import digest_of_bytes
from sluice.documents.evidence import Timings
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput
from sluice.git.command import git
from sluice.gitops.writer import GitOps, Snapshot
from sluice.ledger.record import decode_record
from sluice.operations.ledger import examine, verify
from sluice.operations.operator import add_hold, roll_back
from sluice.operations.why import why
from sluice.release.file import render_release
from sluice.rollout.advance import look, propose
from sluice.rollout.message import commit_message
from tests.support.command import sluice
from tests.support.ledger import OVERLAY, commit_text, lengthen, rewritten
from tests.support.release import GOOD, A, B, C, failing, passing, sample_checkout

ROOT = Path(__file__).parents[2]
RELEASE = f"{OVERLAY}/release/kustomization.yaml"


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def _propose(candidate: str, day: int) -> Callable[[Snapshot], Decision]:
    return lambda snapshot: propose(snapshot, candidate, GOOD, {"auc": 0.8}, {"id": f"run-{day}"}, _day(day))


def _look(make: object, day: int) -> Callable[[Snapshot], Decision | None]:
    return lambda snapshot: look(snapshot, make(snapshot.state, _day(day)), _day(day), {})  # type: ignore[operator]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> GitOps:
    """Six decisions: bootstrap, confirm, shadow, rollback with a hold, a person's hold, shadow."""
    gitops = GitOps(tmp_path_factory.mktemp("ledger") / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    gitops.commit(_propose(A, 1))
    gitops.commit(_look(passing, 2))
    gitops.commit(_propose(C, 3))
    gitops.commit(_look(failing, 4))
    add_hold(gitops, "sha256:" + "e" * 64, "audit", "kim", _day(5))
    gitops.commit(_propose(B, 6))
    return gitops


@pytest.fixture
def gitops(played: GitOps, tmp_path: Path) -> GitOps:
    """A copy that a test may write to."""
    return rewritten(played, tmp_path / "copy.git", lambda data: data)


def _append(gitops: GitOps, message: str, files: dict[str, bytes], *, more: bytes = b"") -> None:
    git(Path(gitops.remote), "fast-import", "--quiet", data=commit_text(message.encode(), files) + more)


def test_records_are_numbered_and_chained(played: GitOps) -> None:
    found = [(path, text, decode_record(text, path)) for path, text in played.records()]
    assert [record.number for _, _, record in found] == [1, 2, 3, 4, 5, 6]
    digests = [digest_of_bytes(text) for _, text, _ in found]
    assert [record.previous for _, _, record in found] == [None, *digests[:-1]]
    assert found[0][0] == f"{OVERLAY}/decisions/00/0001-offline-bootstrap.json"
    report = verify(played)
    assert (report.is_intact, report.records, report.unchained, report.by_hand) == (True, 6, 0, ())
    assert report.head == digests[-1]
    message = git(Path(played.remote), "log", "-1", "--format=%B", "main").decode()
    assert f"Sluice-Record: {report.head}" in message


def test_an_id_does_not_know_its_place_in_the_chain(played: GitOps, tmp_path: Path) -> None:
    other = GitOps(tmp_path / "other.git", "dev")
    other.seed(sample_checkout())

    def slower(state: object, now: str) -> object:
        return passing(state, now).model_copy(update={"timings": Timings()})  # type: ignore[arg-type]

    other.commit(_propose(A, 1))
    other.commit(_look(slower, 2))
    mine, theirs = played.decisions()[:2], other.decisions()
    assert [made.id for made in mine] != []
    assert mine[0] == theirs[0]
    assert mine[1].evidence != theirs[1].evidence
    assert played.records()[0] == other.records()[0]


def _flipped(text: bytes, place: int, bit: int) -> bytes:
    return text[:place] + bytes([text[place] ^ bit]) + text[place + 1 :]


def test_a_changed_byte_anywhere_is_found_and_named(played: GitOps) -> None:
    history = played.history()
    assert not list(examine(history))
    assert history.records
    for path, text in history.records.items():
        for place in {*range(0, len(text), 23), len(text) - 1}:
            broken = dict(history.records) | {path: _flipped(text, place, 1 << place % 8)}
            first = next(examine(replace(history, records=broken)), None)
            assert first, (path, place)
            assert first.where.startswith(path), (path, place, first)


def test_a_changed_byte_in_a_rewritten_history_is_found_and_named(played: GitOps, tmp_path: Path) -> None:
    rng = random.Random(4)  # noqa: S311
    accused: dict[tuple[str, int], str] = {}
    for number, (path, text) in enumerate(played.records()):
        for place in (rng.randrange(len(text)), len(text) - 1):
            broken = {text: _flipped(text, place, 1)}
            copy = rewritten(played, tmp_path / f"{number}-{place}.git", lambda data, new=broken: new.get(data, data))  # type: ignore[misc]
            accused[path, place] = next((problem.where for problem in verify(copy).problems), "nothing")
    assert len({path for path, _ in accused}) == len(played.records()) > 0
    assert {key: where for key, where in accused.items() if not where.startswith(key[0])} == {}


def test_a_change_that_its_commit_vouches_for_breaks_the_chain(played: GitOps, tmp_path: Path) -> None:
    path, text = played.records()[2]
    changed = text.replace(b'"id": "run-3"', b'"id": "run-4"')
    names = (digest_of_bytes(text).encode(), digest_of_bytes(changed).encode())

    def forge(data: bytes) -> bytes:
        return changed if data == text else data.replace(b"Sluice-Record: " + names[0], b"Sluice-Record: " + names[1])

    report = verify(rewritten(played, tmp_path / "forged.git", forge))
    assert [problem.where for problem in report.problems] == [path]
    assert "0004-shadow-rollback.json was written after" in report.problems[0].rule


def test_a_history_rewritten_whole_is_found_by_an_older_head(played: GitOps, tmp_path: Path) -> None:
    head = verify(played).head
    assert head
    cut = GitOps(tmp_path / "cut.git", "dev")
    git(Path(cut.remote), "init", "--quiet", "--bare", "--initial-branch=main")
    git(Path(played.remote), "push", "--quiet", cut.remote, "main~1:refs/heads/main")
    assert verify(cut).is_intact
    report = verify(cut, expect=head)
    assert [problem.where for problem in report.problems] == [head]
    assert verify(played, expect=verify(cut).head).is_intact


def test_commits_that_break_the_ledger_are_named(gitops: GitOps) -> None:
    path, text = gitops.records()[-1]
    decision = decode_record(text, path).decision
    tip = git(Path(gitops.remote), "rev-parse", "main").decode().strip()
    moved = decision.model_copy(update={"id": "hold-000000000001", "before": decision.after, "action": "hold"})
    next_path = f"{OVERLAY}/decisions/00/0007-shadow-hold.json"
    record = text.replace(b'"number": 6', b'"number": 7')
    cases: list[tuple[str, dict[str, bytes], str, str]] = [
        ("edit", {path: text + b" "}, path, "was changed again by commit"),
        (commit_message(moved), {}, "commit", "names hold-000000000001 and brings no record"),
        (f"x\n\nSluice-Decision: {decision.id}\n", {}, "commit", "came with commit"),
        (f"x\n\nsluice-DECISION: new\nsluice-decision: {decision.id}\n", {}, "commit", "came with commit"),
        ("add", {f"{OVERLAY}/decisions/00/0008-shadow-hold.json": record}, "0008", "is not named by its commit"),
        (commit_message(moved), {next_path: record}, next_path, "is not named by its commit"),
        ("hand", {RELEASE: _weights(gitops)}, RELEASE, "is not the state that the last record"),
        ("hand", {RELEASE: b"nonsense"}, RELEASE, "is not a mapping"),
        ("remove", {}, path, "was removed by commit"),
    ]
    for message, files, where, rule in cases:
        more = f"D {path}\n".encode() if message == "remove" else b""
        _append(gitops, message, files, more=more)
        found = [(problem.where, problem.rule) for problem in verify(gitops).problems]
        assert any(where in one and rule in two for one, two in found), (message, found)
        git(Path(gitops.remote), "update-ref", "refs/heads/main", tip)
    assert verify(gitops).is_intact


def _weights(gitops: GitOps) -> bytes:
    (*others, candidate) = gitops.snapshot().state.arms
    arms = (*others, candidate.model_copy(update={"mirror": 50}))
    return render_release(gitops.snapshot().state.model_copy(update={"arms": arms}))


def test_a_commit_by_hand_between_two_decisions_is_told_and_no_problem(gitops: GitOps) -> None:
    _append(gitops, "half of the copies", {RELEASE: _weights(gitops)})
    roll_back(gitops, "audit", "kim", _day(8))
    report = verify(gitops)
    assert report.is_intact, report.problems
    assert len(report.by_hand) == 1
    records = gitops.records()
    before = decode_record(records[-1][1], "last").decision.before
    assert before["mirror_percent"] == 50


def test_states_that_do_not_link_up_are_named(played: GitOps, tmp_path: Path) -> None:
    def forge(data: bytes) -> bytes:
        return data.replace(b'"sequence": 2', b'"sequence": 9') if b'"number": 3' in data else data

    rules = [problem.rule for problem in verify(rewritten(played, tmp_path / "copy.git", forge)).problems]
    assert any("starts from another state than" in rule for rule in rules)


def test_records_from_before_the_chain_are_accepted_at_the_beginning_only(played: GitOps, tmp_path: Path) -> None:
    texts = dict(played.records())
    old = {text: _bare(text) for text in list(texts.values())[:3]}
    fourth = list(texts.values())[3]
    chained = fourth.replace(digest_of_bytes(list(old)[2]).encode(), digest_of_bytes(list(old.values())[2]).encode())
    names = _relinked(list(texts.values()), old | {fourth: chained})

    def aged(data: bytes) -> bytes:
        for text, new in names.items():
            if data == text:
                return new
        for text, new in names.items():
            trailer = b"Sluice-Record: " + digest_of_bytes(text).encode() + b"\n"
            kept = b"" if text in old else b"Sluice-Record: " + digest_of_bytes(new).encode() + b"\n"
            data = data.replace(trailer, kept)
        return data

    copy = rewritten(played, tmp_path / "aged.git", aged)
    report = verify(copy)
    assert (report.is_intact, report.unchained, report.records) == (True, 3, 6), report.problems
    assert copy.decisions() == played.decisions()
    roll_back(copy, "audit", "kim", _day(9))
    assert verify(copy).is_intact
    late = rewritten(copy, tmp_path / "late.git", lambda data: _bare(data) if b'"number": 5' in data else data)
    assert any("form before the chain" in problem.rule for problem in verify(late).problems)


def _bare(text: bytes) -> bytes:
    decision = json.loads(text)["decision"]
    return (json.dumps(decision, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _relinked(texts: list[bytes], changed: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Every record, with ``changed`` in place and the digests of the later ones following."""
    found: dict[bytes, bytes] = {}
    for former, text in zip([b"", *texts], texts, strict=False):
        new = changed.get(text, text)
        if former in found:
            new = new.replace(digest_of_bytes(former).encode(), digest_of_bytes(found[former]).encode())
        found[text] = new
    return found


def test_the_command_says_it_and_exits_with_2_when_broken(played: GitOps, tmp_path: Path) -> None:
    home = tmp_path / "home"
    path, text = played.records()[1]
    copies = {
        "good": lambda data: data,
        "bad": lambda data: data.replace(b"4000", b"4001", 1) if data == text else data,
    }
    done = {}
    for name, change in copies.items():
        rewritten(played, _made(home / name / "gitops.git"), change)
        environment = {"SLUICE_HOME": str(home / name), "PATH": "/usr/bin:/bin"}
        done[name] = sluice("ledger", "verify", "--json", env=environment)
    good, bad = done["good"], done["bad"]
    assert (good.returncode, json.loads(good.stdout)["intact"], good.stderr) == (0, True, "")
    assert (bad.returncode, json.loads(bad.stdout)["intact"], len(bad.stderr.splitlines())) == (2, False, 1)
    assert path in bad.stderr
    assert "the first of 2 problems" in bad.stderr


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def test_a_repository_that_git_cannot_read_is_refused(gitops: GitOps) -> None:
    verify(gitops)
    git(Path(gitops.remote), "repack", "-a", "-d", "--quiet")
    (pack,) = (Path(gitops.remote) / "objects" / "pack").glob("*.pack")
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises((BadArtifact, BadInput), match=r"copy\.git"):
        verify(gitops)


def test_a_thousand_decisions_are_verified_and_explained(tmp_path: Path) -> None:
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    gitops.commit(_propose(A, 1))
    gitops.commit(_look(passing, 2))
    gitops.commit(_propose(B, 3))
    gitops.commit(_look(passing, 4))
    lengthen(gitops, 1000)
    started = time.perf_counter()
    report = verify(gitops)
    verified = time.perf_counter() - started
    assert (report.is_intact, report.records) == (True, 1000), report.problems[:3]
    started = time.perf_counter()
    explanation = why(gitops, A)
    explained = time.perf_counter() - started
    assert len(explanation.links) == 2
    print(f"\n1,000 decisions: verified in {verified:.2f} s, explained in {explained:.2f} s")  # noqa: T201


def test_ten_thousand_records_keep_their_order(tmp_path: Path) -> None:
    """Git's order of names puts 10000 before 9999."""
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    files = {f"{OVERLAY}/decisions/{n // 100:02d}/{n:04d}-hold-hold.json": b"{}" for n in (99, 100, 9999, 10000)}
    _append(gitops, "names only", files)
    assert [path.rpartition("/")[2][:5] for path, _ in gitops.records()] == ["0099-", "0100-", "9999-", "10000"]


def test_a_report_that_is_intact_raises_nothing_and_a_broken_one_its_first_problem(played: GitOps) -> None:
    report = verify(played)
    report.require_intact()
    broken = verify(played, expect="sha256:" + "0" * 64)
    with pytest.raises(BadArtifact, match="history was rewritten or cut"):
        broken.require_intact()
    assert "intact" in report.lines()[0]
    assert "broken" in broken.lines()[0]
    assert replace(broken, problems=()).is_intact

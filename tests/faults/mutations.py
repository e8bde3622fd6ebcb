"""
The guards of the product, each taken out of a copy of its source in turn: a row of the table must then go red.

A change is made in the text of one function, so it is loud when the function has moved on: then mend the entry here.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import sluice

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """
    One guard out of order.

    Attributes:
        guard: what is taken out, as the table names it.
        file: in ``components/src/sluice``.
        function: in which the text stands; a method as ``Class.name``, a class by its name.
        text: replaced by ``by``; must be there once.
        rows: that are asked, the likeliest first.
    """

    guard: str
    file: str
    function: str
    text: str
    by: str
    rows: tuple[str, ...]


_GUARDS, _ONLINE, _ROLLOUT = "gates/guards.py", "gates/online.py", "rollout/advance.py"
_GITOPS, _CLONE, _STATE = "gitops/writer.py", "git/clone.py", "documents/state.py"
_PROPOSALS = ("decisions: forbidden proposals",)
_ABOUT = ("metrics: evidence about something else",)
MUTATIONS = (
    Mutation(
        "enough requests (n minimum)",
        _ONLINE,
        "judge_look",
        "_requests(evidence.candidate, stage.minimum_n)",
        "_requests(evidence.candidate, 0)",
        ("metrics: too few requests",),
    ),
    Mutation(
        "enough requests for a first model",
        _ONLINE,
        "judge_bootstrap",
        "_requests(arm, policy.bootstrap.minimum_n,",
        "_requests(arm, 0,",
        ("metrics: too few requests",),
    ),
    Mutation(
        "answered requests alone count",
        "documents/evidence.py",
        "Arm.answered",
        "self.asked - self.errors",
        "self.n",
        ("metrics: nearly all requests are refused",),
    ),
    Mutation(
        "refusals of what stable answered",
        "evidence/rows.py",
        "refused_alone",
        "alone=alone",
        "alone=pl.lit(False)",
        ("metrics: the candidate refuses what stable answers",),
    ),
    Mutation(
        "age of the evidence",
        _GUARDS,
        "_hours_between",
        "return (now - then).total_seconds() / 3600",
        "return 0",
        ("metrics: traffic stops", "metrics: stale by 10 minutes"),
    ),
    Mutation(
        "a side that fell silent",
        "rollout/look.py",
        "_flow",
        "return () if has_failed else irregular_flow(evidence, state, policy, now)",
        "return ()",
        ("metrics: the candidate falls silent",),
    ),
    Mutation(
        "models that a rollback left",
        "operations/good_models.py",
        "_follow",
        'confirmed.pop(step.before or "", None)',
        "pass",
        ("decisions: a rollback after a hold was lifted",),
    ),
    Mutation(
        "a confirm that could not end",
        "gates/contradictions.py",
        "_endless",
        "if expected < (1 if rule.per_slice else n)",
        "if False",
        ("decisions: a confirm that could not end",),
    ),
    Mutation(
        "evidence from the future",
        _GUARDS,
        "_timely",
        "if evidence_moment > moment",
        "if False",
        ("metrics: evidence from the future",),
    ),
    Mutation(
        "requests from the future",
        _GUARDS,
        "_believable",
        "moment_of(value) > moment_of(evidence.now)",
        "False",
        ("metrics: evidence from the future",),
    ),
    Mutation(
        "requests of an earlier stage", _GUARDS, "_timely", "if arm.first and state.since and", "if False and", _ABOUT
    ),
    Mutation(
        "what the evidence is about",
        _GUARDS,
        "_about",
        "getattr(evidence, key), getattr(state, key)",
        "getattr(state, key), getattr(state, key)",
        _ABOUT,
    ),
    Mutation(
        "whose evidence it is (digest)",
        _GUARDS,
        "_about",
        "arm.digest if arm else None, getattr(state, side)",
        "getattr(state, side), getattr(state, side)",
        ("metrics: another revision's data",),
    ),
    Mutation("finite numbers", _GUARDS, "_believable", "not math.isfinite(value)", "False", ("metrics: NaN",)),
    Mutation(
        "answers of a digest that is not released",
        _ONLINE,
        "_foreign_answers",
        "if n else ()",
        "if False else ()",
        ("metrics: two series", "metrics: another revision's data"),
    ),
    Mutation(
        "traffic split",
        "gates/sequential.py",
        "is_broken",
        "return sample_ratio(second, first, planned) >= -math.log(alpha)",
        "return False",
        ("metrics: half the planned traffic arrives", "decisions: a broken traffic split"),
    ),
    Mutation(
        "a broken split blames the road",
        _ROLLOUT,
        "advance",
        'any(reason.rule != "split" for reason in failed)',
        "True",
        ("metrics: half the planned traffic arrives",),
    ),
    Mutation(
        "label coverage",
        "gates/rules/label_coverage.py",
        "_judge",
        "broken = Verdict.INCONCLUSIVE",
        "broken = Verdict.PASS",
        ("metrics: half the labels never come",),
    ),
    Mutation(
        "error rate",
        "gates/rules/error_rate.py",
        "_judge",
        "(_by_slice(question) if question.rule.per_slice else (_whole(question),))",
        "()",
        ("decisions: a failing candidate",),
    ),
    Mutation(
        "faults of the path",
        "evidence/minutes.py",
        "_shared",
        "both & alike",
        "both & ~both",
        ("metrics: an outage of what both sides share",),
    ),
    Mutation(
        "loss",
        "gates/rules/loss.py",
        "_judge",
        "if question.rule.per_slice:",
        "if True: return ()\n    if question.rule.per_slice:",
        ("decisions: a worse candidate",),
    ),
    Mutation(
        "effect read back",
        "rollout/look.py",
        "judge",
        "effect.verdict is not Verdict.PASS and not has_loss",
        "False",
        ("metrics: cluster does not do what Git says",),
    ),
    Mutation(
        "deadline",
        "rollout/terms.py",
        "overdue",
        "if hours >= terms.maximum_hours",
        "if False",
        ("metrics: evidence source down",),
    ),
    Mutation(
        "a failed candidate is held",
        _ROLLOUT,
        "advance",
        "_why(failed) if blamed else None",
        "None",
        ("metrics: clocks 5 minutes apart", "metrics: NaN"),
    ),
    Mutation("hold", _ROLLOUT, "_forbidden", "hold is not None,", "False,", _PROPOSALS),
    Mutation("one rollout at a time", _ROLLOUT, "_forbidden", "state.rollout is not None,", "False,", _PROPOSALS),
    Mutation(
        "stable is not proposed again", _ROLLOUT, "_forbidden", "state.stable == candidate,", "False,", _PROPOSALS
    ),
    Mutation(
        "first models only where allowed",
        _ROLLOUT,
        "_forbidden",
        "state.stable is None and not snapshot.policy.bootstrap.allowed,",
        "False,",
        _PROPOSALS,
    ),
    Mutation(
        "offline verdict",
        _ROLLOUT,
        "propose",
        "verdict = unanimous(reason.verdict for reason in reasons)",
        "verdict = Verdict.FAIL if broken else Verdict.PASS",
        _PROPOSALS,
    ),
    Mutation(
        "compare-and-swap",
        _CLONE,
        "Clone.push",
        '"push", "--porcelain",',
        '"push", "--force", "--porcelain",',
        ("git: another writes while one decides",),
    ),
    Mutation(
        "decide again after a lost race",
        _GITOPS,
        "GitOps._raced",
        "decision = decide(snapshot)",
        "decision = locals().get('decision') or decide(snapshot)",
        ("git: another writes while one decides",),
    ),
    Mutation(
        "a push overtaken in flight is a lost race",
        _CLONE,
        "Clone.push",
        "if any(reason in failed.output for reason in _LOST_RACE)",
        'if "fetch first" in failed.output',
        ("git: another's push slips in before one's own",),
    ),
    Mutation(
        "state that a decision was made on",
        "ledger/record_files.py",
        "changed_files",
        'if decision.before != snapshot.state.model_dump(mode="json")',
        "if False",
        ("git: a decision about an older state",),
    ),
    Mutation(
        "one id, one decision",
        _GITOPS,
        "GitOps._write",
        "if known := self._known(snapshot.commit, decision.id)",
        "if known := None",
        ("git: repository out of reach", "SIGKILL: any time, git too"),
    ),
    Mutation(
        "history asked after a lost answer",
        _GITOPS,
        "GitOps._write",
        "if known := self._known(self.fetch(), decision.id):",
        "if known := None:",
        ("git: acknowledgement lost",),
    ),
    Mutation(
        "a broken private copy is replaced",
        _CLONE,
        "Clone.fetch",
        "return self.replace()",
        "raise",
        ("git: private copy damaged",),
    ),
    Mutation(
        "locks of killed writers are cleared",
        _CLONE,
        "Clone._clear_stale_locks",
        'for name in (_MAIN, "HEAD")',
        "for name in ()",
        ("SIGKILL: while the branch moves",),
    ),
    Mutation(
        "unknown keys of a hold",
        "documents/model.py",
        "FrozenDocument",
        'extra="forbid"',
        'extra="ignore"',
        ("downgrade: files of a newer version",),
    ),
    Mutation(
        "unknown keys of a policy",
        "stages/section.py",
        "PolicyModel",
        'extra="forbid"',
        'extra="ignore"',
        ("downgrade: files of a newer version",),
    ),
    Mutation(
        "a server that goes by a commit of its own",
        _STATE,
        "ReleaseState.settled",
        "left = self.candidate or self.leftover",
        "left = None",
        ("cluster: the prune of a rollout's end alone was brought about",),
    ),
    Mutation(
        "a server that stays until the route is read back",
        "rollout/drain.py",
        "remove_server",
        " or reason.verdict is not Verdict.PASS",
        "",
        ("cluster: the route of a rollback waits",),
    ),
    Mutation(
        "records against their commits",
        "operations/ledger.py",
        "verify",
        "*_problems(history, entries), ",
        "",
        ("ledger: a byte changed by hand",),
    ),
)


def mutated(source: str, mutation: Mutation) -> str:
    """
    The file without the guard.

    Raises:
        ValueError: the function, or the text in it, is not there once.
    """
    node = _named(ast.parse(source), mutation.function.split("."))
    lines = source.splitlines(keepends=True)
    start, end = (node.lineno - 1, node.end_lineno) if node else (0, 0)
    text = "".join(lines[start:end])
    if text.count(mutation.text) != 1:
        raise ValueError(
            f"{mutation.file}, {mutation.function}: {mutation.text!r} is there {text.count(mutation.text)} times"
        )
    return "".join(lines[:start]) + text.replace(mutation.text, mutation.by) + "".join(lines[end:])


def _named(tree: ast.AST, names: list[str]) -> ast.FunctionDef | ast.ClassDef | None:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == names[0]:
            return _named(node, names[1:]) if len(names) > 1 else node
    return None


def caught_by(mutation: Mutation, directory: Path) -> str | None:
    """
    The first row that goes red without the guard, asked in a process of its own; ``None`` when all stay green.

    Raises:
        ValueError: the copy could not be made, or was not what the process used.
    """
    copy = directory / "source" / "sluice"
    shutil.copytree(Path(sluice.__path__[0]), copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / mutation.file
    file.write_text(mutated(file.read_text(), mutation))
    path = os.pathsep.join([str(copy.parent), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.mutant", str(directory), *mutation.rows],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    words = done.stdout.strip().splitlines()
    if done.returncode or len(words) != 2 or words[0] != str(copy):
        raise ValueError(f"{mutation.guard}: {(done.stderr or done.stdout).strip()[-300:]}")
    return words[1] if words[1] != "-" else None

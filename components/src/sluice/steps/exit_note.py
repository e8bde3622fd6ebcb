"""How a pipeline run ended, for people."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.steps.ending import EndingKind, StepEnding

_WELL = frozenset({"SUCCEEDED", "COMPLETE", "CACHED"})
"""KFP's documentation and its local runner say the first, its back end says what its metadata store does."""
_FAILED = frozenset({"FAILED", "CANCELLED"})
_CODES = (
    "Exit status 2 means wrong input, 3 that a rule forbids to go on, 1 a fault: a program's, or a network's that "
    "did not mend itself."
)


def exit_note(
    run: str, state: str, task: str | None, message: str | None, endings: Sequence[StepEnding] = ()
) -> tuple[str, str]:
    """
    Args:
        run: the run's name.
        state: KFP's, of what the exit handler covers.
        task: the task of that name in the graph.
        message: what KFP says of it.
        endings: how the steps ended, in order; none where nobody may read the run's pods.

    Returns:
        A page in Markdown, and one line for the log.
    """
    broken = [one for one in endings if one.failed]
    if broken or state in _FAILED:
        return _failed(run, state, broken, " ".join((message or "").split()), task)
    for kind, verb in ((EndingKind.REFUSED, "refused"), (EndingKind.NOT_DUE, "ended well, not due")):
        if (last := _last(endings, kind)) is not None:
            page = f"# Run {run}: {verb}\n\nBy `{last.step}`: {last.text}\n\nNothing is broken.\n"
            return page, f"run {run}: {verb} by {last.step}: {last.text}"
    last = _last(endings, EndingKind.DONE)
    if state not in _WELL and last is None:
        return _without_state(run, state)
    words = f"`{last.step}`: {last.text}\n" if last else "A step's page says whether it refused or released.\n"
    return f"# Run {run} ended well\n\n{words}", f"run {run}: ended well" + (f"; {last.text}" if last else "")


def _last(endings: Sequence[StepEnding], kind: EndingKind) -> StepEnding | None:
    return next((one for one in reversed(endings) if one.kind == kind), None)


def _failed(run: str, state: str, broken: Sequence[StepEnding], message: str, task: str | None) -> tuple[str, str]:
    verb = "was cancelled" if state == "CANCELLED" else "failed"
    if not broken:
        words = message or "KFP names no step: it is the red one; read the end of its log"
        return f"# Run {run} {verb}\n\nIn `{task or 'the graph'}`: {words}\n\n{_CODES}\n", f"run {run}: {verb}: {words}"
    lines = [f"{one.step}: {one.kind}{': ' if one.kind else ''}{one.text}" for one in broken]
    listed = "\n".join(f"- {line}" for line in lines)
    return f"# Run {run} {verb}\n\n{listed}\n\n{_CODES}\n", f"run {run}: {verb} in {'; '.join(lines)}"


def _without_state(run: str, state: str) -> tuple[str, str]:
    """KFP's back end leaves its handler's state at RUNNING where the last task was skipped, cached or killed."""
    page = (
        f"# Run {run} ended, and KFP does not say how\n\n"
        f"No step told of a failure, and the state is {state}: the last one was skipped or taken from the cache, "
        "or its pod was killed. If a step is red, read the end of its log.\n"
    )
    return page, f"run {run}: ended, no step told of a failure (state {state})"

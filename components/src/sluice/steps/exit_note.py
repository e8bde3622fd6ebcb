"""How a pipeline run ended, for people."""

from __future__ import annotations

_WELL = frozenset({"SUCCEEDED", "COMPLETE", "CACHED"})
"""KFP's documentation and its local runner say the first, its back end says what its metadata store does."""
_FAILED = frozenset({"FAILED", "CANCELLED"})


def exit_note(run: str, state: str, task: str | None, message: str | None) -> tuple[str, str]:
    """
    Args:
        run: the run's name.
        state: KFP's, of what the exit handler covers.
        task: the task of that name in the graph.
        message: what KFP says of it.

    Returns:
        A page in Markdown, and one line for the log.
    """
    if state in _WELL:
        return f"# Run {run} ended well\n", f"run {run}: ended well"
    if state not in _FAILED:
        return _without_state(run, state)
    words = " ".join((message or "KFP names no step").split())
    page = (
        f"# Run {run} ended {state}\n\n"
        f"In `{task or 'the graph'}`: {words}\n\n"
        "Open the red step and read the end of its log: one line `sluice: ...` says what was wrong and what to do. "
        "Exit status 2 means wrong input, 3 that a rule forbids to go on (as the offline gate's verdict), 1 a fault.\n"
    )
    return page, f"run {run}: ended {state} in {task or 'the graph'}: {words}"


def _without_state(run: str, state: str) -> tuple[str, str]:
    """KFP's back end leaves its handler's state at RUNNING where the last task was skipped, cached or killed."""
    page = (
        f"# Run {run} ended, and KFP does not say how\n\n"
        f"No step told of a failure, and the state is {state}: the last one was skipped or taken from the cache, "
        "or its pod was killed. If a step is red, read the end of its log.\n"
    )
    return page, f"run {run}: ended, no step told of a failure (state {state})"

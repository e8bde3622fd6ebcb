"""How a pipeline run ended, for people."""

from __future__ import annotations

_WELL = "SUCCEEDED"


def ending(run: str, state: str, task: str | None, message: str | None) -> tuple[str, str]:
    """
    Args:
        run: the run's name.
        state: KFP's, of what the exit handler covers.
        task: the task of that name in the graph.
        message: what KFP says of it.

    Returns:
        A page in Markdown, and one line for the log.
    """
    if state == _WELL:
        return f"# Run {run} ended well\n", f"run {run}: ended well"
    said = " ".join((message or "no message").split())
    page = (
        f"# Run {run} ended {state}\n\n"
        f"In `{task or 'the graph'}`: {said}\n\n"
        "Open the red step and read the end of its log: one line `sluice: ...` says what was wrong and what to do. "
        "Exit code 2 means wrong input, 3 that a rule forbids to go on (as the offline gate's verdict), 1 a fault.\n"
    )
    return page, f"run {run}: ended {state} in {task or 'the graph'}: {said}"

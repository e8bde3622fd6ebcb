"""Bundle → proof that the real server loads it and answers as offline, or why not."""

from typing import NamedTuple

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=1))
def infra_validate(
    digest: str,
    server: str,
    packed: dsl.Input[dsl.Model],
    frame: dsl.Input[dsl.Dataset],
    served: dsl.Output[dsl.Artifact],
    answers: dsl.Output[dsl.Markdown],
) -> NamedTuple("Server", [("passed", bool), ("reason", str)]):  # type: ignore[valid-type]
    """Start the model server on the bundle, ask it V1 and V2 over HTTP, compare, measure, stop it."""
    import sys
    from pathlib import Path

    from sluice.evaluation.infra import infra_validate as run
    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.infra import infra_page, infra_refusal
    from sluice.workspace import bundle_directory

    with exit_on_error():
        directory = bundle_directory(Path(packed.path), digest)
        result = run(directory, digest, Path(frame.path), [sys.executable, "-m", server], Path(served.path))
    Path(answers.path).write_text(infra_page(result, Path(served.path)), "utf-8")
    reason = infra_refusal(result)
    say(EndingKind.REFUSED if reason else EndingKind.DONE, reason or f"{digest} answers as offline")
    return result.passed, reason

"""Bundle → proof that the real server loads it and answers as offline."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=1))
def infra_validate(
    digest: str,
    server: str,
    packed: dsl.Input[dsl.Model],
    frame: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Artifact],
) -> bool:
    """Start the model server on the bundle, ask it V1 and V2 over HTTP, compare, measure, stop it."""
    import sys
    from pathlib import Path

    from sluice.evaluation.infra import infra_validate as run
    from sluice.evaluation.infra import require_passed
    from sluice.steps.error_boundary import exit_on_error
    from sluice.workspace import bundle_directory

    with exit_on_error():
        directory = bundle_directory(Path(packed.path), digest)
        result = run(directory, digest, Path(frame.path), [sys.executable, "-m", server], Path(report.path))
        require_passed(result)
    return result.passed

"""Raw data to a proposed release, with the offline gate between."""

from kfp import dsl

from components.build_features import build_features
from components.bundle import bundle
from components.compress import compress
from components.evaluate import evaluate
from components.gate import gate
from components.infra_validate import infra_validate
from components.ingest import ingest
from components.release import release
from components.select import select
from components.train import train
from components.validate import validate


@dsl.pipeline(name="sluice-training", description="Ingest, validate, train, compress, evaluate, gate, bundle, release.")
def training(
    task: str,
    source: str,
    recipe: str,
    policy: str,
    production: str,
    environment: str,
    now: str,
    run: str,
    feature_repo: str = "/app/feature_repo",
    bundles: str = "/mnt/bundles",
    gitops: str = "/mnt/gitops.git",
    server: str = "/app/serving/predictor.py",
    record: str = "/mnt/runs/latest",
) -> str:
    """
    Train one candidate and propose it.

    Args:
        task: name of a module of ``sluice.tasks``.
        source: digest of the raw files; a changed source is a new span.
        recipe: the candidate, as JSON (``sluice.models.recipe.Recipe``).
        policy: the gate policy's text at the commit that the run starts from.
        production: digest of the bundle now in production, or empty.
        environment: whose release file is written.
        now: time of the run, ISO 8601 in UTC.
        run: JSON object that names the run in every decision.
        feature_repo: folder of the Feast definitions.
        bundles: folder of the content-addressed bundle store.
        gitops: the GitOps repository.
        server: the model server's script.
        record: folder that the run's documents are copied to, for the report.
    """
    span = ingest(task=task, source=source)
    valid = validate(task=task, span=span.outputs["span"])
    frame = build_features(
        task=task, feature_repo=feature_repo, span=span.outputs["span"], report=valid.outputs["report"]
    ).outputs["frame"]
    teacher = train(task=task, recipe=recipe, frame=frame).outputs["teacher"]
    ladder = compress(recipe=recipe, frame=frame, teacher=teacher).outputs["ladder"]
    selection = select(policy=policy, recipe=recipe, frame=frame, ladder=ladder).outputs["selection"]
    evaluation = evaluate(
        task=task,
        recipe=recipe,
        production=production,
        bundles=bundles,
        frame=frame,
        teacher=teacher,
        ladder=ladder,
        selection=selection,
    ).outputs["evaluation"]
    judged = gate(gitops=gitops, environment=environment, now=now, run=run, record=record, evaluation=evaluation)
    judged.set_caching_options(False)
    packed = bundle(
        task=task,
        recipe=recipe,
        passed=judged.outputs["Output"],
        bundles=bundles,
        run=run,
        evaluation=evaluation,
    )
    packed.set_caching_options(False)  # a bundle that was deleted is written again
    served = infra_validate(digest=packed.outputs["Output"], bundles=bundles, server=server, frame=frame)
    proposed = release(
        gitops=gitops,
        environment=environment,
        now=now,
        digest=packed.outputs["Output"],
        record=record,
        report=served.outputs["report"],
        decision=judged.outputs["decision"],
    )
    proposed.set_caching_options(False)
    action: str = proposed.outputs["Output"]
    return action

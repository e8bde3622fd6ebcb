"""Frame → teacher, trained over several nodes by a TrainJob or TFJob that this step submits and follows."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def train_on_nodes(
    job: str,
    placement: str,
    operator: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """
    Run ``job`` (JSON, ``sluice.training.train_job.TrainingJob``) at ``placement`` (JSON, ``Placement``).

    The claim that the nodes share is mounted into this step at the placement's mount. ``operator`` is ``TrainJob`` or
    ``TFJob``. A retry follows the job that is already there; how long the step may take is the pipeline's to say
    (``set_timeout``).
    """
    import json
    import shutil
    import sys
    import time
    from pathlib import Path
    from typing import Any

    from kubernetes import client, config

    from sluice.errors import BadInput
    from sluice.training.train_job import Placement, TrainingJob, outcome, tf_job, train_job, training_runtime

    asked, place = TrainingJob.model_validate_json(job), Placement.model_validate_json(placement)
    if operator not in {"TrainJob", "TFJob"}:
        raise BadInput(f"operator {operator!r}", "is not known", "choose TrainJob or TFJob")
    shared = Path(place.mount)
    shutil.copytree(frame.path, shared / asked.frame, dirs_exist_ok=True)
    config.load_config()
    api = client.CustomObjectsApi()

    def where(document: dict[str, Any]) -> tuple[str, str, str, str]:
        group, version = document["apiVersion"].split("/")
        return group, version, place.namespace, document["kind"].lower() + "s"

    documents = [training_runtime(place), train_job(asked, place)] if operator == "TrainJob" else [tf_job(asked, place)]
    for document in documents:
        try:
            api.create_namespaced_custom_object(*where(document), document, field_validation="Strict")
        except client.ApiException as error:
            if error.status != 409:
                raise
    said, done = "", None
    while done is None:
        time.sleep(5)
        done, now = outcome(api.get_namespaced_custom_object(*where(documents[-1]), asked.name))
        if now != said:
            sys.stdout.write(f"{operator} {asked.name}: {now}\n")
            sys.stdout.flush()
        said = now
    if not done:
        raise RuntimeError(f"{operator} {asked.name} failed: {said}")
    shutil.copytree(shared / asked.out, teacher.path, dirs_exist_ok=True)
    record = json.loads((Path(teacher.path) / "history.json").read_text())
    Path(metrics.path).touch()  # KFP's local cache takes an artifact without a file for lost
    metrics.log_metric("epochs", record["epochs"])
    metrics.log_metric("tune_log_loss", record["tune_log_loss"])

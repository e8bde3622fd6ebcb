"""
The names and labels that the dashboard "Prediction Analytics" of the Helm chart seldon-core-analytics reads.

https://github.com/SeldonIO/seldon-core, helm-charts/seldon-core-analytics/files/grafana/configs. Its deployment is our
task, its predictor our role (stable or candidate); the image is the task too, so its digests share a row of graphs.
"""

from __future__ import annotations

import math

SERVER = "seldon_api_executor_server_requests_seconds"
"""Histogram of requests as they come in."""
CLIENT = "seldon_api_executor_client_requests_seconds"
"""Histogram of requests to the model; one process is both here, so it says the same."""
FEEDBACK = "seldon_api_model_feedback_total"
REWARD = "seldon_api_model_feedback_reward_total"
SERVICE = "/Predict"
"""The one spelling of the label ``service`` that all of the dashboard's latency queries match."""
STATUSES = ("200", "400", "500")
IDENTITY = ("deployment_name", "predictor_name", "predictor_version", "model_name", "model_image", "model_version")
LARGEST_LOSS = -math.log(1e-7)
"""Nats: no log loss of ours is larger, because scores are clipped before (``rows.with_labels``)."""


def identity(task: str, role: str, digest: str) -> dict[str, str]:
    """The labels ``IDENTITY`` of a server."""
    values = (task, role, digest.removeprefix("sha256:")[:12], task, task, digest)
    return dict(zip(IDENTITY, values, strict=True))


def reward(n: int, mean_loss: float) -> float:
    """
    The sum of the rewards of ``n`` labelled answers, each in [0, 1]: 1 where sure and right, 0 where sure and wrong.

    One less its log loss as a share of the largest: a sum, so that the quotient of two rates is the mean of new labels.
    """
    return n * (1 - mean_loss / LARGEST_LOSS)

"""The images that steps run in: the only place in Python where an image is named."""

STEPS_IMAGE = "ghcr.io/sluice-ml/steps:0.1.0"
SERVING_IMAGE = "ghcr.io/sluice-ml/serving:0.1.0"

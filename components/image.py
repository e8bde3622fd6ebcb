"""The images that steps run in: the only place in Python where an image is named."""

STEPS_IMAGE = "ghcr.io/sluice-ml/steps:0.1.0"
STEPS_GPU_IMAGE = "ghcr.io/sluice-ml/steps:0.1.0-gpu"
"""The same with the CUDA libraries beside TensorFlow."""

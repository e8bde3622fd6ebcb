"""The release file, the Git writer and the rollout."""

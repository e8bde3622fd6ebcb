"""The teacher and the baselines beside it."""

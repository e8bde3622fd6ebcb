"""The stages of a rollout, one file each, and the strategies that they are composed to."""

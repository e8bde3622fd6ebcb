"""A model that somebody trained elsewhere takes over from one that a pipeline trained."""

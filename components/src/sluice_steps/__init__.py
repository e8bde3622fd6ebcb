"""The pipelines' steps: thin shells over ``sluice``, each with what its pod needs."""

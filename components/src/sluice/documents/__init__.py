"""The documents that all parts speak: release state, evidence, verdict, evaluation, moments of time."""

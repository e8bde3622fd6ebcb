"""Policies and verdicts: pure functions from evidence to decisions."""

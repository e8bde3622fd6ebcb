"""Rollouts played against worlds whose truth is known: what a policy would do, before real users pay for it."""

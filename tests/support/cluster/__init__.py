"""The cluster under test: its checkout, its API, what runs in it."""

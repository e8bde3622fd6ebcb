"""The rollout as pure functions: from a state and evidence to the next state."""

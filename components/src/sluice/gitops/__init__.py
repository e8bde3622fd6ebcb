"""Git as the state machine: reads and writes an environment, one decision a commit."""

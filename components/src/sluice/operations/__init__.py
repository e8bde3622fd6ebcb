"""What people and timers ask of a release: approve, roll back, promote, explain, verify."""

"""Git itself: commands, clones and pushes; it knows nothing of releases."""

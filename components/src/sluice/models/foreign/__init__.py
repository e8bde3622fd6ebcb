"""Models that were trained elsewhere: what a file is, and what of it may be read."""

"""What a pipeline step does with directories and documents, where that is more than one call of the core."""

"""Where evidence comes from: rows of predictions and labels to one document."""

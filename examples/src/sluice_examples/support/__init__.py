"""Messages to a shop are read for what they complain of: several labels a text, and no feature store."""

"""Stories beside the one of flight delays."""

"""Decision records as files of a repository, and the history that they form."""

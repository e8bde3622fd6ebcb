"""The schema of a table in the words of TFDV: read, inferred, held against statistics, changed by what is found."""

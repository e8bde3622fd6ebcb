"""What runs a model file: a module a format, each with a list of what such a file may hold."""

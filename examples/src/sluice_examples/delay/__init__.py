"""How many minutes late will a flight be: a task whose label is a number."""

"""Kinds of target: what a label may be, what a model says of it, and how right it was. A kind is one file here."""

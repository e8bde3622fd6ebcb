"""Ensembles of trees: read from their library's own text or JSON, written as ONNX, without the library."""

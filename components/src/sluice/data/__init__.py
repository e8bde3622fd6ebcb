"""Spans: reading, splitting, statistics, schema and anomalies."""

"""
What is counted about a rollout: one file a group of numbers, one line each in ``registry``.

    rows ──from_rows──► document ──to_points──► points (sluice_… in a Prometheus) ──from_points──► document

A new number with no place of its own in the document is ``arm_measurement``: a name, a sentence and an expression over
the rows of an arm; rules find it in ``Evidence.measurements``.
"""

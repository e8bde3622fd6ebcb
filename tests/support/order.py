"""The order of files of tests: what takes long begins first, so that at the end no processor waits for another."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = (
    "integration/test_story.py",  # plays the story whose end others share: they come later, or they would wait for it
    "integration/test_gate.py",
    "integration/test_training.py",
    "integration/test_collector.py",
    "integration/test_separate_pods.py",
    "integration/test_training_workers.py",
    "integration/test_collector_evidence.py",
    "integration/test_monitoring.py",
    "integration/test_prometheus.py",
    "integration/test_parity_evidence.py",
    "integration/test_watch.py",
    "integration/test_serving_loop.py",
    "integration/test_features_flights.py",
    "integration/test_features_spark.py",
    "integration/test_distributions.py",
    "integration/test_fleet.py",
    "integration/test_train_on_nodes.py",
    "integration/test_training_model_parallel.py",
    "unit/test_simulation.py",
    "integration/test_second_task.py",
    "integration/test_home.py",
)


def turn(path: Path) -> int:
    """When a file's turn comes; those that are not named come after, as they are."""
    name = path.relative_to(TESTS).as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)

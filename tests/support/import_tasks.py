"""Tasks of three kinds by name, for commands that load one."""

from __future__ import annotations

import dataclasses

from tests.support.import_kinds import KINDS, kind_task

BINARY = kind_task(KINDS["binary"].target)
CLASSES = kind_task(KINDS["classes"].target)
COUNTS = kind_task(KINDS["counts"].target)
ELSEWHERE = dataclasses.replace(COUNTS, name="other")

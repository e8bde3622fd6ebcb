"""The loop itself, in a process that may be killed at any moment: ``python -m sluice_local.worker HOME STORY``."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

from sluice.errors import SluiceError
from sluice.workspace import Workspace
from sluice_local.chapter import play_chapter
from sluice_local.events import LoopEvents
from sluice_local.story import load_story
from sluice_local.world import LocalWorld


def main(home: str, story_name: str) -> int:
    """Play every chapter that has not ended yet; tells the watcher how it went."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    workspace = Workspace(Path(home))
    events = LoopEvents(workspace.home / "events.jsonl")
    try:
        story = load_story(story_name)
        with LocalWorld.open(workspace, story, events) as world:
            for chapter in story.chapters:
                play_chapter(world, chapter)
    except SluiceError as error:
        events.emit("failed", thing=error.thing, rule=error.rule, fix=error.fix, exit_code=error.exit_code)
        return error.exit_code
    except OSError as error:
        thing, rule = str(error.filename or home), error.strerror or str(error)
        events.emit("failed", thing=thing, rule=rule, fix="mend it and run again; the run goes on", exit_code=2)
        return 2
    except Exception as error:  # noqa: BLE001  the boundary: people get one line, the log keeps the traceback
        traceback.print_exc()
        log = workspace.home / "logs" / "worker.log"
        rule = f"ended with {type(error).__name__}: {error}"
        events.emit("failed", thing="the loop", rule=rule, fix=f"read {log}", exit_code=1)
        return 1
    events.emit("finished")
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):  # nobody writes; its end is our parent's
        pass
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

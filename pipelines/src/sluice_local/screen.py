"""The run as people see it: the chapter, the step and how far it is."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_TASK = re.compile(r"Executing task '?([\w-]+)'?")
_CACHED = re.compile(r"Task '?([\w-]+)'? cache hit")
_EPOCH = re.compile(r"epoch\s+\d+.*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_VERDICT = {"PASS": "[green]PASS[/]", "FAIL": "[red]FAIL[/]", "INCONCLUSIVE": "[yellow]INCONCLUSIVE[/]"}


def parse(line: bytes) -> dict[str, Any]:
    """One event of the loop."""
    event: dict[str, Any] = json.loads(line)
    return event


class Screen:
    """Progress while the loop runs; on a terminal a live line, elsewhere one line a step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last_line = ""
        """The last line of the loop's log that says something."""
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[chapter]}[/] {task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=console.is_terminal,
            transient=True,
        )
        self._task: TaskID = self.progress.add_task("starting", chapter="", detail="", total=None)

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(f"  {text}", highlight=False)

    def log(self, line: str) -> None:
        """Read the step and the epoch out of KFP's log."""
        plain = _COLOUR.sub("", line)
        self.last_line = plain.strip()[:200] or self.last_line
        if match := _TASK.search(plain):
            self._begin_step(match[1])
        elif match := _CACHED.search(plain):
            self.say(f"[dim]{match[1]}: unchanged, taken from the cache[/]")
        elif match := _EPOCH.search(plain):
            self.progress.update(self._task, detail=match[0][:60])

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of the loop."""
        shower = getattr(self, f"_on_{event['kind']}", None)
        if shower is not None:
            shower(event)

    def _begin_step(self, name: str, total: int | None = None) -> None:
        self.progress.update(self._task, description=name, detail="", completed=0, total=total)
        if not self.console.is_terminal and total is None:
            self.say(f"[dim]{name}[/]")

    def _on_chapter(self, event: dict[str, Any]) -> None:
        self.progress.update(self._task, chapter=f"{event['number']}/{event['of']}")
        self.console.print(f"[bold]{event['number']}. {escape(event['title'])}[/]", highlight=False)

    def _on_step(self, event: dict[str, Any]) -> None:
        self._begin_step(event["name"])

    def _on_traffic(self, event: dict[str, Any]) -> None:
        detail = f"{event['done']}/{event['total']} requests, {event['window'][0][:10]}"
        description = f"{event['stage']} {event['weight']} %"
        self.progress.update(
            self._task, description=description, detail=detail, completed=event["done"], total=event["total"]
        )

    def _on_look(self, event: dict[str, Any]) -> None:
        self.say(
            f"{event['now'][:16]} {event['stage']:9} {event['weight']:3} %  {_VERDICT[event['verdict']]}"
            f" → {event['action']}" + (f"  [dim]{escape(event['why'])}[/]" if event["why"] else "")
        )

    def _on_outcome(self, event: dict[str, Any]) -> None:
        self.say(f"[bold]{escape(event['text'])}[/]")

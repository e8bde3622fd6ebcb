"""Thousands of rollouts over the cores of this machine; how many cores there are changes no figure."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple

from sluice.gates.policy import GatePolicy
from sluice.simulation.peers import PEERS, play_peer
from sluice.simulation.play import Outcome, play, unattended
from sluice.simulation.summary import Summary, summary_of
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.worlds import TrafficScale, World

OURS = "sluice"
_CHUNK = 50
_GARBAGE = 100_000
"""Objects between two collections; there is next to nothing to collect."""
Progress = Callable[[int, int], None]


class Rival(NamedTuple):
    """Who decides: ours, or a peer, perhaps with other parameters (``play_peer``)."""

    name: str
    budget: int = 1
    slack: float | None = None


@dataclass(frozen=True)
class Job:
    """Some rollouts of one world, by one or several deciders on the same requests."""

    world: World
    scale: TrafficScale
    policy: GatePolicy
    seed: int
    rollouts: range
    rivals: tuple[Rival, ...]


Table = dict[Rival, tuple[Summary, ...]]


def simulate(
    policy: GatePolicy,
    worlds: Sequence[World],
    scale: TrafficScale,
    *,
    rollouts: int,
    seed: int,
    rivals: Sequence[Rival] = (Rival(OURS),),
    cores: int | None = None,
    progress: Progress | None = None,
) -> Table:
    """
    Play ``rollouts`` rollouts in each world by each decider.

    Args:
        cores: processes; all that this process may use where it is not said, none beside this one for 1.
        progress: called with rollouts done and rollouts in all.

    Returns:
        For each decider the summaries in the order of ``worlds``.
    """
    automatic = unattended(policy)
    jobs = [
        Job(world, scale, automatic, seed, range(at, min(at + _CHUNK, rollouts)), tuple(rivals))
        for world in worlds
        for at in range(0, rollouts, _CHUNK)
    ]
    by_job: dict[int, dict[Rival, list[Outcome]]] = {}
    rollouts_done = 0
    for index, outcomes in _spread_over(jobs, cores or len(os.sched_getaffinity(0))):
        by_job[index] = outcomes
        rollouts_done += len(jobs[index].rollouts)
        if progress:
            progress(rollouts_done, rollouts * len(worlds))
    by_world = {world: [by_job[index] for index, job in enumerate(jobs) if job.world == world] for world in worlds}
    return {
        rival: tuple(summary_of(world, [one for each in by_world[world] for one in each[rival]]) for world in worlds)
        for rival in rivals
    }


def _spread_over(jobs: Sequence[Job], cores: int) -> Iterator[tuple[int, dict[Rival, list[Outcome]]]]:
    if cores == 1:
        yield from ((index, _play_job(job)) for index, job in enumerate(jobs))
        return
    # spawned, not forked: this process may hold threads of polars
    pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), initializer=_prepared)
    try:
        numbers = {pool.submit(_play_job, job): index for index, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepared() -> None:
    """Ctrl-C reaches every process of the terminal, and the parent alone answers it; documents have no cycles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def _end_with_parent() -> None:
    """However the parent ends, nobody waits for the rest; the pool alone would go on where it was killed."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _play_job(job: Job) -> dict[Rival, list[Outcome]]:
    by_rival: dict[Rival, list[Outcome]] = {rival: [] for rival in job.rivals}
    peers = {peer.name: peer for peer in PEERS}
    for number in job.rollouts:
        traffic = SimulatedTraffic(job.world, job.scale, job.seed, number)
        for rival, outcomes in by_rival.items():
            if rival.name == OURS:
                outcomes.append(play(traffic, job.policy))
            else:
                outcomes.append(play_peer(traffic, job.policy, peers[rival.name], *rival[1:]))
    return by_rival

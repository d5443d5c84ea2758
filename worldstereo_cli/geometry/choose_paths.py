"""Which camera paths to fly: those that uncover most, one after the other.

Every candidate is looked along at a few poses, and the patches of unseen surface that it uncovers
are noted. The path with the greatest weight is taken, its patches are struck off, and so on until
a path adds little or the budget is spent. Every path costs the same, a clip of as many frames as any
other's, so that the path that uncovers most also does so with each frame. For sets that overlap this
greedy choice reaches at least 63 % of what the best choice of as many paths could.

Source: Nemhauser, Wolsey & Fisher, An analysis of approximations for maximizing submodular set
functions, 1978; views chosen by what they newly uncover: Connolly, The determination of next best
views, 1985; tours through chosen views as candidates: Roberts et al., Submodular trajectory
optimization for aerial 3D scanning, 2017.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.candidates import (
    Candidate,
    at_waypoints,
    preset_candidates,
    tour,
    waypoints,
)
from worldstereo_cli.geometry.coverage import Coverage, Looks
from worldstereo_cli.geometry.open_space import OpenSpace
from worldstereo_cli.geometry.paths import Anchor
from worldstereo_cli.geometry.unseen import Unseen

_TOUR_STARTS = 10
"""So many of the best places begin tours; more find hardly anything better."""
_TOUR_PLACES = 4
"""A tour goes through four places at most: with more, a clip of eight frames has one for each, and
nothing in between."""
_LEAST_FRAC = 0.01
"""A path that shows less of all that is hidden is not worth a round, even as the only one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be flown, and how bold it may be."""

    max_paths: int
    min_gain_frac: float
    """The choice ends when a path adds less than this part of all that is uncovered with it."""
    max_hole_frac: float
    """No frame may show more that nobody has seen."""
    num_poses: int
    """Of each path."""
    num_frames: int
    """Poses of each path that are looked at, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Field:
    """What a choice is made in."""

    anchor: Anchor
    near_m: float
    """The depth that amounts are measured at; see `candidates.mean_parallax_depth`."""
    unseen: Unseen
    coverage: Coverage
    space: OpenSpace

    def looks(self, cameras: Cameras, num_frames: int) -> Looks:
        """Look along a path at poses that are evenly spaced, the first and the last among them."""
        last = len(cameras) - 1
        chosen = [round(i * last / max(1, num_frames - 1)) for i in range(num_frames)]
        return self.coverage.look(cameras[chosen])


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate, and what became of it."""

    name: str
    family: str
    verdict: str
    """`chosen`, or why not."""
    alone_frac: float
    """What it would uncover as the only path, as a part of the weight of all patches; 0 if not looked at."""
    added_frac: float
    """What it uncovers beyond the paths chosen before it."""
    hole_frac: float
    """The largest share of a frame that nothing known fills."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The paths to fly, in order, and an account of all others."""

    chosen: list[Candidate]
    considered: list[Considered]
    """The chosen ones first, in order."""
    uncovered: Bool[Tensor, m]
    """Patches that the chosen paths, and those flown before, uncover."""


@dataclass(slots=True)
class _Entry:
    candidate: Candidate
    uncovers: Tensor | None
    hole_frac: float
    refusal: str = ""


def choose_paths(field: Field, budget: Budget, before: list[Cameras]) -> Choice:
    """Choose the paths that uncover most.

    Args:
        field: What is known.
        budget: How many paths, and how bold.
        before: Paths that are flown in any case, before these.
    """
    covered = torch.zeros(len(field.unseen.points), dtype=torch.bool)
    for cameras in before:
        covered |= field.looks(cameras, budget.num_frames).uncovers.any(0)
    entries = [
        _entered(c, field, budget) for c in preset_candidates(field.anchor, field.near_m, budget.num_poses)
    ]
    places = _Places.found(field, budget)
    chosen: list[tuple[_Entry, float]] = []
    weight = field.unseen.weight
    for round_index in range(budget.max_paths):
        entries += [_entered(c, field, budget) for c in places.tours(field, budget, covered, round_index + 1)]
        flyable = [e for e in entries if not e.refusal]
        if not flyable:
            break
        gains = [_added(e, covered, weight) for e in flyable]
        best = max(range(len(gains)), key=lambda i: (gains[i], -i))
        total = float(weight[covered].sum()) + gains[best]
        if gains[best] < max(budget.min_gain_frac * total, _LEAST_FRAC * float(weight.sum())):
            break
        flyable[best].refusal = "chosen"
        chosen.append((flyable[best], gains[best]))
        covered = covered | _seen(flyable[best])
    return Choice(
        [e.candidate for e, _ in chosen], _account(entries, chosen, covered, field, budget), covered
    )


def _entered(candidate: Candidate, field: Field, budget: Budget) -> _Entry:
    """Look along a candidate, if it may be flown at all."""
    if not field.space.along(candidate.cameras.centres):
        return _Entry(candidate, None, 0.0, "comes too near to a surface, or through space that was not seen")
    looks = field.looks(candidate.cameras, budget.num_frames)
    hole = float(looks.hole_frac.max())
    refusal = "" if hole <= budget.max_hole_frac else "shows too much that was not seen in one frame"
    return _Entry(candidate, looks.uncovers.any(0), hole, refusal)


def _seen(entry: _Entry) -> Tensor:
    if entry.uncovers is None:
        raise ValueError(f"Expected a path that was looked along, got {entry.candidate.name}.")
    return entry.uncovers


def _added(entry: _Entry, covered: Tensor, weight: Tensor) -> float:
    return float(weight[_seen(entry) & ~covered].sum())


def _account(
    entries: list[_Entry], chosen: list[tuple[_Entry, float]], covered: Tensor, field: Field, budget: Budget
) -> list[Considered]:
    """Say of every candidate what it adds, and why it was not taken."""
    weight = field.unseen.weight
    total = max(float(weight.sum()), 1e-9)
    lines = []
    gains = {id(entry): gain for entry, gain in chosen}
    spent = len(chosen) == budget.max_paths
    for entry in entries:
        alone = float(weight[entry.uncovers].sum()) if entry.uncovers is not None else 0.0
        added = gains.get(id(entry), 0.0)
        verdict = entry.refusal
        if not verdict:
            added = _added(entry, covered, weight)
            verdict = "adds less than the chosen ones" if spent else "adds too little"
        c = entry.candidate
        lines.append(Considered(c.name, c.family, verdict, alone / total, added / total, entry.hole_frac))
    order = {id(entry): i for i, (entry, _) in enumerate(chosen)}
    ranked = sorted(
        range(len(entries)), key=lambda i: (order.get(id(entries[i]), len(order)), -lines[i].alone_frac)
    )
    return [lines[i] for i in ranked]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where free moves may go, and what is uncovered there."""

    local: Float[Tensor, "w 3"]
    uncovers: Bool[Tensor, "w m"]

    @staticmethod
    def found(field: Field, budget: Budget) -> _Places:
        local = waypoints(field.near_m)
        cameras = at_waypoints(field.anchor, local)
        is_open = field.space.open(cameras.centres)
        looks = field.coverage.look(cameras[is_open])
        kept = looks.hole_frac <= budget.max_hole_frac
        return _Places(local[is_open][kept], looks.uncovers[kept])

    def tours(self, field: Field, budget: Budget, covered: Tensor, number: int) -> list[Candidate]:
        """Propose tours for what is not covered yet: from each good place to those that add most."""
        if len(self.local) == 0:
            return []
        weight = torch.where(covered, 0.0, field.unseen.weight)
        gains = self.uncovers.float() @ weight
        sets: list[tuple[int, ...]] = []
        for start in torch.argsort(gains, descending=True, stable=True)[:_TOUR_STARTS].tolist():
            through, seen = [start], self.uncovers[start].clone()
            sets.append((start,))
            while len(through) < _TOUR_PLACES:
                added = self.uncovers.float() @ torch.where(seen, 0.0, weight)
                following = int(added.argmax())
                if float(added[following]) <= 0:
                    break
                through.append(following)
                seen |= self.uncovers[following]
                sets.append(tuple(sorted(through)))
        made = []
        for index, members in enumerate(dict.fromkeys(sets)):
            for closed in (False, True):
                order = self._shortest(members, closed)
                name = f"tour-{number}.{index + 1}" + ("-loop" if closed else "")
                made.append(tour(field.anchor, self.local[order], name, budget.num_poses, closed=closed))
        return made

    def _shortest(self, members: tuple[int, ...], closed: bool) -> list[int]:
        """Return the order in which the way from the photo through all places is shortest."""
        start = torch.zeros(1, 3, dtype=self.local.dtype)

        def way(order: Iterable[int]) -> float:
            stops = torch.cat([start, self.local[list(order)], *([start] if closed else [])])
            return float((stops[1:] - stops[:-1]).norm(dim=-1).sum())

        return list(
            min(itertools.permutations(members), key=lambda order: (round(way(order), 9), tuple(order)))
        )

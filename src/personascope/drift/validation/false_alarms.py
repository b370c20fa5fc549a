"""How often the conversation test alarms where nothing drifts, and how often where something does.

Conversations are simulated: scores fall over turns, rise with the length of the answer and spread further on later
turns; the noise of a conversation depends on itself (an intra-class correlation, or an AR(1)). An alarm at any turn
counts, as when the conversation is watched while it goes on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from personascope.drift.sequential import Calibrated, Turns, calibrate

REFERENCES, FRESH = 119, 200  # conversations that calibrate, and conversations that are tested, a replication
REPLICATIONS = {"false_alarms": 80, "varied": 60, "power": 60}
LENGTHS = (2, 5, 8, 20, 80)  # turns
DROPS = (1.0, 2.0, 3.0)  # standard deviations
DOMAINS, APART = 3, 1.5  # the first domain lies so many standard deviations lower
HEAVY = 3  # degrees of freedom of Student's t


@dataclass(frozen=True)
class Setting:
    """One cell. shared: share of the variance that is the conversation's; clustered: that two conversations of one
    script share besides; carried: coefficient of an AR(1); heavy: noise of Student's t; domains: conversations of one
    domain lie lower, and the test is over all domains ("marginal") or within each ("within"); drop: by how much all
    turns from the middle on lie lower."""

    turns: int
    shared: float = 0.0
    carried: float = 0.0
    alpha: float = 0.05
    baseline_turns: int = 0
    clustered: float = 0.0
    heavy: bool = False
    domains: str = ""
    drop: float = 0.0

    @property
    def dependence(self) -> str:
        """In words."""
        return f"AR(1) {self.carried:g}" if self.carried else f"ICC {self.shared:g}"


def simulated(rng: np.random.Generator, n: int, setting: Setting, domain: np.ndarray | None = None) -> Turns:
    """n conversations; domain int [n]: those of 0 lie APART lower."""
    turns = setting.turns
    lengths = np.exp(rng.normal(4, 0.4, (n, turns)))
    noise = rng.standard_t(HEAVY, (n, turns)) / math.sqrt(3) if setting.heavy else rng.normal(size=(n, turns))
    for turn in range(1, turns):
        noise[:, turn] = setting.carried * noise[:, turn - 1] + math.sqrt(1 - setting.carried**2) * noise[:, turn]
    of_script = np.repeat(rng.normal(size=(-(-n // 2), 1)), 2, axis=0)[:n]
    own = 1 - setting.shared - setting.clustered
    noise = math.sqrt(setting.shared) * rng.normal(size=(n, 1)) + math.sqrt(own) * noise
    noise += math.sqrt(setting.clustered) * of_script
    if domain is not None:
        noise -= APART * (domain == 0)[:, None]
    noise[:, turns // 2 :] -= setting.drop
    place = np.log1p(np.arange(turns))
    scores = 3 - 0.5 * place + 0.3 * np.log(lengths) + noise * (1 + 0.1 * place)
    return Turns(scores, np.log1p(lengths)[..., None]).minus_baseline(setting.baseline_turns)


def alarms(test: Calibrated, turns: Turns, alpha: float) -> np.ndarray:
    """Whether each conversation has an alarm at any turn."""
    return test.standard.evidence(turns).max(1) > test.level(alpha)


def rates(setting: Setting, seed: list[int], replications: int) -> dict[str, np.ndarray]:
    """{domain, or "": share of fresh conversations with an alarm} of each replication, float64 [replications]."""
    found: dict[str, list[float]] = {}
    clean = replace(setting, drop=0.0)
    for i in range(replications):
        rng = np.random.default_rng([*seed, i])
        if not setting.domains:
            test = calibrate(simulated(rng, REFERENCES, clean))
            fresh = simulated(rng, FRESH, setting)
            found.setdefault("", []).append(float(alarms(test, fresh, setting.alpha).mean()))
            continue
        of_domain = np.arange(DOMAINS * REFERENCES) % DOMAINS
        references = simulated(rng, len(of_domain), clean, of_domain)
        fresh_domain = np.arange(DOMAINS * FRESH) % DOMAINS
        fresh = simulated(rng, len(fresh_domain), setting, fresh_domain)
        marginal = calibrate(references) if setting.domains == "marginal" else None
        for domain in range(DOMAINS):
            test = marginal or calibrate(references[of_domain == domain])
            share = alarms(test, fresh[fresh_domain == domain], setting.alpha).mean()
            found.setdefault(f"domain {domain}", []).append(float(share))
    if setting.domains:
        found["all domains"] = list(np.mean([found[name] for name in found], axis=0))
    return {name: np.array(values) for name, values in found.items()}


def grid() -> Iterator[Setting]:
    """Lengths by dependence."""
    for turns in LENGTHS:
        for shared, carried in ((0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 0.6)):
            yield Setting(turns, shared, carried)


def variations() -> Iterator[tuple[str, Setting]]:
    """What else may break the promise, each with its name."""
    usual: dict[str, Any] = {"turns": 8, "shared": 0.3}
    yield "baseline_turns 2", Setting(**usual, baseline_turns=2)
    yield "baseline_turns 2", Setting(turns=20, carried=0.6, baseline_turns=2)
    yield "alpha 0.01", Setting(**usual, alpha=0.01)
    yield "alpha 0.1", Setting(**usual, alpha=0.1)
    yield "heavy tails (t, 3 df)", Setting(**usual, heavy=True)
    yield "heavy tails (t, 3 df)", Setting(turns=20, carried=0.6, heavy=True)
    yield "two conversations a script", Setting(**usual, clustered=0.3)
    yield "two conversations a script", Setting(turns=20, shared=0.1, clustered=0.5)
    yield "one domain lower, test over all", Setting(**usual, domains="marginal")
    yield "one domain lower, test within each", Setting(**usual, domains="within")


def strengths() -> Iterator[Setting]:
    """Drops at half time."""
    for turns, shared, carried, baseline in ((8, 0.3, 0.0, 0), (20, 0.3, 0.0, 0), (20, 0.0, 0.6, 0), (20, 0.6, 0.0, 2)):
        for drop in DROPS:
            yield Setting(turns, shared, carried, baseline_turns=baseline, drop=drop)


def false_alarms(seed: int, effort: float) -> pd.DataFrame:
    """What `_table` says of `grid`."""
    return _table([("", setting) for setting in grid()], seed, _replications("false_alarms", effort))


def false_alarms_varied(seed: int, effort: float) -> pd.DataFrame:
    """The same of `variations`."""
    return _table(list(variations()), seed + 1, _replications("varied", effort))


def power(seed: int, effort: float) -> pd.DataFrame:
    """The same of `strengths`: there the rate is that of drifts that are found, at any turn."""
    return _table([("", setting) for setting in strengths()], seed + 2, _replications("power", effort))


def _replications(table: str, effort: float) -> int:
    return max(round(REPLICATIONS[table] * effort), 2)


def _table(cells: list[tuple[str, Setting]], seed: int, replications: int) -> pd.DataFrame:
    """what, turns, dependence, alpha, baseline_turns, drop, domain, rate, error (Monte-Carlo standard error)."""
    rows = []
    with threadpool_limits(1):
        for cell, (what, setting) in enumerate(cells):
            for domain, values in rates(setting, [seed, cell], replications).items():
                place = {"what": what, "turns": setting.turns, "dependence": setting.dependence}
                place |= {name: getattr(setting, name) for name in ("alpha", "baseline_turns", "drop")}
                error = float(values.std(ddof=1) / math.sqrt(len(values)))
                rows.append(place | {"domain": domain, "rate": float(values.mean()), "error": error})
    return pd.DataFrame(rows)

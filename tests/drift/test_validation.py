"""The validation: its simulations are what they say, its page says what the tables hold, and its bars are held."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from personascope.drift.validation import TABLES, coverage
from personascope.drift.validation.false_alarms import APART, Setting, rates, simulated
from personascope.drift.validation.report import markdown, report, write_report
from personascope.drift.validation.tables import MADE, write_table_of


def test_every_table_has_a_function_and_a_section() -> None:
    assert set(TABLES) == set(MADE)
    page = report({})
    for heading in ("False alarms", "Power", "Coverage of intervals", "Intervals of roles", "How good an axis is"):
        assert f"# {heading}" in page


@pytest.mark.parametrize(
    ("setting", "between", "neighbors"),
    [
        (Setting(40, shared=0.6), 0.6, 0.6),
        (Setting(40, carried=0.6), None, 0.6),
        (Setting(40, shared=0.2, clustered=0.3), 0.5, 0.5),
    ],
)
def test_simulated_conversations_depend_on_themselves_as_they_say(
    setting: Setting, between: float | None, neighbors: float
) -> None:
    noise = residuals(setting, 4000)
    assert noise.mean() == pytest.approx(0, abs=0.05) and noise.var() == pytest.approx(1, abs=0.05)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) == pytest.approx(neighbors, abs=0.04)
    if between is not None:
        assert np.mean(noise[:, 0] * noise[:, -1]) == pytest.approx(between, abs=0.05)
    of_script = np.mean(noise[::2, 0] * noise[1::2, 5])
    assert of_script == pytest.approx(setting.clustered, abs=0.06)


def residuals(setting: Setting, n: int, domain: np.ndarray | None = None) -> np.ndarray:
    """The noise of simulated conversations, by what their mean and spread are known to be."""
    made = simulated(np.random.default_rng(0), n, setting, domain)
    place = np.log1p(np.arange(setting.turns))
    mean = 3 - 0.5 * place + 0.3 * np.log(np.expm1(made.regressors[..., 0]))
    return (made.scores - mean) / (1 + 0.1 * place)


def test_heavy_tails_domains_and_drops() -> None:
    heavy = residuals(Setting(4, heavy=True), 40_000)
    assert heavy.var() == pytest.approx(1, rel=0.25) and (np.abs(heavy) > 4).mean() > 20 * 6e-5
    domain = np.arange(3000) % 3
    apart = residuals(Setting(4), 3000, domain)
    assert apart[domain == 0].mean() == pytest.approx(-APART, abs=0.06)
    assert apart[domain == 1].mean() == pytest.approx(0, abs=0.06)
    dropped = residuals(Setting(6, drop=2.0), 3000).mean(0)
    assert dropped == pytest.approx([0, 0, 0, -2, -2, -2], abs=0.08)


def test_rates_are_stated_and_a_drop_is_found() -> None:
    quiet = rates(Setting(5, shared=0.3), [7], 20)
    assert list(quiet) == [""] and len(quiet[""]) == 20 and 0.02 <= quiet[""].mean() <= 0.08
    assert rates(Setting(8, drop=4.0), [7], 3)[""].mean() > 0.9
    lower = rates(Setting(5, domains="marginal"), [7], 3)
    assert set(lower) == {"domain 0", "domain 1", "domain 2", "all domains"}
    assert lower["domain 0"].mean() > 2 * lower["all domains"].mean() > 4 * lower["domain 1"].mean()


def test_intervals_hold_what_they_name_with_few_variants_and_not_without_the_degrees_of_freedom() -> None:
    """Two variants: one difference tells how much variants matter, so that normal quantiles would be far too narrow."""
    rng, with_t, without = np.random.default_rng(0), [], []
    for _ in range(40):
        sample = coverage.samples(rng, 2, 24, 40)[0]
        assert 1 <= sample.reference.freedom < 6
        normal = replace(sample, reference=replace(sample.reference, freedom=math.inf))
        for one, held in ((sample, with_t), (normal, without)):
            hits = coverage.axis_hits(np.random.default_rng(1), one)
            assert set(hits) == {"score", "population", "change", "contribution", "largest"}
            held.append([hits[name].mean() for name in ("score", "change", "contribution")])
    assert np.mean(with_t, axis=0).min() > 0.9 and np.mean(without, axis=0).max() < 0.85


def test_token_noise_is_held_beside_that_of_the_axis() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        hits = coverage.text_hits(rng, coverage.samples(rng, 5, 24, 40)[0], 64, 0.6)
        found.append([hits["text"].mean(), hits["tokens"].mean()])
    assert np.min(np.mean(found, axis=0)) >= 0.88 and np.mean(found) < 0.995


def test_simulated_tokens_are_an_ar_1_around_their_turn() -> None:
    x = np.arange(6.0).reshape(2, 3)
    made = coverage.simulated_tokens(np.random.default_rng(0), x, 3000, 0.6)
    values = made.values.reshape(2, 3000, 3) - x[:, None]
    assert values.mean((0, 1)) == pytest.approx(np.zeros(3), abs=0.25)
    assert values.std() == pytest.approx(coverage.TOKEN_NOISE, rel=0.05)
    near = np.mean(values[:, 1:] * values[:, :-1]) / values.var()
    assert near == pytest.approx(0.6, abs=0.03)


def test_the_page_says_which_cells_fail(tmp_path: Path) -> None:
    place = {"what": "", "alpha": 0.05, "baseline_turns": 0, "drop": 0.0, "domain": "", "error": 0.002}
    cells = [(2, "ICC 0", 0.05), (2, "AR(1) 0.6", 0.08), (5, "ICC 0", 0.041), (5, "AR(1) 0.6", 0.06)]
    alarms = pd.DataFrame([place | {"turns": t, "dependence": d, "rate": r} for t, d, r in cells])
    alarms.to_csv(tmp_path / "false_alarms.csv", index=False)
    write_report([str(tmp_path / "false_alarms.csv")], str(tmp_path / "page.md"))
    page = (tmp_path / "page.md").read_text()
    assert "| turns | ICC 0 | AR(1) 0.6 |" in page and "| 2 | 5.0 ± 0.2 | 8.0 ± 0.2 |" in page
    assert "3 of 4 cells lie in 3 to 7 %, 0 below, 1 above; the lowest is 4.1, the highest 8.0." in page


def test_a_table_is_the_same_each_time_and_fits_its_section(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("text_coverage", "power")}
    for name, path in paths.items():
        write_table_of(name, path, seed=0, effort=0.01)
        first = Path(path).read_bytes()
        write_table_of(name, path, seed=0, effort=0.01)
        assert Path(path).read_bytes() == first
    page = report({name: pd.read_csv(path, keep_default_na=False) for name, path in paths.items()})
    assert "| n_tokens | carried | diff, text | diff, tokens | pc1, text | pc1, tokens |" in page
    assert "| turns | dependence | baseline_turns | 1 sd | 2 sd | 3 sd |" in page


def test_markdown() -> None:
    assert markdown(pd.DataFrame({"a": [1], "b": ["x"]})) == "| a | b |\n|---|---|\n| 1 | x |"

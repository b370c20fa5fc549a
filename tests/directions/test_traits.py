"""Trait vectors of responses whose direction is known, and the evaluation's numbers by independent formulas."""

import json
from pathlib import Path

import numpy as np
import pytest

from personascope.directions.traits.compare import write_comparison
from personascope.directions.traits.evaluation import evaluate, half_weights
from personascope.directions.traits.nuisances import NUISANCES, nuisances, screen_weights, within
from personascope.directions.traits.report import write_evaluation
from personascope.directions.traits.rows import Thresholds, TraitRows, attrition, contrast, couples, keep, read_rows
from personascope.directions.traits.statistics import (
    auc_interval,
    cell_of,
    correlation_interval,
    pearson,
    question_sums,
)
from personascope.directions.traits.vectors import write_trait_vectors
from personascope.errors import UserError
from personascope.formats.directions import load_directions
from personascope.formats.judgements import write_judgements
from personascope.formats.tables import numbers, read_csv, save_npz
from personascope.formats.traits import write_trait
from tests.helpers.trait_cases import Case, case, judgement_table, trait, write_case

LIMITS = Thresholds()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def made_vectors(folder: Path, made: Case, filter: str, judge: bool = True) -> tuple[Path, dict[str, Path]]:
    responses, activations = write_case(folder, made)
    write_trait(folder / "gloom.json", trait())
    files = {"judgements": folder / "judged.parquet", "worth": folder / "worth.json"}
    if judge:
        write_judgements(files["judgements"], judgement_table(made), {"judge": "j", "model": "m"})
        metric = {"auc": 0.95, "kappa": 0.8, "n": 40}
        worth = {"metrics": {"trait": metric, "coherence": metric}, "fit": True, "verdict": "fit to judge"}
        files["worth"].write_text(json.dumps(worth))
    write_trait_vectors(
        *(folder / "gloom.json", responses, activations),
        judgements=files["judgements"] if judge else None,
        worth=files["worth"] if judge else None,
        filter=filter,
        limits=LIMITS,
        vectors=folder / "vectors.safetensors",
        attrition=folder / "attrition.csv",
    )
    return folder / "vectors.safetensors", files


@pytest.mark.parametrize("filter", ["judge", "none"])
def test_the_known_direction_is_found_where_it_is(tmp_path: Path, filter: str) -> None:
    made = case(strength=4)
    found = load_directions(made_vectors(tmp_path, made, filter)[0])
    assert set(found.vectors) == {"response_avg", "prompt_avg", "prompt_last"} and found.layers == [0, 1, 2]
    assert cosine(found.at("response_avg", 2), made.direction) > 0.95
    assert abs(cosine(found.at("response_avg", 0), made.direction)) < 0.6
    assert found.metadata["trait"] == "gloom" and found.metadata["filter"] == filter
    assert found.metadata["polarity"] == "A high score means gloom."


def test_a_vector_is_the_difference_of_means_over_the_kept_couples(tmp_path: Path) -> None:
    made = case()
    responses, _ = write_case(tmp_path, made)
    table = judgement_table(made)
    write_judgements(tmp_path / "judged.parquet", table, {"judge": "j"})
    scores = table[table.metric == "trait"].score.to_numpy()
    ends: dict[tuple[int, int, int], dict[str, int]] = {}
    for i, prompt in enumerate(made.prompts):
        if prompt.set == "extraction":
            ends.setdefault((prompt.pair, prompt.question.id, prompt.sample), {})[prompt.polarity] = i
    kept = [(e["pos"], e["neg"]) for e in ends.values() if scores[e["pos"]] >= 50 and scores[e["neg"]] < 50]
    assert 0 < len(kept) < len(ends)
    h = made.activations[:, 0]
    expected = h[[i for i, _ in kept]].mean(0) - h[[j for _, j in kept]].mean(0)
    found = load_directions(made_vectors(tmp_path, made, "judge")[0])
    np.testing.assert_allclose(found.vectors["response_avg"], expected, rtol=1e-5, atol=1e-5)
    rows = read_rows(responses, tmp_path / "judged.parquet")
    counts = attrition(rows, couples(rows), LIMITS)
    assert np.sum(counts["both coherent"]) == len(kept) and counts["generated"].tolist() == [12] * 4
    assert (np.diff(counts.drop(columns="pair").to_numpy(), axis=1) <= 0).all()


def test_couples_are_made_by_key_and_never_by_row_number(tmp_path: Path) -> None:
    made = case()
    responses, _ = write_case(tmp_path / "a", made)
    lines = responses.read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    shuffled = tmp_path / "b.jsonl"
    shuffled.write_text("".join(lines[i] + "\n" for i in order))
    rows = read_rows(shuffled)
    for positive, negative in couples(rows):
        assert (rows.sign[positive], rows.sign[negative]) == (1, -1)
        assert all(getattr(rows, key)[positive] == getattr(rows, key)[negative] for key in ("pair", "question"))
    one_end = shuffled.with_name("c.jsonl")
    first = next(i for i, line in enumerate(lines) if json.loads(line)["set"] == "extraction")
    one_end.write_text("".join(line + "\n" for i, line in enumerate(lines) if i != first))
    assert len(couples(read_rows(one_end))) == len(couples(rows)) - 1


def test_nothing_left_says_the_counts_at_each_filter(tmp_path: Path) -> None:
    made = case()
    responses, _ = write_case(tmp_path, made)
    write_judgements(tmp_path / "judged.parquet", judgement_table(made, coherence=10), {"judge": "j"})
    rows = read_rows(responses, tmp_path / "judged.parquet")
    with pytest.raises(UserError, match=r"generated 48, answered 48, scored 48, .*both coherent 0\); lower traits"):
        keep(rows, LIMITS, "judge", str(responses))
    assert keep(rows, LIMITS, "none", str(responses))[0].sum() == 96
    with pytest.raises(UserError, match="scored 0"):
        keep(read_rows(responses), LIMITS, "judge", str(responses))


def test_an_empty_answer_makes_no_vector(tmp_path: Path) -> None:
    made = case()
    made.words[0] = 0
    rows = read_rows(write_case(tmp_path, made)[0])
    kept, table = keep(rows, LIMITS, "none", "x")
    assert not kept[0] and kept.sum() == 94 and table["kept"].tolist() == [11, 12, 12, 12]


def test_the_screen_takes_the_vector_apart_without_a_rest(tmp_path: Path) -> None:
    """By ordinary least squares with a dummy variable a question, written out."""
    made = case(length=1.0)
    rows = read_rows(write_case(tmp_path, made)[0])
    kept, _ = keep(rows, LIMITS, "none", "x")
    chosen, h = rows.take(kept), made.activations[kept, 0, 2].astype(np.float64)
    screen = screen_weights(chosen.sign, chosen.question, chosen.nuisances)
    assert screen is not None
    adjusted, parts, usable = screen
    dummies = (chosen.question[:, None] == np.unique(chosen.question)).astype(float)
    z = chosen.nuisances[:, usable]
    coefficients = np.linalg.lstsq(np.column_stack([chosen.sign / 2, z, dummies]), h, rcond=None)[0]
    np.testing.assert_allclose(adjusted @ h, coefficients[0], atol=1e-8)
    delta = z[chosen.sign == 1].mean(0) - z[chosen.sign == -1].mean(0)
    np.testing.assert_allclose(parts[usable] @ h, delta[:, None] * coefficients[1 : 1 + z.shape[1]], atol=1e-8)
    vector = contrast(chosen.sign, np.ones(len(chosen), bool)) @ h
    np.testing.assert_allclose(adjusted @ h + parts.sum(0) @ h, vector, atol=1e-8)


def test_the_screen_finds_a_planted_direction_of_length_and_no_other(tmp_path: Path) -> None:
    made = case(length=1.5, strength=2)
    rows = read_rows(write_case(tmp_path, made)[0])
    kept, _ = keep(rows, LIMITS, "none", "x")
    activations = made.activations[:, 0]
    vectors = np.einsum("n,nld->ld", contrast(rows.sign, kept), activations).astype(np.float32)
    found = evaluate(rows, kept, activations, vectors, [0, 1, 2], judged=False)
    share, shuffled = (
        dict(zip(NUISANCES, numbers(found.nuisances, name), strict=True)) for name in ("share", "shuffled")
    )
    assert share["length"] > 0.5 and all(abs(value) < 0.15 for name, value in share.items() if name != "length")
    assert share["length"] > 3 * shuffled["length"]
    last = found.layers.iloc[2]
    assert last.cosine_adjusted < 0.8 < cosine(vectors[2], made.direction) + 0.5
    without = evaluate(*_of(case(length=0, strength=2), tmp_path / "b"), [0, 1, 2], judged=False)
    assert abs(without.layers.nuisance_share.iloc[2]) < 0.1 and without.layers.cosine_adjusted.iloc[2] > 0.97


def _of(made: Case, folder: Path) -> tuple[TraitRows, np.ndarray, np.ndarray, np.ndarray]:
    rows = read_rows(write_case(folder, made)[0])
    kept, _ = keep(rows, LIMITS, "none", "x")
    activations = made.activations[:, 0]
    return rows, kept, activations, np.einsum("n,nld->ld", contrast(rows.sign, kept), activations).astype(np.float32)


def test_the_layer_is_chosen_on_one_half_and_noise_is_not_rewarded(tmp_path: Path) -> None:
    found = evaluate(*_of(case(strength=3), tmp_path / "a"), [5, 6, 7], judged=False)
    assert found.selected == 7 and found.held_out["layers_chosen"] == {"7": pytest.approx(1, abs=0.2)}
    assert found.held_out["auc"] > 0.85 and found.layers["auc"].is_monotonic_increasing
    assert found.layers.split_half.iloc[2] > 0.6 > found.layers.split_half.iloc[0]
    made = case(strength=0)
    made.activations[:] += np.random.default_rng(0).standard_normal(made.activations.shape)
    nothing = evaluate(*_of(made, tmp_path / "b"), [5, 6, 7], judged=False)
    assert nothing.held_out["auc"] == pytest.approx(0.5, abs=0.12)
    assert nothing.held_out["separation"] < nothing.held_out["in_sample"]
    assert abs(nothing.layers.split_half).max() < 0.4 and nothing.layers.pair_cosine.abs().max() < 0.4


def test_halves_share_neither_questions_nor_pairs(tmp_path: Path) -> None:
    rows = read_rows(write_case(tmp_path, case())[0])
    chosen = rows.take(keep(rows, LIMITS, "none", "x")[0])
    weights = half_weights(chosen, np.random.default_rng(0))
    assert weights.shape == (20, 2, 96)
    for one, other in weights:
        for key in (chosen.question, chosen.pair):
            assert not set(key[one != 0]) & set(key[other != 0])
        assert one[chosen.sign == 1].sum() == pytest.approx(1) and one[chosen.sign == -1].sum() == pytest.approx(-1)


def test_pooled_rows_inflate_the_correlation_that_is_reported_within() -> None:
    """The projection knows the condition and nothing else: no correlation within, a high one pooled."""
    rng = np.random.default_rng(0)
    question, sign = np.repeat(np.arange(30), 8), np.tile(np.repeat([1, -1], 4), 30)
    projection, score = sign + 0.5 * rng.standard_normal(240), 50 + 30 * sign + 10 * rng.standard_normal(240)
    sums = question_sums(projection, sign, question, score)
    whole = np.ones((1, 30))
    assert pearson(projection, score) > 0.8
    assert abs(sums.correlation(whole)[0]) < 0.15
    cells = cell_of(question, sign)
    assert sums.correlation(whole)[0] == pytest.approx(pearson(projection, score, cells))
    low, high = correlation_interval(sums)
    assert low < 0 < high
    residuals = [projection[cells == cell] - projection[cells == cell].mean() for cell in np.unique(cells)]
    others = [score[cells == cell] - score[cells == cell].mean() for cell in np.unique(cells)]
    assert sums.correlation(whole)[0] == pytest.approx(
        np.corrcoef(np.concatenate(residuals), np.concatenate(others))[0, 1]
    )


def test_separation_and_auc_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    question, sign = np.repeat(np.arange(5), 6), np.tile([1, 1, 0, -1, -1, -1], 5)
    x = rng.standard_normal(30) + sign
    sums = question_sums(x, sign, question, np.full(30, np.nan))
    pos, neg = x[sign == 1], x[sign == -1]
    pooled = np.sqrt((((pos - pos.mean()) ** 2).sum() + ((neg - neg.mean()) ** 2).sum()) / (len(pos) + len(neg) - 2))
    assert sums.separation(np.ones((1, 5)))[0] == pytest.approx((pos.mean() - neg.mean()) / pooled)
    each = [
        np.mean([a > b for a in x[(question == q) & (sign == 1)] for b in x[(question == q) & (sign == -1)]])
        for q in range(5)
    ]
    assert sums.mean_auc(np.ones((1, 5)))[0] == pytest.approx(np.mean(each))
    assert np.isnan(sums.correlation(np.ones((1, 5)))[0]) and np.isnan(correlation_interval(sums)[0])
    sure = question_sums(np.where(sign == 1, 1.0, -1.0), sign, question, np.full(30, np.nan))
    assert auc_interval(sure)[0] < 0.6 and auc_interval(sure)[1] == 1  # five questions prove little


def test_the_clustered_interval_covers_where_an_unclustered_one_would_not() -> None:
    """Questions differ in slope and in spread: their number counts, not that of the rows."""
    rng = np.random.default_rng(0)

    def draw(questions: int) -> tuple[np.ndarray, ...]:
        question = np.repeat(np.arange(questions), 10)
        slope, scale = 0.5 + 0.4 * rng.standard_normal(questions), np.exp(0.5 * rng.standard_normal(questions))
        x = rng.standard_normal(len(question))
        y = slope[question] * x + 0.85 * rng.standard_normal(len(question))
        return x * scale[question], np.ones(len(question), int), question, y * scale[question]

    truth = question_sums(*draw(20_000)).correlation(np.ones((1, 20_000)))[0]
    covered, naive = 0, 0
    for _ in range(150):
        sums = question_sums(*draw(15))
        low, high = correlation_interval(sums)
        covered += low <= truth <= high
        middle = np.arctanh(sums.correlation(np.ones((1, 15)))[0])
        naive += abs(middle - np.arctanh(truth)) <= 1.96 / np.sqrt(150 - 3)
    assert 0.90 <= covered / 150 <= 1 and naive / 150 < 0.85


def test_nuisances_of_texts() -> None:
    def of(text: str) -> dict[str, float]:
        return dict(zip(NUISANCES, nuisances(text, len(text.split())), strict=True))

    assert of("I am sorry, but that is not possible.")["refusal"] == 1
    assert of("I can\u2019t help with that.")["refusal"] == 1 and of("You can help with that.")["refusal"] == 0
    assert of("a b c d a b c d a b c d")["repetition"] == pytest.approx(1 - 4 / 9)
    assert of("I'm here and you are there")["first person"] == pytest.approx(1 / 6)
    assert of("# One\n- two\n3. four\nplain\n**bold** text")["formatting"] == pytest.approx(4 / 5)
    assert of("")["length"] == 0 and nuisances("x", 99)[0] == pytest.approx(np.log(100))


def test_within_takes_the_mean_of_each_group_off() -> None:
    values = np.arange(12.0).reshape(6, 2)
    found = within(np.array([7, 7, 3, 3, 3, 9]), values)
    np.testing.assert_allclose(found[:2], values[:2] - values[:2].mean(0))
    np.testing.assert_allclose(found[5], 0)


@pytest.mark.parametrize("judge", [True, False])
def test_an_evaluation_is_written_with_its_tables_and_figures(tmp_path: Path, judge: bool) -> None:
    made = case(strength=3)
    vectors, files = made_vectors(tmp_path, made, "judge" if judge else "none", judge)
    names = {name: tmp_path / f"{name}.{kind}" for name, kind in (("evaluation", "json"), ("layers", "csv"))}
    figures = {kind: [tmp_path / f"{name}.{kind}" for name in ("evaluation", "screen")] for kind in ("png", "svg")}
    write_evaluation(
        *(tmp_path / "gloom.jsonl", tmp_path / "gloom.npz", vectors),
        judgements=files["judgements"] if judge else None,
        worth=files["worth"] if judge else None,
        limits=LIMITS,
        filter="judge" if judge else "none",
        seed=0,
        subtitle="m",
        outputs={**names, "projections": tmp_path / "projections.csv", **figures},
    )
    found = json.loads(names["evaluation"].read_text())
    at = found["at_selected_layer"]
    assert found["selected_layer"] == 2 and found["held_out"]["criterion"] == ("r_within" if judge else "separation")
    assert (at["r_within"] is not None) == judge and found["evaluation_questions"] == 12
    if judge:
        assert at["r_low"] < at["r_within"] < at["r_high"] and at["r_within"] > 0.6
        assert found["judge"]["verdict"] == "fit to judge"
        assert found["held_out"]["r_within"] > 0.5
    assert all(path.stat().st_size > 10_000 for path in figures["png"])


def test_an_unfit_judge_does_not_choose_the_layer_and_the_figure_says_so(tmp_path: Path) -> None:
    made = case(strength=3)
    vectors, files = made_vectors(tmp_path, made, "none")
    worth = json.loads(files["worth"].read_text())
    worth["metrics"]["trait"] |= {"auc": 0.55, "kappa": 0.1, "against": "AUC 0.55 < 0.8"}
    files["worth"].write_text(json.dumps(worth | {"fit": False, "verdict": "not fit to judge"}))
    figures = {kind: [tmp_path / f"{name}.{kind}" for name in ("evaluation", "screen")] for kind in ("png", "svg")}
    outputs = {name: tmp_path / name for name in ("evaluation", "layers", "projections")}
    write_evaluation(
        *(tmp_path / "gloom.jsonl", tmp_path / "gloom.npz", vectors),
        **files,
        limits=LIMITS,
        filter="none",
        seed=0,
        subtitle="m",
        outputs=outputs | figures,
    )
    found = json.loads(outputs["evaluation"].read_text())
    assert found["held_out"]["criterion"] == "separation"
    assert found["judge"]["verdict"].startswith("not fit to judge")


def test_traits_side_by_side_with_axis_and_roles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers, d = [0, 1, 2], 24
    evaluations, tables, vectors = {}, {}, {}
    made = {name: case(seed, strength=3) for seed, name in enumerate(("calm", "gloom"))}
    for name, one in made.items():
        path, _ = made_vectors(tmp_path / name, one, "none", judge=False)
        figures = {kind: [tmp_path / name / f"{n}.{kind}" for n in ("a", "b")] for kind in ("png", "svg")}
        files = {n: tmp_path / name / n for n in ("evaluation", "layers", "projections")}
        write_evaluation(
            *(tmp_path / name / "gloom.jsonl", tmp_path / name / "gloom.npz", path),
            judgements=None,
            worth=None,
            limits=LIMITS,
            filter="none",
            seed=0,
            subtitle="m",
            outputs=files | figures,
        )
        vectors[name], evaluations[name], tables[name] = path, files["evaluation"], files["layers"]
    axis = {
        f"{kind}_residual_layer_{k}": made["calm"].direction.astype(np.float32)
        for kind in ("diff", "pc1")
        for k in (1, 2)
    }
    metadata = np.array(json.dumps({"model": "m"}))
    save_npz(tmp_path / "axis.npz", **axis, metadata=metadata)
    roles = rng.standard_normal((12, 1, d)).astype(np.float32)
    names = np.array([f"role{i:02}" for i in range(12)])
    np.savez(tmp_path / "roles.npz", features=roles, role_names=names, layers=np.array([2]), metadata=metadata)
    written = {name: tmp_path / f"traits.{name}" for name in ("png", "svg")}
    write_comparison(
        *(vectors, evaluations, tables),
        axis=tmp_path / "axis.npz",
        roles=tmp_path / "roles.npz",
        subtitle="m",
        table=tmp_path / "traits.csv",
        reliability=tmp_path / "reliability.csv",
        **written,
    )
    table = read_csv(tmp_path / "traits.csv").to_dict("records")
    cosines = {(row["first"], row["second"], row["layer"]): row["cosine"] for row in table}
    both = [load_directions(vectors[name]).at("response_avg", 1) for name in ("calm", "gloom")]
    assert cosines["calm", "gloom", 1] == pytest.approx(cosine(*both), abs=1e-6) == cosines["gloom", "calm", 1]
    assert cosines["calm", "axis", 2] > 0.9 > 0.5 > abs(cosines["gloom", "axis", 2])
    centered = roles[:, 0] - roles[:, 0].mean(0)
    own = load_directions(vectors["gloom"]).at("response_avg", 2)
    assert cosines["gloom", "role03", 2] == pytest.approx(cosine(own, centered[3]), abs=1e-5)
    assert ("calm", "role03", 1) not in cosines and ("calm", "axis", 0) not in cosines and len(layers) == 3
    assert written["png"].stat().st_size > 10_000


def test_a_trait_whose_evaluation_has_no_answer_has_no_numbers_there_and_does_not_fail(tmp_path: Path) -> None:
    made = case()
    made.words[[prompt.set == "evaluation" for prompt in made.prompts]] = 0
    found = evaluate(*_of(made, tmp_path), [0, 1, 2], judged=True)
    assert all(np.isnan(numbers(found.layers, name)).all() for name in ("auc", "r_within"))
    assert found.held_out["splits"] == 0 and "4 are needed" in found.held_out["reason"]
    assert np.isfinite(numbers(found.layers, "split_half")).all()

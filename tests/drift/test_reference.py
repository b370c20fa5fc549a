"""The reference: every response scored without its question, from files, in each space."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import role_space_of
from personascope.directions.block_sums import BlockSums, block_sums
from personascope.drift.calibration import ranked_of
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, build
from personascope.drift.turns import score_vectors
from personascope.errors import UserError
from personascope.formats.features import residual_writer, write_features
from tests.helpers.sparse_rows import to_rows

NAMES = ["assistant", "baker", "cook"]
D_SAE, D_MODEL, VARIANTS, QUESTIONS, BLOCKS = 60, 8, 2, 7, 3
LAYERS = [2, 5]


def options_of(**chosen: Any) -> DriftOptions:
    return DriftOptions.of(**{"anchor": ("assistant",)} | chosen)


class Corpus:
    """Roles on disk with features and residuals [n, D], n_tokens [n]; rows run over variants, then questions."""

    def __init__(self, folder: Path, max_pooled: dict[str, np.ndarray], empty: int | None = 4) -> None:
        n, width = next(iter(max_pooled.values())).shape
        questions = n // VARIANTS
        self.prompt, self.question = np.repeat(np.arange(VARIANTS), questions), np.tile(np.arange(questions), VARIANTS)
        self.max, self.n_tokens, self.vectors = max_pooled, {}, {}
        self.features: dict[str, str | Path] = {name: folder / f"{name}.parquet" for name in max_pooled}
        self.residuals: dict[str, str | Path] = {name: folder / f"{name}.residuals.parquet" for name in max_pooled}
        rng = np.random.default_rng(9)
        metadata = {"d_sae": width, "residual_layers": LAYERS}
        for name, rows in max_pooled.items():
            n_tokens = rng.integers(1, 9, n).astype(np.int32)
            if empty is not None:
                n_tokens[empty] = rows[empty] = 0
            self.n_tokens[name] = n_tokens
            self.vectors[name] = rng.standard_normal((n, len(LAYERS), D_MODEL)).astype(np.float32)
            keys = {"prompt_index": self.prompt.astype(np.int32), "question_id": self.question.astype(np.int32)}
            block = replace(to_rows(rows / 2, rows, n_tokens), **keys)
            write_features(self.features[name], [block], metadata)
            with residual_writer(self.residuals[name], LAYERS, metadata) as write:
                write(block, self.vectors[name])

    def sums(self, n_blocks: int = BLOCKS) -> dict[str, BlockSums]:
        return {name: block_sums(self.features[name], self.residuals[name], n_blocks) for name in self.features}

    def build(self, options: DriftOptions, draws: int = 0, n_blocks: int = BLOCKS) -> Reference:
        files = self.residuals if options.axis.space == "residual" else self.features
        return build(files, self.sums(n_blocks), options, draws)

    def rows(self, name: str, options: DriftOptions) -> np.ndarray:
        """Pooled responses [n, D] as an analysis sees them."""
        if options.axis.space == "residual":
            return self.vectors[name][:, LAYERS.index(options.axis.layer or 0)]
        return self.max[name] if options.axis.pooling == "max" else self.max[name] / 2


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    shape = (VARIANTS * QUESTIONS, D_SAE)
    return Corpus(
        tmp_path, {name: (rng.random(shape) * (rng.random(shape) < 0.3)).astype(np.float32) for name in NAMES}
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"axis_method": "pc1", "center_turns_with_role_mean": True},
        {"pooling": "max", "use_l2_normalize": True, "use_centering": True},
        {"transform": "raw", "other_group": "roleplay_subset", "roleplay_subset": ("cook",)},
        {"space": "residual", "layer": 5},
        {"space": "residual", "layer": 2, "transform": "raw", "center_turns_with_role_mean": True},
    ],
)
def test_each_response_is_scored_without_its_questions_and_its_variant(corpus: Corpus, chosen: dict[str, Any]) -> None:
    options = options_of(**chosen)
    reference = corpus.build(options)
    block = corpus.question % BLOCKS
    for role, name in enumerate(NAMES):
        mine = reference.role == role
        kept = corpus.n_tokens[name] > 0
        assert reference.question_id[mine].tolist() == corpus.question[kept].tolist()
        assert reference.prompt_index[mine].tolist() == corpus.prompt[kept].tolist()
        assert reference.n_tokens[mine].tolist() == corpus.n_tokens[name][kept].tolist()
        for v, g in np.ndindex(VARIANTS, BLOCKS):
            others = (block != g) & (corpus.prompt != v)
            vectors = np.stack([corpus.rows(n, options)[others & (corpus.n_tokens[n] > 0)].mean(0) for n in NAMES])
            roles = role_space_of(vectors.astype(np.float32), NAMES, options.axis)
            held = kept & (block == g) & (corpus.prompt == v)
            scores, mass = score_vectors(corpus.rows(name, options)[held], roles, options)
            here = (block[kept] == g) & (corpus.prompt[kept] == v)
            for method, values in scores.items():
                assert reference.scores[method][mine][here] == pytest.approx(values, rel=1e-3, abs=1e-4), method
            for metric, values in mass.items():
                assert reference.mass[metric][mine][here] == pytest.approx(values, rel=1e-3, abs=1e-4), metric


def test_cross_fitting_removes_what_an_axis_gains_by_seeing_the_response(tmp_path: Path) -> None:
    """All roles answer alike, so that the assistant has nothing that others have not."""
    rng = np.random.default_rng(1)
    corpus = Corpus(tmp_path, {name: rng.random((80, 400)).astype(np.float32) for name in NAMES}, empty=None)
    options = options_of(transform="raw")
    reference = corpus.build(options, n_blocks=12)
    cross_fitted = reference.scores["projection"]
    is_assistant = np.isin(reference.role, reference.anchors)
    means = np.stack([corpus.rows(name, options).mean(0) for name in NAMES])
    roles = role_space_of(means, NAMES, options.axis)
    rows = np.concatenate([corpus.rows(name, options) for name in NAMES])
    in_sample = score_vectors(rows, roles, options)[0]["projection"]
    z = {}
    for name, scores in (("in sample", in_sample), ("cross-fitted", cross_fitted)):
        mine, others = scores[is_assistant], scores[~is_assistant]
        z[name] = (mine.mean() - others.mean()) / np.sqrt(mine.var() / len(mine) + others.var() / len(others))
    assert z["in sample"] > 8 and abs(z["cross-fitted"]) < 3


def test_the_reference_comes_back_from_its_file(corpus: Corpus, tmp_path: Path) -> None:
    for options, draws in ((options_of(score_method="cos_assistant"), 6), (options_of(), 0)):
        reference = corpus.build(options, draws)
        reference.save(tmp_path / "reference.npz")
        again = Reference.load(tmp_path / "reference.npz")
        assert again.role_names == NAMES and again.anchors.tolist() == [0] and len(again) == len(reference) == 39
        assert again.split_half == reference.split_half or np.isnan([again.split_half, reference.split_half]).all()
        for name in ("role", "n_tokens", "axes", "assistants", "agreement", "cos_to_axis", "shift"):
            assert np.array_equal(getattr(again, name), getattr(reference, name))
            assert getattr(again, name).dtype == getattr(reference, name).dtype
        for name in ("scores", "mass"):
            mine, theirs = getattr(reference, name), getattr(again, name)
            assert list(mine) == list(theirs) and all(np.array_equal(mine[key], theirs[key]) for key in mine)


def test_draws_are_optional_and_have_the_width_of_the_space(corpus: Corpus) -> None:
    assert corpus.build(options_of()).axes.shape == (D_SAE, 0)
    residual = corpus.build(options_of(space="residual", layer=5), 7)
    assert residual.axes.shape == (D_MODEL, 7) and residual.cos_to_axis.shape == (7,)
    assert -1 <= residual.split_half <= 1


def test_a_question_that_cannot_be_left_out_gives_no_score_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    corpus = Corpus(tmp_path, {name: rng.random((2, 20)).astype(np.float32) for name in NAMES}, empty=None)
    with caplog.at_level(logging.WARNING):
        reference = corpus.build(options_of(), draws=10)
    assert len(reference) == 0 and "no score" in caplog.text and "baker" in caplog.text
    # A single question always drawn would pass for an axis without any uncertainty.
    assert reference.axes.shape == (20, 0) and "no spread" in caplog.text


def test_an_unknown_role_of_the_subset_is_warned_about_once(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    options = options_of(other_group="roleplay_subset", roleplay_subset=("cook", "wizard"))
    with caplog.at_level(logging.WARNING):
        corpus.build(options, 3)
    assert caplog.text.count("wizard") == 1


def test_roles_with_other_questions_are_reported(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    sums = corpus.sums()
    sums["cook"] = replace(sums["cook"], question_blocks=np.ones_like(sums["cook"].question_blocks))
    with caplog.at_level(logging.WARNING):
        build(corpus.features, sums, options_of(), 0)
    assert "different blocks" in caplog.text


def test_files_and_sums_must_be_of_the_same_roles(corpus: Corpus) -> None:
    few = dict(list(corpus.features.items())[:2])
    with pytest.raises(UserError, match="not of the same roles"):
        build(few, corpus.sums(), options_of(), 0)
    with pytest.raises(UserError, match="has no column layer_5"):
        build(corpus.features, corpus.sums(), options_of(space="residual", layer=5), 0)


def test_a_missing_assistant_is_named(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="'butler' is not among"):
        corpus.build(options_of(anchor=("butler",)))


def test_a_role_without_a_token_is_named(corpus: Corpus) -> None:
    sums = corpus.sums()
    sums["cook"] = replace(sums["cook"], counts=np.zeros_like(sums["cook"].counts))
    with pytest.raises(UserError, match="no response of role cook"):
        build(corpus.features, sums, options_of(), 0)


def test_a_reference_doubts_an_axis_of_noise_and_not_one_that_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = {name: rng.random((80, 100)).astype(np.float32) for name in NAMES}
    (tmp_path / "noise").mkdir()
    noise = Corpus(tmp_path / "noise", dict(rows), empty=None)
    halves, auc = noise.build(options_of(transform="raw"), 20, n_blocks=12).doubt.split(", ")
    assert halves.startswith("split-half") and halves.endswith("< 0.5")
    assert auc.startswith("AUC 0.") and auc.endswith("< 0.75")
    assert noise.build(options_of(transform="raw"), n_blocks=12).doubt == auc  # without draws no halves
    rows["assistant"] = rows["assistant"] + np.linspace(0, 1, 100, dtype=np.float32)
    (tmp_path / "signal").mkdir()
    assert Corpus(tmp_path / "signal", rows, empty=None).build(options_of(transform="raw"), 20, n_blocks=12).doubt == ""


def test_default_is_no_other_role_where_it_is_no_anchor(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    corpus = Corpus(
        tmp_path, {name: rng.random((14, 20)).astype(np.float32) for name in ("assistant", "baker", "default")}
    )
    reference = corpus.build(options_of())
    assert [reference.role_names[row] for row in reference.others] == ["baker"]
    others = ranked_of(reference, options_of())[1]
    assert len(others) == (reference.role == reference.role_names.index("baker")).sum() < len(reference)

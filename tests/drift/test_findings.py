"""The findings of an experiment: what is said of the axis, of what is flagged, and of what not to conclude."""

import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment

from personascope.directions.axis import load_role_space
from personascope.display.html import SORT
from personascope.drift.analysis import analyze_in
from personascope.drift.conversation import Case, write_run
from personascope.drift.options import DriftOptions
from personascope.drift.pages.findings import (
    Findings,
    axis_lines,
    cautions,
    findings_html,
    findings_rst,
    flagged_lines,
    write_findings,
)
from personascope.drift.pages.summary import write_summary
from personascope.drift.result_file import load_run
from personascope.formats.descriptions import write_descriptions
from personascope.formats.files import write_json
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import write_csv
from tests.drift.test_heat import ATTACK, Page, assert_safe
from tests.helpers.drift_cases import null_of, random_roles, random_tokens, to_activations
from tests.helpers.drift_examples import ROLES, make_nulls, make_summary

WIDTH = 60
NO_TABLE = pd.DataFrame()


def make_agreement() -> pd.DataFrame:
    """A good axis and a bad one."""
    good = {"space": "sae", "cos_diff_pc1": 0.82, "agreement_null_median": 0.21, "agreement_null_high": 0.37}
    good |= {"split_half": 0.91, "split_half_of": "questions and variants", "auc": 0.97, "pc1_variance_share": 0.3}
    good |= {"interpretable": True, "reason": ""}
    bad = {"space": "residual layer 3", "split_half": 0.41, "auc": np.nan, "interpretable": False}
    return pd.DataFrame([good, good | bad | {"reason": "split-half 0.41 < 0.5, AUC cannot be measured"}])


def make_projections() -> pd.DataFrame:
    kinds = ["anchor", *["other"] * (len(ROLES) - 1)]
    return pd.DataFrame({"space": "sae", "role": ROLES, "kind": kinds, "diff": np.linspace(3, -3, len(ROLES))})


def made(**changes: Any) -> Findings:
    given: dict[str, Any] = {"agreement": make_agreement(), "projections": make_projections()}
    return Findings(**given | {"summary": make_summary(8), "nulls": make_nulls()} | changes)


def test_warnings_about_model_and_sae_come_first_of_what_not_to_conclude() -> None:
    lines = dict(made(notes=["config, sae: trained on another"]).sections)["What not to conclude"]
    assert lines[0] == "config, sae: trained on another" and len(lines) > 2
    assert "trained on another" in findings_rst(made(notes=["config, sae: trained on another"]))


def rendered(findings: Findings) -> Page:
    """The findings as the report shows them; what is no clean reStructuredText is an error."""
    parts: Any = publish_parts(findings_rst(findings), writer="html", settings_overrides={"halt_level": 2})
    return Page(parts["body"])


def test_each_axis_is_judged_beside_what_chance_gives() -> None:
    good, bad = axis_lines(make_agreement())
    assert good.startswith("sae: the axis may be interpreted.")
    assert "cosine 0.82 (with the roles' labels shuffled 0.21, 95 % of them below 0.37)" in good
    assert "halves of the questions and variants with 0.91" in good and "in 97 % of the pairs" in good
    assert "is not to be interpreted (split-half 0.41 < 0.5, AUC cannot be measured)" in bad
    assert "in an unknown share of the pairs" in bad
    assert axis_lines(NO_TABLE) == ["No axis was made."]


def test_what_is_flagged_stands_beside_the_measured_rate_of_false_alarms() -> None:
    summary = make_summary(8)
    (line, failed) = flagged_lines(summary.loc[summary["analysis"] == "default"], make_nulls())
    assert line.startswith("default: 2 of 8 tested conversations raised an alarm (conversation_7, conversation_6);")
    assert "measured rate is 5 % (95 % interval 2 % to 11 %, n = 120), about 0.4 of 8 by chance" in line
    assert line.endswith("with the share of false ones among them held at 5 % (q): 2.")
    assert failed == "1 conversation could not be analyzed."
    untested = summary.assign(p_value=np.nan, alarm_turn=pd.NA)
    line = flagged_lines(untested.loc[untested["analysis"] == "cosine"], make_nulls())[0]
    assert line == "cosine: nothing was tested (no reference conversations: drift.references is empty)."
    assert flagged_lines(NO_TABLE, {}) == ["No conversations were given."]


def test_what_not_to_conclude_follows_what_was_found() -> None:
    summary = make_summary(8, ("default",))
    flagged = summary["alarm_turn"].notna()
    summary.loc[flagged, "confound_verdict"] = "HIGH"
    summary.loc[flagged, "flags"] = "longer_than_references, confounded"
    said = " ".join(cautions(make_agreement(), summary, make_nulls()))
    assert "in the space residual layer 3: its axis is not good enough" in said
    assert "In conversation_6, conversation_7 the score goes with activation mass" in said
    assert "The last turns of conversation_6, conversation_7 are not tested" in said
    assert "without a test say nothing of when drift began" in said and "No alarm is no proof" in said
    fine = " ".join(cautions(make_agreement().head(1), make_summary(3, ("default",)), make_nulls(("default",))))
    assert not re.search("not good enough|activation mass|not tested|without a test", fine)


def test_the_page_has_the_findings_in_order_and_no_empty_table() -> None:
    source = findings_html(made(), links={("default", "conversation_7"): "../../../drift/c/default/conversation_7"})
    page = Page(source)
    assert_safe(page, source, script=SORT, folders=("../",))
    places = [source.index(f"<h2>{title}</h2>") for title in ("Is the axis good enough?", "What was flagged?")]
    assert places == sorted(places) and places[1] < source.index("What not to conclude")
    assert page.text.count("Where each role lies, sae (10 roles)") == 1 and "cooking" in page.text
    links = [item["href"] for tag, item in page.elements if tag == "a"]
    assert links == ["../../../drift/c/default/conversation_7/token_heat.html"]
    empty = Page(findings_html(made(summary=NO_TABLE, projections=NO_TABLE, nulls={})))
    assert [tag for tag, _ in empty.elements].count("table") == 1 and "No conversations were given." in empty.text
    assert "Simulated" not in page.text and "Figures of what was flagged" not in page.text


def test_texts_stay_texts_on_the_page_and_in_the_report() -> None:
    summary = make_summary(3, ("default",)).assign(conversation=ATTACK, analysis=ATTACK, reason=ATTACK)
    agreement = make_agreement().assign(space=ATTACK, reason=ATTACK)
    findings = made(agreement=agreement, summary=summary, nulls={ATTACK: make_nulls()["cosine"]})
    source = findings_html(findings)
    assert_safe(Page(source), source, script=SORT)
    shown = rendered(findings)
    assert "script" not in {tag for tag, _ in shown.elements} and "<script>alert(1)</script>" in shown.text


def test_the_report_has_the_same_sentences() -> None:
    findings = made()
    shown = rendered(findings)
    text = " ".join(shown.text.split())
    for title, lines in findings.sections:
        assert title in text and all(" ".join(line.split()) in text for line in lines)


def test_the_first_page_of_the_report_is_the_findings(tmp_path: Path) -> None:
    """As Snakemake renders it: a template with the files of the report, and links to them behind it."""
    (tmp_path / "findings.rst").write_text(findings_rst(made()), encoding="utf-8")
    template = Path(__file__).parents[2] / "workflow/report/workflow.rst"
    config = {"experiment": "main", "model": {"id": "org/m"}, "generation": {"question_mode": "general"}}
    for names in (["findings.html", "drift_ranking.html"], ["findings.html"], []):
        files = [SimpleNamespace(path=tmp_path / name) for name in names]
        made_of = Environment(trim_blocks=True, lstrip_blocks=True).from_string(template.read_text())
        text = made_of.render(files=files, snakemake=SimpleNamespace(config=config))
        links = "".join(f"\n.. _{name}: javascript:x('{name}')" for name in names)
        parts: Any = publish_parts(f"{text}\n{links}\n", writer="html", settings_overrides={"halt_level": 2})
        page = Page(parts["html_body"])
        found = [item["href"] for tag, item in page.elements if tag == "a"]
        assert found == [f"javascript:x('{name}')" for name in names]
        assert ("What not to conclude" in page.text) == bool(names) and "The experiment main" in page.text


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two runs of one analysis, the second with an alarm, and one that failed, with tables of the axis and a null."""
    features, names = random_roles(6, WIDTH)
    RoleMatrix(features, names, np.full(6, 9)).save(tmp_path / "mean.npz")
    options = DriftOptions()
    roles = load_role_space(tmp_path / "mean.npz", options.axis)
    dense, turn = random_tokens([5, 6, 7], WIDTH)
    activations = to_activations(dense, turn, 3)
    score = float(analyze_in(roles, activations, options).score.mean())
    described = {"model": "m", "sae_release": None, "sae_id": "s", "sae_layer": 3, "dropped_messages": 0}
    described["turns"] = [{"special_tokens": False}] * 3
    for name, mean in (("calm", score), ("drifting", score + 9), ("broken", None)):
        result: Any = "broken.json: no messages"
        if mean is not None:
            result = analyze_in(roles, activations, options, null=null_of(options, mean))
        messages = [{"role": "assistant", "content": "Ahoy"}] * 3
        metadata = described | {"conversation": {"name": name, "messages": messages, "metadata": {}}}
        folder = tmp_path / f"drift/general/m_s/default/{name}"
        outputs = {key: f"{folder}/{key}.json" for key in ("conversation", "summary", "ui_bundle")}
        write_run(Case(metadata, result), "default", roles, options, outputs | {"result": f"{folder}/result.npz"})
    write_csv(tmp_path / "agreement.csv", make_agreement())
    write_csv(tmp_path / "projections.csv", make_projections())
    write_json(tmp_path / "null/default.json", make_nulls(("default",))["default"])
    return tmp_path


def test_pages_are_written_from_the_files_of_an_experiment(experiment: Path) -> None:
    folders = [experiment / f"drift/general/m_s/default/{name}" for name in ("calm", "drifting", "broken")]
    summaries = [f"{folder}/summary.json" for folder in folders]
    place, nulls = experiment / "summary/general/m_s", [f"{experiment}/null/default.json"]
    tables = (f"{experiment}/agreement.csv", f"{experiment}/projections.csv")
    results = [f"{folder}/result.npz" for folder in folders]
    outputs = {"page": f"{place}/findings.html", "text": f"{place}/findings.rst"}
    write_findings(*tables, nulls, summaries, results, ["default"], **outputs)
    page = Page((place / "findings.html").read_text())
    assert "default: 1 of 2 tested conversations raised an alarm (drifting)" in page.text
    pictures = [(str(item["alt"]), str(item["src"])) for tag, item in page.elements if tag == "img"]
    assert [words for words, _ in pictures] == [
        "trajectory of drifting, default",
        "top features of drifting, default",
    ]
    assert all(base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG") for _, source in pictures)
    assert "raised an alarm (drifting)" in (place / "findings.rst").read_text()
    files = {name: f"{place}/{name}" for name in ("table", "csv", "detection", "page")}
    write_summary(summaries, nulls, ["default"], **files, png=f"{place}/r.png", svg=f"{place}/r.svg")
    ranking = Page((place / "page").read_text())
    hrefs = [str(item["href"]) for tag, item in ranking.elements if tag == "a"]
    assert hrefs[0] == "../../../drift/general/m_s/default/drifting/token_heat.html" and len(hrefs) == 10
    assert all((place / href).parent.is_dir() for href in hrefs)
    write_summary(summaries, nulls, [], **files, png=f"{place}/r.png", svg=f"{place}/r.svg")
    assert "href" not in (place / "page").read_text()


def test_features_have_names_in_ranking_table_and_findings(experiment: Path) -> None:
    folder = experiment / "drift/general/m_s/default/drifting"
    result = load_run(folder / "result.npz").result
    assert not isinstance(result, str) and result.selected is not None
    contrib = result.transitions[result.selected].contrib
    first, second, third = np.argsort(contrib, kind="stable")[:3].tolist()
    write_descriptions(experiment / "d.json", {first: {"description": "storms at <sea>"}, third: {"description": "x"}})
    said = f"{first} (storms at <sea>); {second}; {third} (x)"
    place, nulls = experiment / "summary", [f"{experiment}/null/default.json"]
    summaries, descriptions = [f"{folder}/summary.json"], [f"{experiment}/d.json"]
    files = {name: f"{place}/{name}" for name in ("table", "csv", "detection", "page")}
    write_summary(summaries, nulls, [], descriptions, **files, png=f"{place}/r.png", svg=f"{place}/r.svg")
    assert said in Page((place / "page").read_text()).text
    assert pd.read_csv(place / "csv")["away_features"].tolist() == [said]
    tables = (f"{experiment}/agreement.csv", f"{experiment}/projections.csv")
    outputs = {"page": f"{place}/findings.html", "text": f"{place}/findings.rst"}
    write_findings(*tables, nulls, summaries, [f"{folder}/result.npz"], [], descriptions, **outputs)
    assert f"away from the assistant are {said}." in Page((place / "findings.html").read_text()).text
    assert "storms at \\<sea\\>" in (place / "findings.rst").read_text()


def test_findings_of_an_axis_alone(experiment: Path) -> None:
    tables = (f"{experiment}/agreement.csv", f"{experiment}/projections.csv")
    write_findings(*tables, [], [], [], [], page=f"{experiment}/f.html", text=f"{experiment}/f.rst")
    assert "No conversations were given." in (experiment / "f.html").read_text()

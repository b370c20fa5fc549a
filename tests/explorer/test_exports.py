"""What Overview, Features and Roles export, and what their tooltips say, is what the bundle holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.explorer_page import Opened, number

pytestmark = pytest.mark.browser
FEATURE = 7


def same(exported: Any, held: Any) -> None:
    """Numbers, or empty cells where there is none."""
    given = [float(value) if value != "" else np.nan for value in exported]
    wanted = [np.nan if value is None else float(value) for value in held]
    np.testing.assert_array_equal(given, wanted)


def test_features_are_exported_with_all_that_is_known_of_them(
    page: Opened, parts: dict[str, Any], tmp_path: Path
) -> None:
    page.go("#/features?map=pca")
    part = parts["features"]
    rows = sorted(page.rows("The features shown on the map", tmp_path), key=lambda row: int(row["feature"]))
    assert [int(row["feature"]) for row in rows] == part["id"].tolist()
    for name in ("score", "stability", "sd", "mu", "density", "mean_active", "max", "axis_weight"):
        same([row[name] for row in rows], part[name])
    for axis, name in enumerate(("pca_x", "pca_y")):
        same([row[name] for row in rows], part["maps"]["pca"].reshape(-1, 2)[:, axis])
    assert [row["role"] for row in rows] == [part["roles"][i] for i in part["preferred_role"]]
    known = [description or label for description, label in zip(part["description"], part["label"], strict=True)]
    assert [row["label"] for row in rows] == known
    assert [json.loads(row["promoted"]) for row in rows] == part["promoted"]


def test_a_feature_s_tables_are_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    page.go(f"#/features?feature={FEATURE}")
    page.tab.wait_for_selector(".panel .chart svg")
    part, profiles = parts["features"], parts["profiles"]
    place = part["id"].tolist().index(FEATURE)
    rows = page.rows("Mean activation by role", tmp_path)
    held = {
        name: (profiles["mean"].reshape(4, -1)[r, place], profiles["error"].reshape(4, -1)[r, place])
        for r, name in enumerate(profiles["names"])
    }
    assert {row["role"]: (float(row["mean"]), float(row["standard error"])) for row in rows} == held
    contexts = next(value for name, value in parts.items() if name.startswith("contexts/"))
    own = np.flatnonzero(contexts["feature"] == FEATURE)
    rows = page.rows(f"contexts of feature {FEATURE}", tmp_path)
    assert [float(row["quantile"]) for row in rows] == sorted(contexts["quantile"][own], reverse=True)
    same([row["value"] for row in rows], contexts["value"][own])
    ends = np.cumsum(contexts["size"])
    assert [row["text"] for row in rows] == [contexts["text"][ends[i] - contexts["size"][i] : ends[i]] for i in own]
    k = part["k"]
    near = part["neighbors"][place * k : (place + 1) * k]
    rows = page.rows(f"Features like feature {FEATURE}", tmp_path)
    assert [int(row["feature"]) for row in rows] == part["id"][near].tolist()
    same([row["cosine"] for row in rows], part["similarities"][place * k : (place + 1) * k] / 10_000)


def test_where_a_feature_is_in_drift_is_exported(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    where = parts["where"]
    feature = int(np.bincount(where["feature"]).argmax())
    page.go(f"#/features?feature={feature}")
    page.tab.wait_for_selector("text=In drift")
    rows = page.rows(f"Transitions with feature {feature}", tmp_path)
    own = where["feature"] == feature
    held = zip(where["run"][own], where["turn"][own], where["contrib"][own], strict=True)
    exported = {(row["run"], int(row["turn"]), float(row["contrib"])) for row in rows}
    assert exported == {(where["runs"][run], int(turn), float(contrib)) for run, turn, contrib in held}


def test_the_overview_s_tables_are_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    page.go("#/overview")
    core = parts["core"]
    rows = page.rows("Conversations, alarms first", tmp_path)
    held = {(run["conversation"], run["analysis"]): run for run in core["runs"]}
    assert {(row["conversation"], row["analysis"]) for row in rows} == set(held)
    for row in rows:
        run = held[row["conversation"], row["analysis"]]
        names = ("alarm_turn", "p_value", "q_value", "fall", "n_turns")
        same([row[name] for name in names], [run[name] for name in names])
    alarms = [row["alarm_turn"] != "" for row in rows]
    assert alarms == sorted(alarms, reverse=True)
    (row,) = page.rows("Alarms, beside the rate at which plain conversations raise them", tmp_path)
    rate = core["nulls"]["default"]["false_alarms"][""]
    same([row[f"rate{end}"] for end in ("", "_low", "_high", "_n")], [rate[n] for n in ("rate", "low", "high", "n")])
    tested = sum(run["p_value"] is not None for run in core["runs"])
    assert int(row["tested"]) == tested and float(row["by_chance"]) == pytest.approx(tested * rate["rate"])
    rows = page.rows("Agreement of two definitions, and with the roles' labels shuffled", tmp_path)
    for name in ("cos_diff_pc1", "n_responses", "pc1_variance_share"):
        same([row[name] for row in rows], [entry[name] for entry in core["agreement"]])
    rows = page.rows("How good the axis is, by space", tmp_path)
    measured = {(row["space"], row["measure"]): float(row["value"]) for row in rows}
    for entry in core["agreement"]:
        assert measured[entry["space"], "split-half cosine"] == entry["split_half"]


def test_the_roles_tables_are_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    tab = page.go("#/roles?role=default&against=assistant&side=both")
    tab.wait_for_selector("text=set it apart")
    space, profiles = parts["roles"]["spaces"][0], parts["profiles"]
    n, names = len(space["roles"]), profiles["names"]
    tab.click(".heatmap summary")
    similar = space["similarity"].reshape(n, n)
    rows = page.rows("Similarity of roles", tmp_path)
    for row in rows:
        same([row[name] for name in space["roles"]], similar[space["roles"].index(row["role"])])
    rows = page.rows("Where each role stands on the axis", tmp_path)
    held = {row["role"]: row for row in space["projections"]}
    for row in rows:
        own = held[row["role"]]
        same([row["crossfit"], row["low"], row["high"]], [own[f"crossfit{end}"] for end in ("", "_low", "_high")])
    rows = page.rows("Principal components", tmp_path)
    placed = space["pca"]["coordinates"].reshape(len(rows), -1)
    for i, row in enumerate(rows):
        same([row[f"PC{j + 1}"] for j in range(placed.shape[1])], placed[i])
    rows = page.rows("Roles nearest to default", tmp_path)
    me = space["roles"].index("default")
    assert {row["role"]: float(row["cosine"]) for row in rows} == {
        name: similar[me, j] for j, name in enumerate(space["roles"]) if j != me
    }
    rows = page.rows("Features that set default apart", tmp_path)
    mean, error = (profiles[name].reshape(n, -1).astype(float) for name in ("mean", "error"))
    mine, theirs = names.index("default"), names.index("assistant")
    difference = mean[mine] - mean[theirs]
    spread = np.hypot(error[mine], error[theirs])
    z = np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 0)
    chosen = (difference != 0) & ((np.abs(z) > 2) | (spread == 0))
    assert {int(row["feature"]) for row in rows} == set(parts["features"]["id"][chosen].tolist())
    got = {int(row["feature"]): float(row["difference"]) for row in rows}
    wanted = dict(zip(parts["features"]["id"][chosen].tolist(), difference[chosen], strict=True))
    assert got == pytest.approx(wanted, rel=1e-9)
    rows = page.rows("responses of default", tmp_path)
    assert [row["response"] for row in rows] == [
        one["response"] for one in parts["responses"]["roles"]["default"]["shown"]
    ]


def test_tooltips_of_roles_say_the_bundle_s_numbers(page: Opened, parts: dict[str, Any]) -> None:
    tab = page.go("#/roles")
    space = parts["roles"]["spaces"][0]
    tab.wait_for_selector("main .chart svg title", state="attached")
    said = tab.locator("main .chart svg title").evaluate_all("(titles) => titles.map((one) => one.textContent)")
    projected = {row["role"]: row for row in space["projections"]}
    places = dict(zip(space["pca"]["roles"], space["pca"]["coordinates"].reshape(4, -1), strict=True))
    seen = 0
    for text in said:
        name = text.split(" (")[0].split(": PC1")[0]
        if ": PC1 " in text:
            x, y = (number(part.split(" ")[1]) for part in text.split(": ")[1].split(", "))
            assert (x, y) == pytest.approx(tuple(places[name][:2]), rel=6e-3)
            seen += 1
        else:
            value = number(text.split("): ")[1].split(" ")[0])
            assert value == pytest.approx(projected[name]["crossfit"], rel=6e-3)
            seen += 1
    assert seen == 8
    names = [space["roles"][i] for i in space["order"]]
    canvas = tab.locator(".heatmap canvas")
    box = canvas.bounding_box()
    canvas.scroll_into_view_if_needed()
    tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.6 * box["height"])
    tip = tab.locator(".heatmap .tip").inner_text()
    pair, value = tip.split(": ")
    i, j = (space["roles"].index(name) for name in pair.split(" and "))
    assert number(value) == pytest.approx(space["similarity"].reshape(4, 4)[i, j], rel=6e-3)
    assert {names.index(name) for name in pair.split(" and ")} <= set(range(4))


def test_tooltips_of_features_say_the_bundle_s_numbers(page: Opened, parts: dict[str, Any]) -> None:
    tab = page.go(f"#/features?feature={FEATURE}&metric=density")
    part = parts["features"]
    place = part["id"].tolist().index(FEATURE)
    tab.wait_for_selector(".panel .chart svg title", state="attached")
    profile = parts["profiles"]["mean"].reshape(4, -1)[:, place]
    said = tab.locator(".panel .chart svg title").evaluate_all("(titles) => titles.map((one) => one.textContent)")
    shown = {text.split(": ")[0]: number(text.split(": ")[1].split(" ")[0]) for text in said}
    assert shown == pytest.approx(dict(zip(parts["profiles"]["names"], profile, strict=True)), rel=6e-3)
    contexts = next(value for name, value in parts.items() if name.startswith("contexts/"))
    starts = np.append(0, np.cumsum(contexts["active"]))
    for i, mark in zip(
        np.flatnonzero(contexts["feature"] == FEATURE), tab.locator(".panel mark.at").all(), strict=True
    ):
        peak = contexts["activation"][starts[i] + contexts["peak"][i]]
        assert number(str(mark.get_attribute("title"))) == pytest.approx(peak, rel=6e-3)
    tab.focus(".map")
    for _ in range(12):
        page.press("ArrowLeft" if tab.locator(".map .tip").count() == 0 else "+")
        if tab.locator(".map .tip").count():
            break
    tip = tab.locator(".map .tip").inner_text().replace("\u00a0", " ")
    other = part["id"].tolist().index(int(tip.split(" ")[0]))
    assert part["roles"][part["preferred_role"][other]] in tip
    assert number(tip.rsplit("density ", 1)[1].split(" ")[0]) == pytest.approx(100 * part["density"][other], abs=0.6)


@pytest.mark.parametrize(
    ("state", "label"),
    [
        ("#/features", "Save the map as {}"),
        ("#/roles", "Save as {}: How alike roles are"),
        ("#/roles", "Save as {}: Principal components"),
        ("#/overview", "Save as {}: How good the axis is, by space"),
    ],
)
def test_pictures_are_saved(page: Opened, tmp_path: Path, state: str, label: str) -> None:
    tab = page.go(state)
    tab.wait_for_timeout(300)
    for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with tab.expect_download() as download:
            tab.click(f"[aria-label='{label.format(kind)}']")
        download.value.save_as(tmp_path / kind)
        content = (tmp_path / kind).read_bytes()
        assert content.startswith(start) and len(content) > 2000

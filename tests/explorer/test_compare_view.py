"""Compare in a real browser: two runs, and another experiment's page that is chosen from disk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.explorer.bundle import Bundle, write_explorer
from personascope.explorer.pack import VERSION, encoded, pack, unpack
from tests.helpers.explorer_directions import EVIL
from tests.helpers.explorer_page import AXE, Opened
from tests.helpers.explorer_results import SETTINGS, Results

pytestmark = pytest.mark.browser
PICK = "#other-page"
PAIR = "#/compare?a=default/talk&b=" + "default/%22%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E"


class Other(Results):
    """Another experiment with the same SAE: other role vectors, one role of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, role="stranger")

    def roles(self) -> None:
        self.features = (self.features * np.random.default_rng(8).uniform(0.6, 1.5, self.features.shape)).astype("f4")
        super().roles()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Other(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def theirs(other: Results) -> dict[str, Any]:
    settings = replace(SETTINGS, experiment=EVIL)
    return {name: unpack(pack(content)) for name, content in Bundle(other.folder, settings).parts()}


@pytest.fixture(scope="module")
def their_page(other: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("their") / "index.html"
    write_explorer(other.folder, path, replace(SETTINGS, experiment=EVIL))
    return path


def largest(step: dict[str, Any]) -> dict[int, float]:
    return dict(zip(step["largest"]["feature"].tolist(), step["largest"]["contrib"].tolist(), strict=True))


def picked(run: dict[str, Any], turn: int) -> dict[str, Any]:
    return next(step for step in run["transitions"] if step["turn"] == turn)


def at_the_end(run: dict[str, Any]) -> dict[str, float]:
    names, cosines = run["roles"]["names"], run["roles"]["cosines"]
    return dict(zip(names, cosines.reshape(-1, len(names))[-1].tolist(), strict=True))


def check_pair(page: Opened, runs: list[dict[str, Any]], turns: list[int], folder: Path) -> None:
    """What the page says of two runs: trajectories, features of two transitions, roles."""
    first, second = (largest(picked(run, turn)) for run, turn in zip(runs, turns, strict=True))
    rows = page.rows("Parts in the change of the projection, the largest difference first", folder)
    assert {int(row["feature"]) for row in rows} == {*first, *second}
    for row in rows:
        x, y = first.get(int(row["feature"])), second.get(int(row["feature"]))
        assert [row["first"], row["second"]] == ["" if x is None else f"{x}", ""] if y is None else True
        assert float(row["difference"]) == pytest.approx((y or 0) - (x or 0), rel=1e-6)
    sizes = [abs(float(row["difference"])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    rows = page.rows("Trajectories", folder)
    z = [value for run in runs for value in run["turns"]["z"]]
    expected = ["" if value is None else float(value) for value in z]
    assert [row["z"] and float(row["z"]) for row in rows] == expected
    # What plain conversations score depends on how long each run's own turns are.
    band = [value for run in runs for value in run["turns"]["expected_low"]]
    assert [row["expected_low"] and float(row["expected_low"]) for row in rows] == [
        "" if value is None else float(value) for value in band
    ]
    x, y = map(at_the_end, runs)
    rows = page.rows("Cosines with the roles", folder)
    assert {row["role"] for row in rows} == {*x} & {*y}
    for row in rows:
        role = row["role"]
        assert [float(row["first"]), float(row["second"])] == pytest.approx([x[role], y[role]], rel=1e-6)


def test_two_runs_of_a_page_and_of_two_transitions(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    runs = [parts["drift/default/talk"], parts[f"drift/default/{EVIL}"]]
    tab = page.go(f"{PAIR}&ta=3&tb=4")
    check_pair(page, runs, [3, 4], tmp_path)
    url, shown = tab.url, tab.locator("main").inner_text()
    tab.click("text=swap")
    assert "ta=4" in tab.url and tab.locator("main").inner_text() != shown
    page.go(url.removeprefix(page.url))
    assert tab.locator("main").inner_text() == shown, "the link shows the same"


def test_runs_of_another_experiment(
    page: Opened, parts: dict[str, Any], theirs: dict[str, Any], their_page: Path, tmp_path: Path
) -> None:
    tab = page.go("#/compare?a=default/talk&b=other:default/talk&ta=2&tb=3")
    assert "other:default/talk, is not here" in tab.locator("main").inner_text()
    tab.set_input_files(PICK, their_page)
    tab.wait_for_selector("text=take it away")
    tab.wait_for_timeout(400)
    check_pair(page, [parts["drift/default/talk"], theirs["drift/default/talk"]], [2, 3], tmp_path)
    assert "Not in both: " in tab.locator("main").inner_text() and "with=" in tab.url
    tab = page.go(tab.url.removeprefix(page.url))
    assert "whose page has to be chosen again" in tab.locator("main").inner_text()


def test_long_names_stay_on_a_narrow_page(page: Opened, tmp_path: Path) -> None:
    long = Results(tmp_path / "long", talks=("talk",), role="a_name_that_goes_on_" * 5)
    write_explorer(long.folder, tmp_path / "index.html", SETTINGS)
    page.tab.set_viewport_size({"width": 420, "height": 900})
    tab = page.go("#/compare?of=experiments")
    tab.set_input_files(PICK, tmp_path / "index.html")
    tab.wait_for_selector("text=Only in the second: a_name")
    assert tab.evaluate("document.documentElement.scrollWidth") == 420


def test_two_experiments(
    page: Opened, results: Results, parts: dict[str, Any], other: Results, their_page: Path, tmp_path: Path
) -> None:
    tab = page.go("#/compare?of=experiments&role=default")
    tab.set_input_files(PICK, their_page)
    tab.wait_for_selector("h2:has-text('Features of a role')")
    tab.wait_for_selector("[aria-label='Save as CSV: Features of default that differ']")
    said = tab.locator("main").inner_text()
    assert "The same features" in said and "3 roles in both" in said and "Only in the second: stranger" in said
    mine, place = results.features, results.names.index("default")
    rows = page.rows("Features of default that differ", tmp_path)
    assert rows
    for row in rows:
        feature = int(row["feature"])
        pair = [mine[place, feature], other.features[place, feature]]
        assert [float(row["first"]), float(row["second"])] == pytest.approx(pair, rel=2e-3)
        assert abs(float(row["difference"])) > 2 * float(row["standard_error"])
    shared = [name for name in results.names if name in other.names]
    alive = [i for i in parts["features"]["id"].tolist() if np.log1p(other.features).mean(0)[i] > 0]
    x, y = (np.log1p(m.features[[m.names.index(name) for name in shared]][:, alive]) for m in (results, other))
    x, y = x - x.mean(0), y - y.mean(0)
    expected = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    label = "Each role with itself: cosine of its profile in the two experiments, minus the mean of the shared roles"
    rows = page.rows(label, tmp_path)
    assert {row["role"]: float(row["cosine"]) for row in rows} == pytest.approx(
        dict(zip(shared, expected.tolist(), strict=True)), abs=2e-3
    )
    weights = [np.load(m.folder / "axis/general/tiny_sae/axis.npz")["diff_sae"][alive] for m in (results, other)]
    cosine = weights[0] @ weights[1] / np.linalg.norm(weights[0]) / np.linalg.norm(weights[1])
    said = tab.locator("text=The two axes in the SAE's space").inner_text()
    assert float(said.split("cosine ")[1].split()[0].replace("\u2212", "-")) == pytest.approx(cosine, abs=2e-3)
    rows = page.rows("Runs of both experiments", tmp_path)
    assert {row["conversation"] for row in rows} == {"talk", "whisper", "broken"}
    assert "other:" not in tab.url
    tab.locator("main table", has_text="talk").locator("tbody button", has_text="talk").click()
    tab.wait_for_selector("h2:has-text('Trajectories')")
    assert "b=other%3Adefault%2Ftalk" in tab.url
    tab.click("text=take it away")
    assert tab.locator("main svg").count() and "other" not in tab.url


def test_features_of_two_saes_are_not_compared(page: Opened, results: Results, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_explorer(results.folder, path, SETTINGS)
    core = dict(dict(Bundle(results.folder, SETTINGS).parts())["core"])
    core["provenance"] = core["provenance"] | {"sae_weights": "another", "weights": "another"}
    change_core(path, core)
    tab = page.go("#/compare")
    tab.set_input_files(PICK, path)
    why = "not the same, so they are not compared: the model's weights, the SAE's weights differ"
    tab.wait_for_selector(f"text={why}")
    assert tab.locator("h2:has-text('Roles at the end')").count() == 1


def change_core(path: Path, core: dict[str, Any]) -> None:
    """Put another core into a page."""
    text = path.read_text()
    start = text.index('id="index">') + len('id="index">')
    end = text.index("</script>", start)
    index = json.loads(text[start:end])
    entry = next(entry for entry in index["parts"] if entry["name"] == "core")
    made = encoded(pack({"version": VERSION, "part": "core", **core}))
    mark = f'id="{entry["id"]}">'
    body = text.index(mark) + len(mark)
    entry["size"], close = len(made), text.index("</script>", body)
    text = text[:body] + made + text[close:]
    head = json.dumps(index).replace("<", "\\u003c")
    path.write_text(text[:start] + head + text[end:])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (f"{EVIL}.html", "<p>hello", "is no page of this explorer"),
        ("data-3.js", 'personascope_part("a","b");', "none of the chosen files is a page"),
        ("old.html", '<script id="index" type="application/json">{"version": 7}</script>', "bundle version 7"),
        ("cut.html", '<script id="index" type="application/json">{"versi', "damaged or cut off"),
    ],
    ids=["another page", "data alone", "another version", "cut off"],
)
def test_what_is_no_page_is_refused(page: Opened, tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    tab = page.go("#/compare")
    tab.set_input_files(PICK, tmp_path / name)
    tab.wait_for_selector(".picker .notice")
    assert said in tab.locator(".picker .notice").inner_text()
    assert tab.locator("main svg").count() > 0, "the page's own runs stay"


def test_data_beside_their_page_are_chosen_with_it(page: Opened, other: Results, tmp_path: Path) -> None:
    write_explorer(other.folder, tmp_path / "index.html", replace(SETTINGS, experiment="far", inline_mb=0.001))
    tab = page.go("#/compare?a=default/talk&b=other:default/talk")
    tab.set_input_files(PICK, tmp_path / "index.html")
    tab.wait_for_selector("text=was not chosen with index.html: choose both together")
    tab.set_input_files(PICK, [str(path) for path in tmp_path.iterdir()])
    tab.wait_for_selector("h2:has-text('Roles at the end')")
    bad = tmp_path / "data-99.js"
    bad.write_text("alert(1)")
    tab.set_input_files(PICK, [str(tmp_path / "index.html"), str(bad)])
    tab.wait_for_selector("text=data-99.js is no data file of an explorer page")


def test_a_path_by_keyboard_alone(page: Opened) -> None:
    tab = page.go("#/overview")
    page.press("6")
    tab.wait_for_selector("h2:has-text('Trajectories')")
    page.tab_to(PICK)
    page.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "SELECT"
    before = tab.url
    page.press("ArrowDown")
    assert tab.url != before and "a=" in tab.url
    page.press("ArrowUp")
    page.tab_to("main .tabs button")
    page.press("Enter")
    page.tab_to("main .tablebox tbody button")
    feature = tab.evaluate("document.activeElement.textContent").split()[0]
    page.press("Enter")
    tab.wait_for_selector(f"h1:has-text('Feature {feature}')")


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in src/explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("of", ["runs", "experiments"])
def test_axe_finds_nothing(page: Opened, their_page: Path, of: str, theme: str) -> None:
    tab = page.go(f"#/compare?of={of}&theme={theme}")
    tab.set_input_files(PICK, their_page)
    tab.wait_for_selector("text=take it away")
    tab.wait_for_timeout(500)
    assert page.violations() == [] and tab.locator("main img, main script").count() == 0
    assert EVIL in tab.locator(".picker").inner_text()
    tab.set_viewport_size({"width": 420, "height": 900})
    tab.wait_for_timeout(200)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 420 and page.violations() == []

"""The page of 65,536 features in a browser without a GPU: its size, its first picture, the map moving, search.

The experiment is made up, but of the shapes of a real one, and written by the package's own writers: 50 roles, both
maps, labels of all features, contexts of 2,000, and 10 conversations of 20 turns.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.directions.axis import role_space_of
from personascope.drift.conversation import analyze_file, write_run
from personascope.drift.options import DriftOptions
from personascope.drift.summary import read_summaries, summary_table
from personascope.explorer.bundle import Settings, write_explorer
from personascope.formats.conversations import read_conversation
from personascope.formats.features import FeatureRows, write_features
from personascope.formats.files import write_jsonl
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import METADATA_KEY, save_npz, write_csv, write_table
from personascope.formats.tokens import TokenBlock, token_writer
from tests.benchmarks.common import ROOT, ROUNDS, Row
from tests.helpers.axis_tables import role_names, simulated_tables
from tests.helpers.drift_cases import null_of, reference_of

WIDTH, ROLES, DESCRIBED, CELL = 65536, 50, 2000, "general/m_s"
RUNS, TURNS, TOKENS, ACTIVE = 10, 20, 100, 60  # tokens of a turn, and features of a token, as in the demo
TOP, TALKS, LOWER = (
    8,
    3,
    2,
)  # contexts of a feature: the largest, in conversations too, and those of each lower quantile
QUANTILES = (0.9, 0.75, 0.5, 0.25)
SETTINGS = Settings("wide", "m", "s", "general", analyses=("default",), contexts=DESCRIBED)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SEARCHES = ("e", "s", "st", "the", "storm", "the sea", "role:pirate", "a b c", "zzz", "123")


def texts() -> list[str]:
    """Words of the project's own conversations, in their order."""
    folder = ROOT / "resources" / "conversations"
    said = [m["content"] for path in sorted(folder.glob("*.json")) for m in read_conversation(path).messages]
    return [f" {word}" for word in " ".join(said).split()]


class Wide:
    """results/wide, written when it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng, self.words = folder, np.random.default_rng(0), texts()
        self.names = role_names(ROLES)
        # Few features are much active, in all roles; roles differ by a factor that groups of features share.
        usual = self.rng.lognormal(-4, 2, WIDTH)
        self.group = self.rng.integers(0, 60, WIDTH)
        self.factor = self.rng.lognormal(0, 0.6, (ROLES, 60))
        noise = self.rng.lognormal(0, 0.2, (ROLES, WIDTH))
        self.matrix = (usual * self.factor[:, self.group] * noise).astype(np.float32)
        self.frequency, self.level = usual / usual.sum(), self.rng.lognormal(0, 0.7, WIDTH)
        self.roles()
        self.atlas()
        self.descriptions()
        for number in range(RUNS):
            self.run(number)
        summaries = sorted((folder / "drift" / CELL).glob("*/*/summary.json"))
        (folder / "summary" / CELL).mkdir(parents=True)
        write_table(folder / "summary" / CELL / "drift_summary.parquet", summary_table(read_summaries(summaries)))

    def roles(self) -> None:
        for name in self.names:
            folder = self.folder / "features" / CELL
            write_features(
                folder / f"{name}.parquet", [self.responses()], {"model": "m", "d_sae": WIDTH, "sae_layer": 3}
            )
            said = [
                {"prompt_index": i, "question": self.passage(9), "system_prompt": "", "response": self.passage(90)}
                for i in range(12)
            ]
            write_jsonl(self.folder / "responses" / "general" / "m" / f"{name}.jsonl", said)
        folder = self.folder / "aggregated" / CELL / "mean"
        RoleMatrix(self.matrix, self.names, np.full(ROLES, 1200)).save(folder / "per_role.npz")
        for name, table in simulated_tables(self.names, (3,)).items():
            write_csv(self.folder / "axis" / CELL / f"{name}.csv", table)
        axis = role_space_of(self.matrix, self.names, DriftOptions().axis).axis
        save_npz(self.folder / "axis" / CELL / "axis.npz", diff_sae=axis, role_names=np.array(self.names))

    def responses(self) -> FeatureRows:
        n, active = 4, 3000
        indices = np.sort([self.rng.choice(WIDTH, active, replace=False) for _ in range(n)], axis=1).astype(np.int32)
        mean = self.rng.gamma(1.5, 0.1, n * active).astype(np.float32)
        counts = np.full(n, 300, np.int32)
        offsets = np.arange(n + 1, dtype=np.int64) * active
        return FeatureRows(
            np.zeros(n, np.int32), np.arange(n, dtype=np.int32), counts, offsets, indices.ravel(), mean, mean
        )

    def passage(self, length: int) -> str:
        start = int(self.rng.integers(0, len(self.words) - length))
        return "".join(self.words[start : start + length]).strip()

    def atlas(self) -> None:
        x = np.log1p(self.matrix)
        for place, centered in (("", False), ("centered", True)):
            middle = self.rng.normal(size=(60, 2)) * 6
            xy = (middle[self.group] + self.rng.normal(size=(WIDTH, 2))).astype(np.float32)
            sd = x.std(0)
            stability = np.clip(1 - 0.05 / (0.05 + sd) + self.rng.normal(0, 0.05, WIDTH), -1, 1)
            known = {"score": stability * sd, "stability": stability, "sd": sd, "mu": x.mean(0)}
            save_npz(
                self.folder / "atlas" / CELL / place / "layout.npz",
                feature_ids=np.arange(WIDTH, dtype=np.int32),
                umap=xy,
                pca=(xy @ [[0.8, 0.2], [-0.3, 0.6]]).astype(np.float32),
                preferred_role=x.argmax(0).astype(np.int16),
                knn_overlap=np.array(0.3),
                neighbors=self.rng.integers(0, WIDTH, (WIDTH, 20)).astype(np.int32),
                similarities=self.rng.random((WIDTH, 20)).astype(np.float32),
                role_names=np.array(self.names),
                centered=np.array(centered),
                **{name: values.astype(np.float32) for name, values in known.items()},
            )

    def descriptions(self) -> None:
        folder, rng = self.folder / "descriptions" / CELL, self.rng
        folder.mkdir(parents=True)
        peaks = rng.integers(1, len(self.words), WIDTH)
        tokens = [[self.words[i] for i in row] for row in rng.integers(0, len(self.words), (WIDTH, 20)).tolist()]
        table = {
            "feature": np.arange(WIDTH, dtype=np.int32),
            "density": (self.frequency * ACTIVE).astype(np.float32),
            "mean_active": rng.gamma(2, 2, WIDTH).astype(np.float32),
            "max": rng.gamma(2, 8, WIDTH).astype(np.float32),
            "label": [f"“{self.words[i].strip()}” after “{self.words[i - 1].strip()}”" for i in peaks.tolist()],
            "promoted": [row[:10] for row in tokens],
            "suppressed": [row[10:] for row in tokens],
        }
        self.write(pa.table(table), folder / "features.parquet")
        score = np.load(self.folder / "atlas" / CELL / "layout.npz")["score"]
        rows = [row for feature in np.sort(np.argsort(-score)[:DESCRIBED]).tolist() for row in self.contexts(feature)]
        self.write(pa.Table.from_pylist(rows), folder / "contexts.parquet")

    def write(self, table: pa.Table, path: Path) -> None:
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: "{}"}), path)

    def contexts(self, feature: int) -> Iterator[dict[str, Any]]:
        """As many as `descriptions.contexts: 8` keeps of a feature that is seen often."""
        for quantile, count in ((1.0, TOP + TALKS), *((q, LOWER) for q in QUANTILES)):
            for rank in range(count):
                start, length = int(self.rng.integers(0, len(self.words) - 25)), int(self.rng.integers(18, 26))
                values = [0.0] * length
                at = length * 2 // 3
                for beside in (at, int(self.rng.integers(0, length))):
                    values[beside] = float(self.rng.gamma(2, 4))
                yield {
                    "feature": feature,
                    "quantile": quantile,
                    "rank": rank,
                    "value": values[at],
                    "source": "response" if rank < TOP else "conversation",
                    "name": self.names[int(self.rng.integers(0, ROLES))],
                    "question": " ".join(self.words[(rank * 9) % 200 :][:9]),
                    "tokens": self.words[start : start + length],
                    "values": values,
                    "at": at,
                }

    def run(self, number: int) -> None:
        """A conversation whose tokens share some features, as a text does, and its analysis."""
        rng, n = np.random.default_rng(100 + number), TURNS * TOKENS
        own = rng.choice(WIDTH, 4000, replace=False, p=self.frequency)
        weights = 1 / np.arange(1, 4001) ** 0.3
        rows = [np.sort(rng.choice(own, ACTIVE, replace=False, p=weights / weights.sum())) for _ in range(n)]
        start = int(rng.integers(0, len(self.words) - n))
        pieces = [word.replace(" ", "Ġ") for word in self.words[start : start + n]]
        turn = np.repeat(np.arange(TURNS), TOKENS).astype(np.int32)
        messages = [
            {"role": role, "content": "".join(self.words[start + t * TOKENS :][:size]).strip()}
            for t in range(TURNS)
            for role, size in (("user", 30), ("assistant", TOKENS))
        ]
        offsets = np.arange(n + 1, dtype=np.int64) * ACTIVE
        indices = np.concatenate(rows).astype(np.int32)
        values = (self.level[indices] * rng.gamma(4.0, 1.0, n * ACTIVE)).astype(np.float32)
        places = np.arange(n, dtype=np.int32)
        residuals = np.zeros((n, 1, 8), np.float32)
        block = TokenBlock(places, turn, places, pieces, offsets, indices, values, residuals)
        name = f"talk{number}"
        turns = [{"message_index": 2 * t + 1, "special_tokens": False} for t in range(TURNS)]
        metadata = {"model": "m", "sae_release": None, "sae_id": "s", "sae_layer": 3, "d_sae": WIDTH}
        metadata |= {"conversation": {"name": name, "messages": messages, "metadata": {}}, "turns": turns}
        metadata |= {"residual_layers": [3], "dropped_messages": 0, "error": None}
        path = self.folder / "tokens" / "m_s" / f"{name}.parquet"
        with token_writer(path, metadata, 8) as write:
            write(block)
        options = DriftOptions()
        roles = role_space_of(self.matrix, self.names, options.axis)
        reference = reference_of(self.matrix, self.names, options, draws=10, responses=4)
        null = null_of(options, 20.0, n=20, turns=TURNS)
        case = analyze_file(path, roles, options, reference, null)
        kinds = {"conversation": "json", "summary": "json", "ui_bundle": "json", "result": "npz"}
        folder = self.folder / "drift" / CELL / "default" / name
        write_run(case, "default", roles, options, {kind: str(folder / f"{kind}.{kinds[kind]}") for kind in kinds})


# In the page: work is what happens between the start of a frame and its end, waiting for the screen left out.
FRAMES = """async (step) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const turn = () => new Promise((done) => setTimeout(done));
  const map = document.querySelector(".map"), box = map.getBoundingClientRect(), took = [];
  for (const [kind, x, y, by] of step) {
    await frame(); await new Promise((done) => setTimeout(done, 30));
    let begun = 0;
    requestAnimationFrame(() => { begun = performance.now(); });
    const before = performance.now(), bubbling = { bubbles: true, cancelable: true };
    const at = { clientX: box.x + x * box.width, clientY: box.y + y * box.height, ...bubbling };
    const wheel = () => new WheelEvent("wheel", { ...at, deltaY: by });
    map.dispatchEvent(kind === "wheel" ? wheel() : new KeyboardEvent("keydown", { key: kind, ...bubbling }));
    const handled = performance.now() - before;
    await frame();
    await turn();
    took.push(handled + performance.now() - begun);
  }
  return took;
}"""
TYPED = """async (queries) => {
  const turn = () => new Promise((done) => setTimeout(done));
  const box = document.querySelector("#search"), took = [];
  for (const query of queries) {
    await new Promise((done) => setTimeout(done, 400));
    const drawn = window.drawn.length, begun = performance.now();
    box.value = query; box.dispatchEvent(new Event("input", { bubbles: true }));
    while (window.drawn.length === drawn && performance.now() - begun < 5000) await turn();
    took.push((window.drawn.at(-1) ?? Infinity) - begun);
  }
  return took;
}"""
WATCH = """window.drawn = []; const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  put.apply(this, given); window.drawn.push(performance.now());
};"""
STEPS = [*(("wheel", 0.5, 0.5, -240),) * 10, *(("wheel", 0.6, 0.4, 240),) * 10, *(("ArrowRight", 0, 0, 0),) * 4]


def look(browser: Any, page: Path) -> tuple[float, list[float], list[float]]:
    """Milliseconds from the start to the first map, of every step of the map, and from a keystroke to the map of what
    is found."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.add_init_script(WATCH)
    tab.goto(f"{page.as_uri()}#/features")
    while not tab.evaluate("window.drawn.length"):  # the page's policy lets no condition be waited for in it
        tab.wait_for_timeout(50)
    first = tab.evaluate("window.drawn[0]")
    tab.wait_for_timeout(2500)
    frames = tab.evaluate(FRAMES, STEPS)
    tab.wait_for_timeout(500)
    tab.click("#search")
    tab.wait_for_timeout(3000)  # the contexts are read
    found = tab.evaluate(TYPED, SEARCHES)
    tab.close()
    return first, frames, found


def run() -> Iterator[Row]:
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as name:
        results = Wide(Path(name) / "wide").folder
        page = Path(name) / "index.html"
        size = write_explorer(results, page, SETTINGS) / 1e6
        yield size_row(page, size)
        yield from browser_rows(sync_playwright, page)


def size_row(page: Path, size: float) -> Row:
    listed = re.findall(r'"name": "(\w+)[^"]*", "size": (\d+)', page.read_text()[:2_000_000])
    parts: dict[str, int] = {}
    for part, length in listed:
        parts[part] = parts.get(part, 0) + int(length)
    largest = sorted(parts, key=lambda part: -parts[part])[:5]
    detail = ", ".join(f"{part} {parts[part] / 1e6:.2f}" for part in largest)
    what = f"explorer, page of {WIDTH:,} features, {DESCRIBED:,} described, {RUNS} runs of {TURNS} turns"
    return Row(what, f"{size:.2f} MB", "< 6 MB", size < 6, detail)


def browser_rows(playwright: Any, page: Path) -> Iterator[Row]:
    with playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        looks = [look(browser, page) for _ in range(max(ROUNDS, 3))]
        browser.close()
    first = median(one[0] for one in looks)
    yield Row(f"explorer, first map of {WIDTH:,} features", f"{first / 1000:.2f} s", "< 1.5 s", first < 1500, "median")
    for what, part, bar, names in (
        ("redraw of the map, worst step", 1, 30, [f"{kind} {i}" for i, (kind, *_) in enumerate(STEPS)]),
        ("search, from the key to the map, worst query", 2, 50, list(SEARCHES)),
    ):
        typical = [median(values) for values in zip(*(one[part] for one in looks), strict=True)]
        worst = max(typical)
        detail = f"{names[typical.index(worst)]}; median of all {median(typical):.0f} ms"
        yield Row(f"explorer, {what}", f"{worst:.0f} ms", f"< {bar} ms", worst < bar, detail)


if __name__ == "__main__":  # python -m tests.benchmarks.explorer FOLDER: make the experiment and its page there
    import sys

    target = Path(sys.argv[1])
    made = target / "wide" if (target / "wide").is_dir() else Wide(target / "wide").folder
    print(write_explorer(made, target / "index.html", SETTINGS) / 1e6, "MB")

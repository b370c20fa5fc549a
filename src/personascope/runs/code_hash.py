"""A hash of the code that defines a stage's results, so that a changed formula reruns what it changed.

Snakemake sees it as a parameter, and the store has it in its keys. It is taken over the syntax tree without
docstrings: a comment or a reformatted line must not cost GPU hours.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

# The modules whose code decides what a stage writes.
STAGE_MODULES = {
    "fetch_model": ("embedded",),
    "train_sae": ("train_sae", "attention", "extract", "hookpoints", "spans"),
    "generate": ("generate", "roles", "spans"),
    "generate:transformers": ("attention", "backends/local", "backends/sampling"),
    "generate:openai": ("backends/openai",),
    "generate:vllm": ("backends/vllm",),
    "generate:vllm_server": ("backends/openai", "backends/vllm_server"),
    "extract": ("attention", "extract", "hookpoints", "spans", "saes"),
    "aggregate": ("aggregate",),
    "assistant_axis": ("axis",),
    "plot_axis": ("figures",),
    "simulate": ("simulate", "conversations", "spans"),
    "extract_conversation": ("attention", "conversations", "extract_conversation", "hookpoints", "saes", "spans"),
    "block_sums": ("block_sums",),
    "drift_reference": (
        *("axis", "drift/bootstrap", "drift/calibration", "drift/jobs", "drift/reference", "drift/sequential"),
        *("drift/trust", "drift/turns", "drift/types", "stats"),
    ),
    "drift_conversation": (
        *("axis", "drift/analysis", "drift/attribution", "drift/bootstrap", "drift/bundle", "drift/calibration"),
        *("drift/jobs", "drift/overview", "drift/sequential", "drift/tables", "drift/turns", "drift/types"),
    ),
    "plot_drift": (
        *("figures", "drift/canvas", "drift/display", "drift/figures", "drift/heat", "drift/plot"),
        *("drift/token_figure", "drift/trajectory_figure", "drift/trust"),
    ),
    "drift_summary": ("drift/canvas", "drift/display", "drift/overview", "drift/ranking", "stats"),
}


@cache
def code_hash(*stages: str) -> str:
    """Short hash over the modules of one or more stages."""
    digest = hashlib.sha256()
    for module in [module for stage in stages for module in STAGE_MODULES[stage]]:
        source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        digest.update(ast.dump(_without_docstrings(ast.parse(source))).encode())
    return digest.hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree

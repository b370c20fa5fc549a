"""Features in the original's layout: dense float32 arrays and a line of metadata a response."""

import zipfile
from pathlib import Path

import numpy as np

from personascope.errors import UserError
from personascope.formats.features import POOLINGS, iter_features
from personascope.formats.files import atomic_path, iter_jsonl, write_jsonl
from personascope.formats.tables import open_parquet


def export_npz(features: str | Path, responses: str | Path, destination: str | Path) -> tuple[Path, Path]:
    """Write {role}.npz (mean_features, max_features, float32 [n_responses, d_sae]) and {role}.jsonl; returns both.

    One block of rows is dense at a time. UserError where the two files do not describe the same rows.
    """
    file, metadata = open_parquet(features)
    rows = list(iter_jsonl(responses))
    keys = [(row.get("prompt_index"), row.get("question_id")) for row in rows]
    table = file.read(columns=["prompt_index", "question_id"])
    if keys != list(zip(*(table.column(i).to_pylist() for i in range(2)), strict=True)):
        raise UserError(f"{responses}: its rows are not those of {features}; give the responses they were made from")
    role = Path(features).name.removesuffix(".parquet")
    npz, jsonl = Path(destination) / f"{role}.npz", Path(destination) / f"{role}.jsonl"
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), metadata["d_sae"])}
    with atomic_path(npz) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for pooling in POOLINGS:
            with archive.open(f"{pooling}_features.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_2_0(member, header)
                for block in iter_features(features, columns=[pooling]):
                    member.write(block.dense(pooling, metadata["d_sae"]).tobytes())
    without = {"response_token_ids"}
    write_jsonl(jsonl, ({key: value for key, value in row.items() if key not in without} for row in rows))
    return npz, jsonl

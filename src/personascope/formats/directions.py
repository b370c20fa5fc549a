"""Directions in the residual stream on disk: persona vectors, trait vectors, the assistant axis, vectors of others.

Ours are safetensors: a tensor a vector, float32 [d_model] where there is one layer, else [n_layers, d_model], and JSON
under the metadata key `personascope`: model, layers, layer_convention, d_model, kind, and where known weights, dtype,
token_selection and counts. Read as well: axis.npz (`axis` and `pc1`, unit, of each residual layer), per_role.npz of
residual means (each role minus the mean role), and plain tensors of others, whose model and layers the caller states.

A direction of another model or layer is only wrong, never an error that shows: hence nothing is read without metadata.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from personascope import __version__
from personascope.errors import UserError
from personascope.formats.files import atomic_path
from personascope.formats.layers import CONVENTIONS, LAYER_CONVENTION
from personascope.formats.tables import METADATA_KEY, encode_metadata, load_all_npz

KEY = METADATA_KEY.decode()
READING = "response_avg"  # the reading of a trait vector that is used where none is named
AXES = re.compile(r"(diff|pc1)_residual_layer_(\d+)")


@dataclass(frozen=True)
class Directions:
    """vectors: {name: float32 [n_layers, d_model]}; layers: the layer of each row; metadata: see the module."""

    vectors: dict[str, np.ndarray]
    layers: list[int]
    metadata: dict[str, Any]

    @property
    def d_model(self) -> int:
        return next(iter(self.vectors.values())).shape[1]

    def at(self, name: str, layer: int) -> np.ndarray:
        """A vector at a layer, float32 [d_model]; UserError where it is not there."""
        if name not in self.vectors:
            raise UserError(f"{self._where}no direction {name!r}; there are {_few(self.vectors)}")
        if layer not in self.layers:
            raise UserError(f"{self._where}nothing of layer {layer}; there are layers {_few(self.layers)}")
        return self.vectors[name][self.layers.index(layer)]

    def unit(self, name: str, layer: int) -> np.ndarray:
        """The same with norm 1; UserError where its norm is 0."""
        vector = self.at(name, layer)
        norm = float(np.linalg.norm(vector.astype(np.float64)))
        if norm == 0:
            raise UserError(f"{self._where}{name} is zero at layer {layer}, which is no direction")
        return (vector / norm).astype(np.float32)

    @property
    def _where(self) -> str:
        return f"{self.metadata['file']}: " if "file" in self.metadata else ""


def save_directions(path: str | Path, directions: Directions) -> None:
    """Write safetensors, atomically; metadata needs `model` and `kind`, all else that is known is welcome."""
    from safetensors.numpy import save_file

    metadata = {key: value for key, value in directions.metadata.items() if key != "file"}
    if missing := {"model", "kind"} - metadata.keys():
        raise ValueError(f"{path}: metadata lacks {sorted(missing)}")
    metadata |= {"layers": directions.layers, "d_model": directions.d_model, "layer_convention": LAYER_CONVENTION}
    metadata |= {"version": __version__}
    tensors = {}
    for name, vector in directions.vectors.items():
        if vector.shape != (len(directions.layers), directions.d_model):
            raise ValueError(f"{path}: {name} is {vector.shape}, of {len(directions.layers)} layers")
        # safetensors takes the memory as it lies, whatever the strides.
        tensors[name] = np.ascontiguousarray(vector[0] if len(vector) == 1 else vector, dtype=np.float32)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: encode_metadata(metadata).decode()})


def save_pt(path: str | Path, directions: Directions) -> None:
    """Write {name: tensor} for torch.load, atomically: plain float32 tensors [d_model] where there is one layer, else
    [n_layers, d_model]. Such a file says nothing of itself."""
    import torch

    rows = {name: vector[0] if len(vector) == 1 else vector for name, vector in directions.vectors.items()}
    # Into memory first: torch writes a file's name into it, and the same tensors shall be the same bytes.
    content = io.BytesIO()
    torch.save({name: torch.tensor(row, dtype=torch.float32) for name, row in rows.items()}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def load_directions(
    path: str | Path,
    *,
    model: str | None = None,
    layer: int | None = None,
    layer_convention: str | None = None,
    vector: str | None = None,
    sign: int = 1,
) -> Directions:
    """Directions of any file that the module names.

    model, layer, layer_convention: what a file says not of itself; `layer` is that of a vector without layers, or the
    one to keep, in that convention. vector: the one to keep; sign: -1 turns all of them round. UserError where
    something is missing, contradicts the file, or is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    tensors, metadata = _READERS.get(path.suffix, _unknown)(path)
    if metadata is None:
        found = _imported(path, tensors, model, layer, layer_convention)
    else:
        found = _described(path, tensors, metadata, model, layer_convention)
    if vector is not None:
        found = replace(found, vectors={vector: _named(path, found.vectors, vector)})
    if layer is not None:
        kept = layer + CONVENTIONS[layer_convention or "block_output"]
        found = Directions({name: found.at(name, kept)[None] for name in found.vectors}, [kept], found.metadata)
    for name, rows in found.vectors.items():
        if not np.isfinite(rows).all():
            raise UserError(f"{path}: {name} is not finite; make it again")
    return replace(found, vectors={name: np.float32(sign) * rows for name, rows in found.vectors.items()})


def load_direction(name: str, path: str | Path, **how: Any) -> Directions:
    """The one vector that config calls `name` (`axis`, `trait:NAME`, `role:NAME`, or a key of `directions`, whose block
    is `how`), under that name."""
    kind, _, rest = name.partition(":")
    if kind in ("trait", "role") and rest:
        how = {"vector": READING if kind == "trait" else rest} | how
    elif name == "axis":
        how = {"vector": "axis"} | how
    found = load_directions(path, **how)
    if len(found.vectors) > 1:
        raise UserError(f"{path}: has {_few(found.vectors)}; say which by directions.{name}.vector")
    return replace(found, vectors={name: next(iter(found.vectors.values()))})


def check_fit(directions: Directions, model: str, d_model: int, n_layers: int, weights: str | None = None) -> None:
    """UserError where directions are not of this model.

    model: id or folder; models are the same if their weights are (where both are known), else if their last name is.
    """
    known, where = directions.metadata, f"{directions.metadata.get('file', 'directions')}:"
    if known.get("layer_convention") != LAYER_CONVENTION:
        raise UserError(f"{where} its layer convention is {known.get('layer_convention')!r}, ours {LAYER_CONVENTION!r}")
    if directions.d_model != d_model:
        raise UserError(f"{where} {directions.d_model} dimensions, but d_model of {model} is {d_model}")
    if outside := [layer for layer in directions.layers if not 0 <= layer < n_layers]:
        raise UserError(f"{where} layer {outside[0]}: {model} has layers 0 to {n_layers - 1}")
    if weights is not None and known.get("weights") is not None:
        if weights != known["weights"]:
            raise UserError(f"{where} made with other weights ({known['model']}, {known['weights']}) than {model}")
    elif Path(known["model"]).name != Path(model).name:
        raise UserError(f"{where} directions of {known['model']}, not of {model}")


# ---- what each kind of file holds: tensors, and its metadata or None -------------------------------------------------

Tensors = dict[str, np.ndarray]


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
            raw = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable as safetensors of float32 or float16: {error}") from None
    return tensors, None if raw is None else _metadata(path, raw)


def _metadata(path: Path, raw: str) -> dict[str, Any]:
    try:
        metadata = json.loads(raw)
        return metadata | {"layers": [int(layer) for layer in metadata["layers"]]}
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: its metadata is damaged; make it again") from None


def _read_npz(path: Path) -> tuple[Tensors, dict[str, Any] | None]:
    arrays = load_all_npz(path)
    metadata = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    if "features" in arrays and "layers" in arrays and arrays["features"].ndim == 3:
        features = arrays["features"].astype(np.float32)
        names = [str(name) for name in arrays["role_names"]]
        vectors = dict(zip(names, features - features.mean(0), strict=True))
        return vectors, metadata | {"kind": "role", "layers": arrays["layers"].tolist()}
    axes = {(found[1], int(found[2])): array for name, array in arrays.items() if (found := AXES.fullmatch(name))}
    layers = sorted({layer for _, layer in axes})
    if not layers:
        raise UserError(f"{path}: no axis.npz with residual layers, and no role vectors of the residual stream")
    vectors = {
        name: np.stack([axes[method, layer] for layer in layers]) for name, method in (("axis", "diff"), ("pc1", "pc1"))
    }
    return vectors, metadata | {"kind": "axis", "layers": layers}


def _read_pt(path: Path) -> tuple[Tensors, None]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what unpickling raises depends on the file
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path}: not plain tensors, so it is not opened ({reason})") from None
    named = loaded if isinstance(loaded, Mapping) else {path.stem: loaded}
    if not named or not all(isinstance(value, torch.Tensor) for value in named.values()):
        raise UserError(f"{path}: not plain tensors; expected a tensor, or a dict from names to tensors")
    return {str(name): value.detach().to(torch.float32).numpy() for name, value in named.items()}, None


def _unknown(path: Path) -> tuple[Tensors, None]:
    raise UserError(f"{path}: directions are read from {', '.join(_READERS)}")


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt}


# ---- from tensors to directions --------------------------------------------------------------------------------------


def _described(
    path: Path, tensors: Tensors, metadata: dict[str, Any], model: str | None, convention: str | None
) -> Directions:
    """Directions of a file that says what they are."""
    if convention not in (None, "block_output"):
        raise UserError(f"{path}: its layers are outputs of blocks, but layer_convention says {convention}")
    if "model" not in metadata and model is None:
        raise UserError(f"{path}: does not say of which model; make it again, or state the model")
    metadata = {"model": model, "layer_convention": LAYER_CONVENTION} | metadata | {"file": str(path)}
    if model is not None and Path(metadata["model"]).name != Path(model).name:
        raise UserError(f"{path}: directions of {metadata['model']}, not of {model}")
    if metadata["layer_convention"] != LAYER_CONVENTION:
        raise UserError(f"{path}: its layer convention is {metadata['layer_convention']!r}, ours {LAYER_CONVENTION!r}")
    layers = metadata["layers"]
    vectors = {name: _rows(path, name, tensor, len(layers)) for name, tensor in tensors.items()}
    return Directions(_same_width(path, vectors), list(layers), metadata)


def _imported(path: Path, tensors: Tensors, model: str | None, layer: int | None, convention: str | None) -> Directions:
    """Directions of others, by what the caller says of them."""
    stated = {"model": model, "layer_convention": convention}
    if missing := [key for key, value in stated.items() if value is None]:
        raise UserError(f"{path}: has no metadata; state {' and '.join(missing)} of the direction in config")
    assert model is not None and convention is not None
    if convention not in CONVENTIONS:
        raise UserError(f"{path}: layer_convention {convention!r} is none of {', '.join(CONVENTIONS)}")
    shift, depths = (
        CONVENTIONS[convention],
        {1 if t.ndim == 1 else len(t) for t in tensors.values() if t.ndim in (1, 2)},
    )
    if len(depths) > 1:
        raise UserError(f"{path}: its tensors have {_few(sorted(depths))} layers; choose one file a kind")
    depth = depths.pop() if depths else 0
    if depth == 1:
        if layer is None:
            raise UserError(f"{path}: vectors without layers; state layer of the direction in config")
        layers = [layer + shift]
    else:
        layers = list(range(shift, depth + shift))
    vectors = {name: _rows(path, name, tensor, depth) for name, tensor in tensors.items()}
    if layers and layers[0] < 0:  # hidden_states begin with the embeddings, which are no block's output
        vectors, layers = {name: rows[1:] for name, rows in vectors.items()}, layers[1:]
    if not layers:
        raise UserError(f"{path}: layer 0 of hidden_states is the embeddings, which are no output of a block")
    metadata = {"model": model, "layer_convention": LAYER_CONVENTION, "kind": "imported", "layers": layers}
    return Directions(_same_width(path, vectors), layers, metadata | {"file": str(path)})


def _rows(path: Path, name: str, tensor: np.ndarray, depth: int) -> np.ndarray:
    """A tensor [d] or [n_layers, d] as float32 [n_layers, d]."""
    rows = tensor[None] if tensor.ndim == 1 else tensor
    if rows.ndim != 2 or len(rows) != depth or not rows.shape[1]:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {depth} layers of a width")
    return rows.astype(np.float32)


def _same_width(path: Path, vectors: Tensors) -> Tensors:
    widths = {rows.shape[1] for rows in vectors.values()}
    if len(widths) != 1:
        raise UserError(f"{path}: vectors of {_few(sorted(widths)) or 'no'} dimensions; one width is needed")
    return vectors


def _named(path: Path, vectors: Tensors, name: str) -> np.ndarray:
    if name not in vectors:
        raise UserError(f"{path}: no direction {name!r}; there are {_few(vectors)}")
    return vectors[name]


def _few(names: Any) -> str:
    """The first names of many."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")

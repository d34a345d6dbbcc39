"""Inference checkpoints in the method's own storage format: weights as packed codes, the rest in float.

A file holds one array per tensor (see :mod:`qbench.nn.archive`). ``header`` is JSON and says what each one is. The
codes of a weight are one array of bytes, laid out as :class:`qbench.nn.packing.Packing` says; their scale, zero point
and table are arrays of their own, ``NAME/scale`` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qbench.errors import InputError
from qbench.nn.archive import UNREADABLE, read_arrays, write_arrays
from qbench.nn.convert import Converted
from qbench.nn.layers import QuantizedLayer
from qbench.nn.packing import full_packing, narrow_packing, packing_of
from qbench.quant.qtensor import QTensor

FORMAT, VERSION = "qbench inference checkpoint", 1
HEADER = "header"
PARTS = ("scale", "zero_point", "table")
"""What belongs to codes, besides the codes: fields of :class:`QTensor`."""

Contents = Mapping[str, Tensor | QTensor]


@dataclass(frozen=True)
class Entry:
    """What one tensor is: shape and type of its values or codes, the format of codes as text, the shapes of what
    belongs to them."""

    shape: list[int]
    dtype: str
    format: str
    parts: dict[str, list[int]]

    def __str__(self) -> str:
        return f"{self.format or self.dtype} {self.shape}"


def save_checkpoint(converted: Converted, path: Path | str) -> None:
    """Write what evaluation needs, in about ``converted.model_bytes()`` bytes: the weights as evaluation reads them,
    all other parameters, and the floating-point buffers.

    The file is there whole or not at all. Raises InputError where it cannot be written.
    """
    contents = contents_of(converted)
    arrays: dict[str, np.ndarray] = {}
    bits: dict[str, int] = {}
    for name, value in contents.items():
        if isinstance(value, Tensor):
            arrays[name] = _to_array(value)
            continue
        codes = value.codes
        if not codes.is_floating_point():
            packing = packing_of(value.format, codes)
            bits[name], codes = packing.bits, packing.pack(codes)
        arrays[name] = _to_array(codes)
        arrays.update({f"{name}/{part}": _to_array(tensor) for part, tensor in _parts(value).items()})
    entries = {name: asdict(entry_of(value)) for name, value in contents.items()}
    header = {"format": FORMAT, "version": VERSION, "entries": entries, "bits": bits}
    text = json.dumps(header, separators=(",", ":")).encode()
    try:
        write_arrays(Path(path), {HEADER: np.frombuffer(text, np.uint8), **arrays})
    except OSError as error:
        raise InputError(f"cannot write the checkpoint {path}: {error.strerror}") from error


def load_checkpoint(converted: Converted, path: Path | str) -> None:
    """Make ``converted``, built from the same model and recipe, evaluate as the model that was saved, bit for bit.

    Quantised weights become their codes, those of up to 4 bits kept packed: the model can be evaluated, not trained.
    Raises InputError for a file that is missing, damaged, no checkpoint, or of another model or recipe; ``converted``
    is then as it was.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
        entries, bits = _parse(arrays)
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path} is not a readable inference checkpoint: {reason}") from error
    contents = contents_of(converted)
    _require_same(path, entries, {name: entry_of(value) for name, value in contents.items()})
    try:
        loaded = {name: _restored(name, value, arrays, bits) for name, value in contents.items()}
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is not a complete inference checkpoint: {error}") from error
    _assign(converted, loaded)


def contents_of(converted: Converted) -> dict[str, Tensor | QTensor]:
    """What evaluation reads, by the names of the model's state dict."""
    model = converted.model
    training = [module for module in model.modules() if module.training]
    layers = _layers(converted)
    model.eval()
    try:
        contents: dict[str, Tensor | QTensor] = {name: _evaluated(layer) for name, layer in layers.items()}
    finally:
        for module in training:  # some may have been in evaluation mode before
            module.training = True
    held = {id(tensor) for layer in layers.values() for tensor in (layer.weight, *layer.weight_buffers())}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if id(tensor) not in held and tensor.is_floating_point():
            contents[name] = tensor.detach()
    return contents


def entry_of(value: Tensor | QTensor) -> Entry:
    """The entry of a tensor in the header."""
    if isinstance(value, Tensor):
        return Entry(list(value.shape), _name(value.dtype), "", {})
    parts = {part: list(tensor.shape) for part, tensor in _parts(value).items()}
    return Entry(list(value.codes.shape), _name(value.codes.dtype), str(value.format), parts)


def _layers(converted: Converted) -> dict[str, QuantizedLayer]:
    return {f"{name}.weight": layer for name, layer in converted.layers() if isinstance(layer, QuantizedLayer)}


def _evaluated(layer: QuantizedLayer) -> Tensor | QTensor:
    """The weight that evaluation starts from: an ensemble's members are drawn from the float weight."""
    if layer.weight_site is None or layer.inference_weight != "quantized":
        master = layer.master
        return layer.weight.detach() if master is None else master.dequantize()
    return layer.encode_weight()


def _parts(value: QTensor) -> dict[str, Tensor]:
    return {part: tensor for part in PARTS if (tensor := getattr(value, part)) is not None}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _to_array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _parse(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Entry], dict[str, int]]:
    """Entries and bits of packed codes from the header; raises ValueError."""
    try:
        header = json.loads(arrays[HEADER].tobytes())
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is a {header['format']!r} of version {header['version']!r}")
        return {name: Entry(**fields) for name, fields in header["entries"].items()}, dict(header["bits"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it has no header of a checkpoint") from error


def _require_same(path: Path, there: Mapping[str, Entry], here: Mapping[str, Entry]) -> None:
    for name in [*here, *there]:
        if name not in there:
            raise InputError(f"{path} is of another model: it has no {name}")
        if name not in here:
            raise InputError(f"{path} is of another model: this one has no {name}")
        if there[name] != here[name]:
            raise InputError(f"{path} is of another model or recipe: {name} is {there[name]} there, {here[name]} here")


def _restored(
    name: str, like: Tensor | QTensor, arrays: Mapping[str, np.ndarray], bits: Mapping[str, int]
) -> Tensor | QTensor:
    """The loaded value, in the form of ``like``. Raises KeyError or ValueError for arrays that do not fit."""
    if isinstance(like, Tensor):
        return _to_tensor(name, arrays, like)
    if like.codes.is_floating_point():
        codes = _to_tensor(name, arrays, like.codes)
    else:
        packings = [narrow_packing(like.format, like.codes.dtype), full_packing(like.codes.dtype)]
        packing = next((p for p in packings if p.bits == bits[name]), None)
        if packing is None:
            raise ValueError(f"codes of {name} do not take {bits[name]} bits")
        packed = _to_tensor(name, arrays, torch.empty(packing.num_bytes(like.codes.shape), dtype=torch.uint8))
        codes = packing.unpack(packed, like.codes.shape, like.codes.dtype).to(like.codes.device)
    parts = {part: _to_tensor(f"{name}/{part}", arrays, tensor) for part, tensor in _parts(like).items()}
    return QTensor(codes, parts.get("scale"), parts.get("zero_point"), like.format, parts.get("table"))


def _to_tensor(name: str, arrays: Mapping[str, np.ndarray], like: Tensor) -> Tensor:
    tensor = torch.from_numpy(arrays[name].copy())
    if like.dtype == torch.bfloat16 and tensor.dtype == torch.int16:
        tensor = tensor.view(torch.bfloat16)
    if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{name} is {_name(tensor.dtype)} {list(tensor.shape)}")
    return tensor.to(like.device)


@torch.no_grad()
def _assign(converted: Converted, loaded: Contents) -> None:
    layers = _layers(converted)
    own = dict([*converted.model.named_parameters(), *converted.model.named_buffers()])
    for name, value in loaded.items():
        if isinstance(value, QTensor):
            layers[name].freeze(value)
        elif name in layers:
            layers[name].release(value)
        else:
            own[name].copy_(value)

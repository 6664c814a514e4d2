"""What the converters of other libraries do to numbers, for `exact_labels.py`.

Where a library lets a step of its converter be called with tensors alone, that step runs; else its arithmetic is
written out after the source that is named. All models here have four heads, and two for keys and values where these
have fewer rows than the queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from itertools import takewhile
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from tiny_models import model_class
from torch import Tensor

from treealign.dialects.lint_checks.registered_models import build

HEADS = 4
Keys = Sequence[str]
Shapes = dict[str, tuple[int, ...]]
Convert = Callable[[list[Tensor], Keys, Keys, Shapes], Sequence[Tensor]]  # tensors, their keys, those asked for


class Converter(NamedTuple):
    """Which cases were made by a converter, what it does, and whether it leads from the checkpoint to the model."""

    cases: str
    run: Convert
    to_model: bool = True


def _each(step: Callable[[Tensor], Tensor]) -> Convert:
    return lambda tensors, _keys, _to, _shapes: [step(tensor) for tensor in tensors]


# -- rotary rows


def _interleaved(rows: Tensor, size: int, rotated: int | None = None) -> Tensor:
    """Rows from halves to pairs, head by head; only the first `rotated` of each head if given."""
    heads = rows.reshape(-1, size, *rows.shape[1:])
    turned = heads[:, : rotated or size]
    pairs = turned.reshape(len(heads), 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(turned.shape)
    return torch.cat([pairs, heads[:, rotated or size :]], 1).reshape(rows.shape)


def _meta(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """Queries and keys as Meta's Llama has them: transformers' convert_llama_weights_to_hf.py, the other way round.

    So too convert_mistral_weights_to_hf.py, convert_mixtral_weights_to_hf.py, llama.cpp's convert_hf_to_gguf.py
    (LlamaModel.permute) and fairseq2 0.8.1 (models/llama/interop.py).
    """
    return [_interleaved(tensor, _size_of(tensor, shapes)) for tensor in tensors]


def _size_of(tensor: Tensor, shapes: Shapes) -> int:
    """The size of a head of queries or of keys: a norm of these has it, else it is a fourth of the width."""
    return tensor.shape[0] if tensor.dim() == 1 else tensor.shape[1] // HEADS


def _fms(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes, library: str = "llama") -> list[Tensor]:
    """ibm-fms 1.13.1, fms/models/llama.py, or bamba.py, which rotates half of each head; parts are fused after it."""
    turn = import_module(f"fms.models.{library}")._hf_to_fms_rope
    size = tensors[0].shape[0] if tensors[0].dim() == 1 else tensors[0].shape[1] // HEADS
    config = SimpleNamespace(emb_dim=HEADS * size, nheads=HEADS, linear_config=None)
    letters = {"q_": "query", "k_": "key", "v_": "value"}
    parts = [next(part for letter, part in letters.items() if letter in key) for key in keys]
    names = [f"base_model.layers.0.attn.in_proj.{part}.weight" for part in parts]
    turned = turn(dict(zip(names, tensors, strict=True)), config)
    whole = [turned[name] for name in names]
    return [torch.cat(whole)] if len(whole) > 1 else whole


def _torchtune(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """torchtune 0.6.1, models/convert_weights.py; so too the converters of its Gemma 2 and Llama 3.2 Vision."""
    from torchtune.models.convert_weights import hf_to_tune

    made = []
    for tensor, key in zip(tensors, keys, strict=True):
        name = f"model.layers.0.self_attn.{'q' if 'q_proj' in key else 'k'}_proj.weight"
        width = tensor.shape[1]
        made += hf_to_tune({name: tensor}, HEADS, HEADS // 2, width, width // HEADS).values()
    return made


def _torchtune_lora(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """torchtune 0.6.1, tune_to_peft_adapter_weights."""
    from torchtune.models.convert_weights import tune_to_peft_adapter_weights

    name, rows = "layers.0.attn.q_proj.lora_b.weight", tensors[0].shape[0]
    return list(tune_to_peft_adapter_weights({name: tensors[0]}, HEADS, HEADS // 2, rows).values())


def _mimi(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformers 4.46 models/mimi/convert_mimi_checkpoint_to_pytorch.py, the other way round: q, k, v to one."""
    q, k, v = tensors
    size = q.shape[1] // HEADS
    return [torch.cat([_interleaved(q, size), _interleaved(k, size), v])]


# -- fused tensors whose rows stand by head, or by group of heads


def _by_group(parts: Sequence[Tensor], groups: int) -> list[Tensor]:
    """The heads of q, k and v group by group: megatron-bridge's merge_qkv_weights, NeMo's and InternLM2's layout."""
    return [torch.cat([row for rows in zip(*(part.chunk(groups) for part in parts), strict=True) for row in rows])]


def _mcore(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """megatron-bridge 0.3.1, conversion/param_mapping.py: q, k and v to one, a group of heads after the other."""
    return _by_group(tensors, HEADS * tensors[1].shape[0] // tensors[0].shape[0])


def _litgpt(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """litgpt 0.5.13, scripts/convert_hf_checkpoint.py, qkv_reassemble: by group of heads to by part."""
    from litgpt.scripts.convert_hf_checkpoint import qkv_reassemble

    (tensor,) = tensors
    groups = 2 if tensor.dim() > 1 and tensor.shape[0] == 2 * tensor.shape[1] else HEADS
    size = tensor.shape[0] // (HEADS + 2 * groups)
    return [qkv_reassemble(tensor, SimpleNamespace(n_head=HEADS, n_query_groups=groups, head_size=size))]


def _gguf_fused(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """llama.cpp's convert_hf_to_gguf.py for GPT-NeoX, BLOOM and Falcon-40B: by group of heads to by part."""
    return [_by_part(tensors[0])]


def _by_part(fused: Tensor) -> Tensor:
    groups = 2 if fused.dim() > 1 and fused.shape[0] == 2 * fused.shape[1] else HEADS
    size = fused.shape[0] // (HEADS + 2 * groups)
    split = [chunk.split([HEADS // groups * size, size, size]) for chunk in fused.chunk(groups)]
    return torch.cat([rows for part in zip(*split, strict=True) for rows in part])


def _megatron_gpt2(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformers' convert_megatron_gpt2_checkpoint.py, version 3: by head to by part, a matrix turned after it."""
    fused = _by_part(tensors[0])
    return [fused.T if fused.dim() > 1 else fused]


# -- heads as a dimension


def _heads(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rows `(n h) m` to `n m h`, and of a bias to `n h`."""
    if matrix.dim() == 1:
        return matrix.reshape(shape)
    return matrix.reshape(shape[0], shape[2], shape[1]).permute(0, 2, 1)


def _transformer_lens(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformer-lens 2.15.4, pretrained/weight_conversions: projections of one layer of their own."""
    if to[0].endswith("W_O"):
        return [tensors[0].T.reshape(shapes[to[0]])]
    return [_heads(tensor, shapes[key]) for tensor, key in zip(tensors, to, strict=True)]


def _lens_gpt2(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformer-lens 2.15.4, convert_gpt2_weights: columns by part."""
    if len(to) == 1:
        return [tensors[0].reshape(shapes[to[0]])]
    parts = (tensors[0].T if tensors[0].dim() > 1 else tensors[0]).chunk(3)
    return [_heads(part, shapes[key]) for part, key in zip(parts, to, strict=True)]


def _lens_by_head(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformer-lens 2.15.4, convert_neox_weights and convert_bloom_weights: rows by head."""
    if len(to) == 1:
        return _transformer_lens(tensors, keys, to, shapes)
    parts = _by_part(tensors[0]).chunk(3)
    return [_heads(part, shapes[key]) for part, key in zip(parts, to, strict=True)]


def _lens_phi3(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformer-lens 2.15.4, convert_phi3_weights: q, k, v by part; the gate first, both turned."""
    if len(to) == 1:
        return _transformer_lens(tensors, keys, to, shapes)
    parts = tensors[0].chunk(len(to))
    return [p.T if len(to) == 2 else _heads(p, shapes[key]) for p, key in zip(parts, to, strict=True)]


def _keras_gpt2(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """keras-hub 0.32.0, src/utils/transformers/convert_gpt2.py: columns by part."""
    parts = tensors[0].chunk(len(to), -1)
    return [part.reshape(shapes[key]) for part, key in zip(parts, to, strict=True)]


def _keras(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """keras-hub 0.32.0, src/utils/transformers/convert_*.py, transpose_and_reshape."""
    return [tensors[0].T.reshape(shapes[to[0]])]


def _keras_gemma(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """keras-hub 0.32.0, src/utils/transformers/convert_gemma.py."""
    if "o_proj" in keys[0]:
        n, h, m = shapes[to[0]]
        return [tensors[0].reshape(m, n, h).permute(1, 2, 0)]
    return [_heads(tensors[0], shapes[to[0]])]


# -- others


def _transformers(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes, of: str) -> list[Tensor]:
    """transformers' own `revert_weight_conversion`, by which the checkpoints of this corpus were made."""
    from transformers.core_model_loading import revert_weight_conversion

    made = revert_weight_conversion(_model(of), dict(zip(keys, tensors, strict=True)))
    ends = {key: max(made, key=lambda name: _same_end(name, key)) for key in to}
    if len(set(ends.values())) != len(made):  # another release may write other levels in front
        raise ValueError(f"{list(made)} for {to}")
    return [made[ends[key]] for key in to]


def _same_end(a: str, b: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b), strict=False)))


@cache
def _model(of: str) -> Any:
    """A class of transformers, by its default config, on the meta device."""
    return build(model_class(of))


def _stacked(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """torchtitan 0.3.0, models/utils.py: experts, one below the other, each the same list of one tensor."""
    return [torch.stack(tensors)]


def _recurrent_gemma(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformers 4.46 models/recurrent_gemma/convert_recurrent_gemma_to_hf.py: the gate first, both turned."""
    if "conv_1d" in keys[0]:
        return [tensors[0].T[:, None]]
    return [half.T if tensors[0].dim() == 3 else half.flatten() for half in tensors[0]]


def _flax(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformers 4.46 modeling_flax_pytorch_utils.py: kernels, the window first, then inputs, then outputs."""
    (x,) = tensors
    return [x.permute(3, 2, 0, 1) if x.dim() == 4 else x.permute(2, 1, 0)]


def _swin(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """mmseg 1.2.2 tools/model_converters/swin2mmseg.py: how the four neighbours of a patch stand in a row."""
    (x,) = tensors
    four = x.reshape(*x.shape[:-1], 4, x.shape[-1] // 4)[..., [0, 2, 1, 3], :]
    return [four.transpose(-1, -2).reshape(x.shape)]


def _swapped(x: Tensor) -> Tensor:
    """diffusers 0.42.1 loaders/single_file_utils.py, swap_scale_shift."""
    shift, scale = x.chunk(2)
    return torch.cat([scale, shift])


def _slim(tensors: list[Tensor], keys: Keys, to: Keys, shapes: Shapes) -> list[Tensor]:
    """transformers' convert_original_tf_checkpoint_to_pytorch.py of MobileNet V1 and V2."""
    (x,) = tensors
    if "depthwise_weights" in keys[0]:
        return [x.permute(2, 3, 0, 1)]
    return [x[0, 0].T if len(shapes[to[0]]) == 2 else x.permute(3, 2, 0, 1)]


CONVERTERS = (
    Converter(r"/hf__gguf_gptneox$", _gguf_fused),
    Converter(r"/gguf_(gptneox|bloom|falcon40b)__hf$", _gguf_fused, to_model=False),
    Converter(r"/hf__(gguf|mistral)_|/llama_hf__fairseq2$", _meta),
    Converter(r"/(gguf_|mistral_inf|mixtral_con|llama_fairseq2|fairseq2__llama)", _meta, to_model=False),
    Converter(r"_hf__torchtune$", _torchtune),
    Converter(r"/torchtune__", _torchtune, to_model=False),
    Converter(r"/lora_torchtune__peft", _torchtune_lora),
    Converter(r"/peft__lora_torchtune", _torchtune_lora, to_model=False),
    Converter(r"/bamba_hf__fms", partial(_fms, library="bamba")),
    Converter(r"/fms__bamba_hf", partial(_fms, library="bamba"), to_model=False),
    Converter(r"_hf__fms", _fms),
    Converter(r"/fms\w*__", _fms, to_model=False),
    Converter(r"hf__litgpt$", _litgpt),
    Converter(r"/litgpt__", _litgpt, to_model=False),
    Converter(r"/hf__mcore_", _mcore),
    Converter(r"/(mcore_|internlm2_remote|llama_nemo|megatron_core)", _mcore, to_model=False),
    Converter(r"/gpt2_megatron__hf", _megatron_gpt2),
    Converter(r"/hf__mimi_moshi", _mimi),
    Converter(r"/mimi_moshi__hf", _mimi, to_model=False),
    Converter(r"/gpt2_hf__tl", _lens_gpt2),
    Converter(r"/tl__gpt2_hf", _lens_gpt2, to_model=False),
    Converter(r"/(neox|bloom)_hf__tl", _lens_by_head),
    Converter(r"/tl__(neox|bloom)_hf", _lens_by_head, to_model=False),
    Converter(r"/phi3_hf__tl", _lens_phi3),
    Converter(r"/tl__phi3_hf", _lens_phi3, to_model=False),
    Converter(r"_hf__tl$", _transformer_lens),
    Converter(r"/tl__", _transformer_lens, to_model=False),
    Converter(r"/gpt2_hf__keras", _keras_gpt2),
    Converter(r"/keras__gpt2_hf", _keras_gpt2, to_model=False),
    Converter(r"/gemma_hf__keras", _keras_gemma),
    Converter(r"/keras__gemma_hf", _keras_gemma, to_model=False),
    Converter(r"_hf__keras", _keras),
    Converter(r"/keras__", _keras, to_model=False),
    Converter(r"_flax__pt", _flax),
    Converter(r"/pt__\w+_flax", _flax, to_model=False),
    Converter(r"_hf__titan", _stacked),
    Converter(r"/titan__", _stacked, to_model=False),
    Converter(r"/recurrentgemma_google__hf", _recurrent_gemma),
    Converter(r"/hf__recurrentgemma_google", _recurrent_gemma, to_model=False),
    Converter(r"/swin_timm06__mm", _swin),
    Converter(r"/flux_\w+_bfl__diffusers", _each(_swapped)),
    Converter(r"/mobilenetv\d_tf__hf", _slim),
)


def converter_of(case: str) -> Converter | None:
    """The converter that made a case, which is `corpus/name`; None where none is known."""
    if hit := re.match(r"transformers/\w+/(\w+)", case):
        return Converter(case, partial(_transformers, of=hit[1]), to_model=False)
    return next((converter for converter in CONVERTERS if re.search(converter.cases, case)), None)

"""The probe at hand for language models: how well the model foretells a text, by the tokenizer of its own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from treealign.errors import TreealignError, install_hint
from treealign.run.importing import named_object

TOKENS = 512  # of the text
EVERY = 7  # token of a masked model is hidden
_NAMES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def probe_of(probe: Any, checkpoint: Any, model: Any) -> Callable[[Any], Any]:
    """A probe from one, from ``"text"``, or from the name of one, ``package.module:function``.

    Raises
    ------
    TreealignError
        It names nothing that can be called, or there is no tokenizer for the text.
    """
    if probe == "text":
        folders = [checkpoint, getattr(getattr(model, "config", None), "_name_or_path", "")]
        return text_probe(_tokenizer([one for one in folders if isinstance(one, str | os.PathLike) and str(one)]))
    found = named_object(probe) if isinstance(probe, str) else probe
    if not callable(found):
        hint = 'a probe is a callable that takes the model, its name package.module:function, or "text"'
        raise TreealignError(f"the probe is {type(found).__name__}, which cannot be called", hint=hint)
    return found  # type: ignore[no-any-return]  # whatever the user calls


def text_probe(tokenizer: Any) -> Callable[[Any], float]:
    """What scores a causal or masked language model: minus its loss on a paragraph in several languages.

    Parameters
    ----------
    tokenizer : object
        As transformers has them: called with a text it gives `input_ids`.
    """
    text = files("treealign.run").joinpath("text.txt").read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer(text)["input_ids"][:TOKENS])[None]
    mask = getattr(tokenizer, "mask_token_id", None)

    def text_loss(model: Any) -> float:
        device = next(model.parameters()).device
        with torch.no_grad():
            return -float(_loss(model, ids.to(device), mask))

    return text_loss


def _loss(model: Any, ids: torch.Tensor, mask: int | None) -> torch.Tensor:
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    ids = ids[:, : most if isinstance(most, int) and most > 0 else None]
    hidden = "MaskedLM" in type(model).__name__ or "ForPreTraining" in type(model).__name__
    given, wanted = ids, ids[:, 1:]
    if hidden and mask is not None:
        place = torch.arange(ids.shape[1], device=ids.device) % EVERY == EVERY // 2
        given, wanted = torch.where(place, mask, ids), ids[:, place]
        logits = _logits(model(given))[:, place]
    else:
        logits = _logits(model(given))[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())


def _logits(result: Any) -> torch.Tensor:
    for name in ("logits", "prediction_logits"):
        found = result.get(name) if isinstance(result, dict) else getattr(result, name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]  # a tensor, as models return it
    first: torch.Tensor = result[0] if isinstance(result, tuple | list) else result
    return first


def _tokenizer(folders: Iterable[str | os.PathLike[str]]) -> Any:
    """The tokenizer of the first folder that has one."""
    places = [path if path.is_dir() else path.parent for path in map(Path, folders)]
    found = next((place for place in places if any((place / name).is_file() for name in _NAMES)), None)
    if found is None:
        raise TreealignError(
            "no tokenizer to read the text with",
            facts=[f"looked in {place}" for place in places],
            hint="put the tokenizer's files beside the checkpoint, or name a function, package.module:function",
        )
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        hint = install_hint("transformers")
        raise TreealignError("transformers reads the tokenizer, and is not installed", hint=hint) from error
    try:
        return transformers.AutoTokenizer.from_pretrained(found, local_files_only=True)
    except Exception as error:
        facts = [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
        raise TreealignError("the tokenizer cannot be read", where=str(found), facts=facts) from error

"""Proof by running, for the user: the original beside the model, or recorded where it runs."""

from __future__ import annotations

from os import PathLike
from typing import Any

from treealign.errors import TreealignError
from treealign.loading import load
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import as_mapping
from treealign.run.results import Proof
from treealign.suggestion import suggest

__all__ = ["Proof", "prove", "record", "verify"]


def prove(original: Any, model: Any, mapping: Any = None, run: Any = None, inputs: Any = None, seed: int = 0) -> Proof:
    """Prove, or refute, that a model under a mapping computes what the original computes.

    Copies of both are given the same distinct random values, in double precision and in eval mode; what the two return
    for the same inputs must be equal. Which keys the outputs depend on is found by giving them other values.

    Parameters
    ----------
    original, model : nn.Module
        Two live modules; neither is changed. What is in their parameters does not matter.
    mapping : ConversionMapping, transforms or path of a JSON, optional
        From the original's keys to the model's. By default what `suggest` makes of the two, guesses included.
    run : callable or pair of callables, optional
        ``run(module)`` returns a tensor or several; of a pair the first is for the original. One that takes a second
        argument is given the inputs. By default the modules are called.
    inputs : tensor, tuple or mapping, or a pair of tuples or mappings, optional
        What to call them with. By default what a transformers model names itself. Floats are cast as the module is.
    seed : int
        Of the values, and of what the code draws by chance.

    Returns
    -------
    Proof
        `proved`, `difference`, and a verdict for each key of the model.

    Raises
    ------
    TreealignError
        There is nothing to run; a run fails; two runs of one side differ; the two return different numbers of tensors,
        or tensors of unlike shapes.

    Examples
    --------
    >>> import torch
    >>> from treealign import PrefixChange, prove
    >>> layer, model = torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.Linear(2, 3))
    >>> proof = prove(layer, model, [PrefixChange(add="0")], inputs=torch.ones(1, 2))
    >>> proof.proved, proof.verdicts["0.bias"]
    (True, 'proved')
    """
    from treealign.run.proving import prove_pair

    check_arguments("prove", original, model, mapping)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TreealignError(f"seed is {seed!r}", hint="it is an integer")
    chosen = suggest(original, model).mapping if mapping is None else as_mapping(mapping)
    return prove_pair(original, model, chosen, run, inputs, seed)


def verify(
    model: Any, reference: Any, checkpoint: Any = None, mapping: Any = None, run: Any = None, inputs: Any = None
) -> Proof:
    """Prove, or refute, that a model with its weights in it computes what was recorded of the original.

    After `load` this says that the load is right; with a checkpoint, that what `save` or `convert_checkpoint` wrote is:
    a copy of the model is loaded from it first.

    Parameters
    ----------
    model : nn.Module
        It is not changed; a copy is run in double precision and in eval mode.
    reference : path
        What `record` wrote beside the checkpoint's own weights, or a dict of `inputs` and `outputs` that somebody saved
        with ``torch.save``; of outputs a slice is enough, and then it speaks of what this depends on.
    checkpoint : path, optional
        Loaded into the copy, strictly.
    mapping : ConversionMapping, transforms or path of a JSON, optional
        What to load it by; see `treealign.load`.
    run : callable, optional
        ``run(module)`` returns a tensor or several. By default the module is called with the recorded inputs.
    inputs : optional
        Other inputs than those recorded.

    Returns
    -------
    Proof
        `proved`, `difference`, and a verdict for each key of the model.

    Raises
    ------
    TreealignError
        The file holds no outputs; the checkpoint does not load whole; the model cannot be run, or gives something else
        each time.

    Examples
    --------
    >>> import tempfile, torch
    >>> from treealign import record, verify
    >>> original, model = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(original, None, f"{folder}/run.pt", inputs=torch.ones(1, 2))
    ...     before = verify(model, f"{folder}/run.pt").proved
    ...     _ = model.load_state_dict(original.state_dict())
    ...     before, verify(model, f"{folder}/run.pt").proved
    (False, True)
    """
    from treealign.run.copying import copied
    from treealign.run.preparing import verdict_by_reference

    check_arguments("verify", model, reference, checkpoint)
    filled = copied(model, "model")
    if checkpoint is not None:
        load(filled, checkpoint, mapping)
    return verdict_by_reference(filled, reference, run, inputs)


def record(original: Any, run: Any, file: str | PathLike[str], *, inputs: Any = None, seed: int = 0) -> None:
    """Record what the original computes, to be given elsewhere as ``suggest(…, original=file)`` or ``reference=file``.

    A copy is run twice: with its own weights, which is what `reference` compares a checkpoint with, and with random
    ones, which are written too and which `original` compares the model with. Where treealign cannot be installed beside
    the original, ``treealign/run/recorder.py`` alone does the same: it needs nothing but torch.

    Parameters
    ----------
    original : nn.Module, factory or "package.module:factory"
        The original, with the weights of its checkpoint in it; it is not changed.
    run : callable, "package.module:function", or None
        ``run(module)`` returns a tensor or several. None: the module is called with the inputs.
    file : path
        What to write; read by ``torch.load`` without running code.
    inputs : optional
        As in `prove`. Those that the module is called with are written in any case.
    seed : int
        Of the random weights.

    Raises
    ------
    TreealignError
        The run fails, or gives something else each time.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from treealign import record, suggest
    >>> original, model = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(original, None, f"{folder}/run.pt", inputs=torch.ones(1, 2))
    ...     print(suggest(original.state_dict(), model, original=f"{folder}/run.pt").ran.proved)
    True
    """
    import torch

    from treealign.run.calling import runners
    from treealign.run.copying import copied
    from treealign.run.importing import module_of
    from treealign.run.recorder import recording

    module = copied(module_of(original), "original")
    call = runners(run, inputs, module, module)[0]
    try:
        made = recording(module, call, seed)
    except TreealignError:
        raise
    except Exception as error:
        facts = [f"{type(error).__name__}: {error}"]
        raise TreealignError(
            "the original cannot be recorded", facts=facts, hint="does the run work by itself?"
        ) from error
    torch.save(made, file)

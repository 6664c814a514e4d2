"""What a MODEL on the command line may be, and the tree it stands for.

Whatever `read_tree` takes; `transformers:<model type, or folder or URL of a config>[:ClassName]`, built without weights
from its config, and no code is downloaded; `package.module:factory`, which runs the user's code.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from treealign.cli.console import say, size
from treealign.errors import TreealignError, install_hint, look_alikes
from treealign.formats.remote.urls import is_url
from treealign.tree.keytree import KeyTree

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FORMS = "a checkpoint, a tree JSON, transformers:<model type or config folder>, or package.module:factory"


def resolve_model(text: str, trace: bool = False) -> KeyTree:
    """The tree of a MODEL argument; with `trace` the model is run once on the meta device, if it can be.

    Raises
    ------
    TreealignError
        If it names nothing that can be read or built.
    """
    from treealign.tree.reading import read_tree

    made = resolve_module(text)
    tree = made if isinstance(made, KeyTree) else read_tree(made, example_inputs=trace or None)
    if trace and (tree.trace is None or tree.trace.problem):
        say(f"not traced: {'a file cannot be run' if tree.trace is None else tree.trace.problem}")
    return tree


def absent_shards(text: str) -> tuple[str, ...]:
    """The shards that are not there, of an index that stands for its names alone; none of anything else."""
    from treealign.formats.detect import Kind, detect
    from treealign.formats.indexes import read_index

    if not Path(text).is_file() or detect(text) is not Kind.INDEX:
        return ()
    return read_index(text).absent()


def resolve_module(text: str) -> Any:
    """The model of a MODEL argument, without weights; of a file, its tree.

    Raises
    ------
    TreealignError
        If it names nothing that can be read or built.
    """
    from treealign.tree.reading import read_tree

    if text.startswith("transformers:"):
        return _transformers_model(text)
    if not Path(text).exists() and _FACTORY.fullmatch(text):
        return _factory_model(text)
    return read_tree(text)


def resolve_weights(text: str) -> Any:
    """What a MODEL argument names, with its weights: a path, or what the user's code makes, in memory.

    Raises
    ------
    TreealignError
        If it has no weights, or names nothing that can be read or built.
    """
    if text.startswith("transformers:"):
        hint = "name a checkpoint, or package.module:factory for a function that loads the model"
        raise TreealignError("a model built from its config has no weights to compare", where=text, hint=hint)
    if not Path(text).exists() and _FACTORY.fullmatch(text):
        return _factory_model(text, weights=True)
    return text


def resolve_live(text: str) -> Any:
    """The model of a MODEL argument in memory, to be run; what its weights are does not matter.

    Raises
    ------
    TreealignError
        It is a file, which cannot be run, or names nothing that can be built.
    """
    if text.startswith("transformers:"):
        return _transformers_model(text, weights=True)
    if not Path(text).exists() and _FACTORY.fullmatch(text):
        return _factory_model(text, weights=True)
    hint = "name transformers:<model type or config folder>, or package.module:factory"
    raise TreealignError("a file cannot be run", where=text, hint=hint)


def _transformers_model(text: str, weights: bool = False) -> Any:
    """The model of a config, on the meta device: modules and shapes, no weights; in memory where these are wanted."""
    name, class_name = _config_and_class(text.removeprefix("transformers:"))
    try:
        transformers: Any = import_module("transformers")
    except ImportError as error:
        raise TreealignError("transformers is not installed", where=text, hint=install_hint("transformers")) from error
    transformers.logging.set_verbosity_error()
    config = _config(transformers, name, text)
    model_class = _model_class(transformers, config, class_name, text)
    own = _own_config(config, model_class)
    if weights:
        held = _bytes_of(_on_meta(lambda: model_class(own), text))
        say(f"building {model_class.__name__} from its config, in memory: {size(held)}")
        _refuse_more_than_memory(held, text)
        return _in_memory(lambda: model_class(own), text)
    say(f"building {model_class.__name__} from its config, without weights")
    return _on_meta(lambda: model_class(own), text)


def _bytes_of(module: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _refuse_more_than_memory(held: int, text: str) -> None:
    """Refuse what the system would end this program for, without a word.

    Raises
    ------
    TreealignError
        The weights alone are larger than the memory of this machine.
    """
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else held
    if held > there:
        hint = "name the folder of a config with two layers: what is settled there holds for all repeats"
        facts = [f"its weights take {size(held)}, this machine has {size(there)}"]
        raise TreealignError("the model does not fit into memory", where=text, facts=facts, hint=hint)


def _config_and_class(rest: str) -> tuple[str, str]:
    name, colon, class_name = rest.rpartition(":")
    return (name, class_name) if colon and class_name.isidentifier() else (rest, "")


def _config(transformers: Any, name: str, text: str) -> Any:
    path = Path(name)
    if is_url(name):
        with TemporaryDirectory() as made:
            (Path(made) / "config.json").write_bytes(_fetched_config(name))
            return _read_config(transformers, Path(made), name)
    if path.exists():
        folder = path if path.is_dir() else path.parent
        if not (folder / "config.json").is_file():
            raise TreealignError("the folder has no config.json", where=str(folder), hint="name a model type instead")
        return _read_config(transformers, folder, str(folder))
    try:
        return transformers.AutoConfig.for_model(name)
    except ValueError as error:
        raise TreealignError(
            "neither a folder nor a model type that transformers knows",
            where=text,
            facts=look_alikes(name, transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES, 5),
            hint="a model type is what a config.json calls `model_type`, for example transformers:llava",
        ) from error


def _fetched_config(url: str) -> bytes:
    from treealign.formats.remote.opening import fetch_file

    return fetch_file(url, "config.json")


def _read_config(transformers: Any, folder: Path, where: str) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise TreealignError("transformers cannot read the config", where=where, facts=_last(error)) from error


def _model_class(transformers: Any, config: Any, class_name: str, text: str) -> Callable[..., Any]:
    wanted = class_name or next(iter(config.architectures or ()), "")
    if not wanted:
        return _auto_class(transformers, config, text)
    found: Any = getattr(transformers, wanted, None)
    if isinstance(found, type) and hasattr(found, "config_class"):
        return found
    raise TreealignError(
        f"transformers has no model class {wanted}", where=text, facts=_classes_of(transformers, config)
    )


def _own_config(config: Any, model_class: Any) -> Any:
    """The config of a model's part, where a part is asked for: CLIP's vision model has a config inside CLIP's."""
    wanted = getattr(model_class, "config_class", None)
    if wanted is None or isinstance(config, wanted):
        return config
    parts = (getattr(config, name, None) for name in getattr(config, "sub_configs", {}))
    return next((part for part in parts if isinstance(part, wanted)), config)


def _classes_of(transformers: Any, config: Any) -> list[str]:
    """The model classes of a config, by name alone: looking a class up imports its module."""
    prefix = type(config).__name__.removesuffix("Config")
    no_model = ("Config", "Processor", "ProcessorFast", "ProcessorPil", "Tokenizer", "TokenizerFast", "PreTrainedModel")
    names = [name for name in dir(transformers) if name.startswith(prefix) and not name.endswith(no_model)]
    return [f"it has {name}" for name in names if name.removeprefix(prefix).startswith(("For", "Model", "LMHead"))]


def _auto_class(transformers: Any, config: Any, text: str) -> Callable[..., Any]:
    mapping = transformers.models.auto.modeling_auto.MODEL_MAPPING
    if type(config) not in mapping:
        raise TreealignError(
            "transformers names no base model for this config", where=text, hint=f"name the class: {text}:ClassName"
        )
    found: Any = mapping[type(config)]
    chosen: Callable[..., Any] = found[0] if isinstance(found, tuple) else found
    return chosen


def _factory_model(text: str, weights: bool = False) -> Any:
    """What the user's function or class makes, on the meta device where no weights are asked for."""
    module_name, _, path = text.partition(":")
    say(f"importing {module_name} and running {path}: this is your code, it can do anything")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = import_module(module_name)
    except ImportError as error:
        if error.name and module_name.split(".")[0] == error.name:
            raise TreealignError("no such module, and no such file", where=text, hint=f"a MODEL is {_FORMS}") from error
        raise TreealignError("the module does not import", where=text, facts=_last(error)) from error
    for name in path.split("."):
        if not hasattr(made, name):
            raise TreealignError(f"the module has no {path}", where=text, facts=look_alikes(name, dir(made)))
        made = getattr(made, name)
    if not callable(made) or (hasattr(made, "named_parameters") and not isinstance(made, type)):
        return made
    return _in_memory(made, text) if weights else _on_meta(made, text)


def _on_meta(make: Callable[[], Any], text: str) -> Any:
    """Call it with the meta device as default, so that no weights are allocated; in memory where that fails."""
    import torch

    try:
        with torch.device("meta"):
            return make()
    except Exception as error:
        say(f"it does not build on the meta device ({_last(error)[0]}); building it in memory")
    return _in_memory(make, text)


def _in_memory(make: Callable[[], Any], text: str) -> Any:
    try:
        return make()
    except Exception as error:
        raise TreealignError("the model does not build", where=text, facts=_last(error)) from error


def _last(error: BaseException) -> list[str]:
    """The last line of a traceback, and where in the user's code it happened."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    where = [f"{frames[-1].filename}:{frames[-1].lineno}"] if frames else []
    return [f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}", *where]

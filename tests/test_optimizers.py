"""What an optimizer keeps follows its parameters, so that training goes on as if nothing had been renamed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from treealign import ConversionMapping, Convert, Rename, TreealignError, convert_checkpoint, operations
from treealign.checkpoint.optimizer_files import read_saved
from treealign.checkpoint.optimizers import convert_optimizer, convert_optimizer_state
from treealign.errors import FormatError, MappingError, OpenQuestionsError, UndecidedError
from treealign.mapping.open_questions import OpenQuestion
from treealign.tree.keytree import KeyTree

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Apart(nn.Module):
    """Query, key and value by themselves."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.blocks = nn.ModuleList(nn.ModuleDict({n: nn.Linear(6, 6) for n in ("q", "k", "v", "o")}) for _ in range(2))

    def forward(self, ids):
        x = self.embed(ids)
        for one in self.blocks:
            x = x + one["o"](torch.cat([one[name](x) for name in "qkv"], -1).tanh().view(*x.shape[:-1], 3, 6).sum(-2))
        return x


class Fused(nn.Module):
    """The same in one matrix, set up in another order."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"out": nn.Linear(6, 6), "qkv": nn.Linear(6, 18)}) for _ in range(2))
        self.tokens = nn.Embedding(10, 6)

    def forward(self, ids):
        x = self.tokens(ids)
        for one in self.layers:
            x = x + one["out"](one["qkv"](x).tanh().view(*x.shape[:-1], 3, 6).sum(-2))
        return x


MAPPING = ConversionMapping(
    [
        Rename("embed", "tokens"),
        Rename("blocks.{i}.o", "layers.{i}.out"),
        *(
            Convert(
                [f"blocks.{{i}}.{part}.{leaf}" for part in "qkv"],
                [f"layers.{{i}}.qkv.{leaf}"],
                [operations.Concat(0, (6, 6, 6))],
            )
            for leaf in ("weight", "bias")
        ),
    ]
)
OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, centered=True),
}


def trained(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        drawn = torch.Generator().manual_seed(step)
        loss = model(torch.randint(10, (2, 5), generator=drawn)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("named", [False, True], ids=["by number", "with names kept"])
def test_training_goes_on_as_if_nothing_had_been_renamed(name, named):
    torch.manual_seed(0)
    old, new = Apart(), Fused()
    before = OPTIMIZERS[name](old.named_parameters() if named else old.parameters())
    trained(old, before, 3)
    new.load_state_dict(dict(MAPPING.apply(weights(old))))
    state = convert_optimizer_state(before.state_dict(), MAPPING, None if named else old, new)
    after = OPTIMIZERS[name](new.named_parameters() if named else new.parameters())
    after.load_state_dict(state)
    trained(old, before, 3, first=3)
    trained(new, after, 3, first=3)
    for key, value in MAPPING.apply(weights(old)):
        torch.testing.assert_close(new.state_dict()[key], value, rtol=1e-4, atol=1e-6)
    back = convert_optimizer_state(after.state_dict(), MAPPING.reverse, None if named else new, old)
    assert back["state"].keys() == before.state_dict()["state"].keys()
    assert [group["params"] for group in back["param_groups"]] == [list(range(17))]


def grouped(model):
    decayed = [(n, p) for n, p in model.named_parameters() if p.ndim > 1]
    others = [(n, p) for n, p in model.named_parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.01
    )


def test_groups_keep_their_settings_and_their_parameters():
    old, new = Apart(), Fused()
    before = grouped(old)
    trained(old, before, 2)
    after = grouped(new)
    after.load_state_dict(convert_optimizer_state(before.state_dict(), MAPPING, after=new))
    new.load_state_dict(dict(MAPPING.apply(weights(old))))
    trained(old, before, 2, first=2)
    trained(new, after, 2, first=2)
    for key, value in MAPPING.apply(weights(old)):
        torch.testing.assert_close(new.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_a_models_order_does_not_tell_the_numbers_of_several_groups():
    model = Apart()
    optimizer = torch.optim.SGD([{"params": [model.embed.weight]}, {"params": model.blocks.parameters()}], lr=0.1)
    with pytest.raises(TreealignError, match="several groups"):
        convert_optimizer_state(optimizer.state_dict(), MAPPING, model)


def test_states_of_other_shapes_than_the_parameters_of_before_are_refused():
    model = Apart()
    state = OPTIMIZERS["AdamW"](model.parameters())
    trained(model, state, 1)
    turned = [name for name, _ in model.named_parameters()][::-1]
    wrong = nn.ParameterDict({name.replace(".", "_"): model.get_parameter(name) for name in turned})
    with pytest.raises(TreealignError, match="other shapes"):
        convert_optimizer_state(state.state_dict(), MAPPING, wrong)


def by_name(model, optimizer):
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    return get_optimizer_state_dict(model, optimizer)


def test_what_cannot_follow_exactly_is_refused_with_the_reason():
    model = Apart()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    trained(model, optimizer, 1)
    state = by_name(model, optimizer)
    state["state"]["blocks.0.q.weight"]["step"] += 1
    del state["state"]["blocks.1.k.weight"]["exp_avg"]
    state["state"]["blocks.1.q.bias"]["exp_avg"] = torch.zeros(3)
    with pytest.raises(MappingError, match="cannot follow exactly") as caught:
        convert_optimizer_state(state, MAPPING)
    for fact in ("step is neither", "not all parts have the same states", "exp_avg is neither"):
        assert fact in str(caught.value)


def stated(**slots):
    """Of q, k and v as one optimizer keeps them, each slot the same for all."""
    names = [f"blocks.0.{part}.weight" for part in "qkv"]
    return {"state": {name: dict(slots) for name in names}, "param_groups": [{"params": names}]}


TURNED = ConversionMapping(
    [Convert([f"blocks.0.{part}.weight"], [f"b.{part}.weight"], [operations.RotaryPermute(1, 6)]) for part in "qkv"]
)


@pytest.mark.parametrize(
    "slots",
    [
        {"exp_avg": torch.zeros(6, 4), "exp_avg_sq_row": torch.zeros(6), "exp_avg_sq_col": torch.zeros(4)},
        {"row_var": torch.zeros(6, 1), "col_var": torch.zeros(1, 4)},
        {"exp_avg_sq_col": torch.zeros(6)},
        {"state1": torch.zeros(6, 4, dtype=torch.uint8), "qmap1": torch.zeros(256), "absmax1": torch.zeros(6)},
        {"exp_avg": torch.zeros(6, 4, dtype=torch.uint8)},
    ],
    ids=["factored, with momenta", "factored by torch", "as long as the rows", "8 bits", "codes"],
)
@pytest.mark.parametrize("before", ["known", "unknown"])
def test_only_what_is_as_large_as_the_parameter_is_moved(slots, before):
    state = stated(step=1, **slots)
    tree = KeyTree.from_leaves((key, (6, 4), "float32") for key in state["state"]) if before == "known" else None
    for mapping in (TURNED, MAPPING):
        with pytest.raises(TreealignError, match="cannot follow exactly"):
            convert_optimizer_state(state, mapping, tree)
    renamed = convert_optimizer_state(state, ConversionMapping([Rename("blocks.{i}", "layers.{i}")]))
    assert renamed["state"]["layers.0.q.weight"].keys() == {"step", *slots}


def test_no_momentum_yet_stays_none_and_none_beside_some_is_refused():
    state = stated(momentum_buffer=None)
    assert convert_optimizer_state(state, MAPPING)["state"]["layers.0.qkv.weight"] == {"momentum_buffer": None}
    state["state"]["blocks.0.q.weight"]["momentum_buffer"] = torch.zeros(6, 4)
    with pytest.raises(MappingError, match="momentum_buffer is neither"):
        convert_optimizer_state(state, MAPPING)


def test_the_momentum_of_a_single_number_is_stacked_and_its_count_is_not():
    mapping = ConversionMapping([Convert(["a", "b"], ["c"], [operations.Stack(0, 2)])])
    slots = {"step": torch.tensor(3.0), "exp_avg": torch.tensor(0.5)}
    state = {"state": {"a": slots, "b": slots}, "param_groups": [{"params": ["a", "b"]}]}
    made = convert_optimizer_state(state, mapping)["state"]["c"]
    assert (made["step"].shape, made["exp_avg"].shape) == ((), (2,))


def test_a_mapping_that_guesses_or_touches_nothing_converts_no_state():
    open_one = ConversionMapping(MAPPING, questions=[OpenQuestion("names", ("a",), ("b",), "both fit", ())])
    with pytest.raises(OpenQuestionsError, match="nothing was converted"):
        convert_optimizer_state(stated(step=1), open_one)
    with pytest.raises(MappingError, match="touches no parameter"):
        convert_optimizer_state(stated(step=1), MAPPING.reverse)
    assert convert_optimizer_state(stated(step=1), ConversionMapping()) == stated(step=1)


def test_a_file_is_not_written_half_under_the_old_names(tmp_path):
    state = stated(step=1)
    torch.save({"optimizer": state, "ema": [{"blocks.0.q.weight": torch.zeros(6, 4)}]}, tmp_path / "from")
    with pytest.raises(MappingError, match="beside the state of the optimizer"):
        convert_optimizer(tmp_path / "from", tmp_path / "to", MAPPING)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("form", ["a file", "a file with more", "a distributed checkpoint"])
def test_files_and_distributed_checkpoints_are_converted(form, tmp_path):
    import torch.distributed.checkpoint as dcp

    model = Apart()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    trained(model, optimizer, 2)
    state, source, target = by_name(model, optimizer), tmp_path / "from", tmp_path / "to"
    if form == "a distributed checkpoint":
        dcp.save({"optim": state, "other": {"mean": torch.zeros(2)}}, checkpoint_id=str(source), no_dist=True)
    else:
        torch.save(state if form == "a file" else {"optimizer": state, "epoch": 3}, source)
    convert_optimizer(source, target, MAPPING)
    expected = convert_optimizer_state(state, MAPPING)
    if form == "a distributed checkpoint":
        found = {"exp_avg": torch.zeros(18, 6)}
        held = {"optim": {"state": {"layers.1.qkv.weight": found}}}
        dcp.load(held, checkpoint_id=str(target), no_dist=True)
    else:
        whole = torch.load(target)
        found = (whole if form == "a file" else whole["optimizer"])["state"]["layers.1.qkv.weight"]
    assert torch.equal(found["exp_avg"], expected["state"]["layers.1.qkv.weight"]["exp_avg"])


def saved_together(path, form):
    """A model, its average and its optimizer, as a run of training saves them; the state and the weights."""
    import torch.distributed.checkpoint as dcp

    model = Apart()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    trained(model, optimizer, 1)
    whole = {"model": weights(model), "nested": {"ema": weights(model)}, "optim": by_name(model, optimizer), "epoch": 3}
    if form == "dcp":
        dcp.save(whole, checkpoint_id=str(path), no_dist=True)
    else:
        torch.save(whole, path)
    return whole


@pytest.mark.parametrize("form", ["pt", "dcp"])
def test_a_model_and_its_average_follow_with_the_optimizer_in_one_call(form, tmp_path):
    whole = saved_together(tmp_path / "from", form)
    convert_optimizer(tmp_path / "from", tmp_path / "to", MAPPING)
    found, _ = read_saved(tmp_path / "to")
    made = dict(MAPPING.apply(whole["model"]))
    for held in (found["model"], found["nested"]["ema"]):
        assert held.keys() == made.keys()
        assert all(torch.equal(held[key], made[key]) for key in made)
    assert found["optim"]["state"].keys() == made.keys()
    assert found["epoch"] == 3
    convert_optimizer(tmp_path / "to", tmp_path / "back", MAPPING.reverse)
    back, _ = read_saved(tmp_path / "back")
    assert {key: back["model"][key].tolist() for key in back["model"]} == {
        k: v.tolist() for k, v in whole["model"].items()
    }


@pytest.mark.parametrize("form", ["pt", "dcp"])
def test_one_of_what_was_saved_together_is_named(form, tmp_path):
    saved_together(tmp_path / "from", form)
    convert_optimizer(f"{tmp_path / 'from'}#optim", tmp_path / "optim", MAPPING)
    assert set(read_saved(tmp_path / "optim")[0]) == {"state", "param_groups"}
    with pytest.raises(FormatError, match=r"\['optim'\]: 17 parameters"):
        convert_optimizer(f"{tmp_path / 'from'}#model", tmp_path / "none", MAPPING)
    notes = convert_checkpoint(f"{tmp_path / 'from'}#model", tmp_path / "model", MAPPING).notes
    assert any(note.startswith("['model'] is converted, what else was saved with it is not") for note in notes)


def test_a_distributed_checkpoint_that_cannot_be_written_whole_is_not_there(tmp_path, monkeypatch):
    import torch.distributed.checkpoint.filesystem as system

    saved_together(tmp_path / "from", "dcp")

    def broken(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(system.FileSystemWriter, "finish", broken)
    with pytest.raises(FormatError, match="cannot write the distributed checkpoint"):
        convert_optimizer(tmp_path / "from", tmp_path / "to", MAPPING)
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


def test_a_distributed_checkpoint_is_not_written_over_another(tmp_path):
    saved_together(tmp_path / "from", "dcp")
    convert_optimizer(tmp_path / "from", tmp_path / "to", MAPPING)
    before = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}
    with pytest.raises(FormatError, match="something already"):
        convert_optimizer(tmp_path / "from", tmp_path / "to", MAPPING)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == before


SQUARE = Convert("q", "q", [operations.Permute((1, 0))])


def test_a_square_moment_is_not_turned_twice_in_silence():
    state = {"state": {"q": {"exp_avg": torch.randn(2, 2)}}, "param_groups": [{"params": ["q"]}]}
    with pytest.raises(UndecidedError, match="neither names nor shapes"):
        convert_optimizer_state(state, [SQUARE])
    turned = convert_optimizer_state(state, [SQUARE], converted=False)
    assert torch.equal(turned["state"]["q"]["exp_avg"], state["state"]["q"]["exp_avg"].T)
    assert torch.equal(
        convert_optimizer_state(turned, [SQUARE], converted=True)["state"]["q"]["exp_avg"],
        turned["state"]["q"]["exp_avg"],
    )
    renamed = ConversionMapping([Rename("old", "q"), SQUARE])
    once = convert_optimizer_state(
        {"state": {"old": state["state"]["q"]}, "param_groups": [{"params": ["old"]}]}, renamed
    )
    with pytest.raises(UndecidedError, match="names of what was converted"):
        convert_optimizer_state(once, renamed)


def test_a_conversion_says_that_the_state_beside_it_was_left(tmp_path):
    (tmp_path / "old").mkdir()
    model = Apart()
    torch.save(weights(model), tmp_path / "old" / "pytorch_model.bin")
    torch.save(OPTIMIZERS["SGD"](model.parameters()).state_dict(), tmp_path / "old" / "optimizer.pt")
    (note,) = convert_checkpoint(tmp_path / "old", tmp_path / "new", MAPPING).notes
    assert "optimizer.pt: it is as it was" in note
    assert (tmp_path / "new" / "optimizer.pt").is_file()

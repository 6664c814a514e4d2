"""A guess stays marked as one: in the mapping and all that comes of it, in its file, in records, in what is written."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file
from strategies import marked_mappings
from torch import nn

from treealign import ConversionMapping, OpenQuestionsWarning, Rename, TreealignError, attach, emit, load, save, suggest
from treealign.align.asking.marks import unasked
from treealign.align.links import keys_of
from treealign.checkpoint.conversion.converting import convert_checkpoint
from treealign.checkpoint.record_file import read_parts
from treealign.dialects.peft import migrate_adapter
from treealign.dialects.registry import DIALECTS
from treealign.mapping.marking import keys_in_question, mapping_with_questions
from treealign.mapping.open_questions import OpenOption, OpenQuestion

ROOT = Path(__file__).parent.parent
LAYERS, WIDTH = 2, 4
NAMES = {"wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj"}
RENAMES = ConversionMapping(
    [Rename("**.attention", "**.self_attn"), *(Rename(f"**.{a}", f"**.{b}") for a, b in NAMES.items())]
)
ROWS = OpenQuestion(
    "rows",
    tuple(f"layers.{i}.attention.{name}.weight" for i in range(LAYERS) for name in ("wq", "wk")),
    tuple(f"layers.{i}.self_attn.{name}.weight" for i in range(LAYERS) for name in ("q_proj", "k_proj")),
    "rotary rows",
    (OpenOption("rows as they are", "wq,wk: rows=same"), OpenOption("rows interleaved", "wq,wk: rows=interleaved")),
    ("values", "a probe"),
)
GUESS = mapping_with_questions(RENAMES, [ROWS], ["attention=self_attn"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        attentions = [
            nn.ModuleDict({m: nn.Linear(WIDTH, WIDTH, bias=False) for m in NAMES.values()}) for _ in range(LAYERS)
        ]
        self.layers = nn.ModuleList(nn.ModuleDict({"self_attn": attention}) for attention in attentions)


def weights():
    return {f"layers.{i}.attention.{name}.weight": torch.randn(WIDTH, WIDTH) for i in range(LAYERS) for name in NAMES}


@pytest.fixture
def checkpoint(tmp_path):
    save_file(weights(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def refusal(call, *arguments, **options):
    with pytest.raises(TreealignError) as raised:
        call(*arguments, **options)
    return raised.value


# -- the mapping -------------------------------------------------------------------------------------------------------


def test_a_mapping_that_was_suggested_says_what_is_a_guess():
    suggestion = suggest(weights(), Net())
    assert not suggestion.ok
    assert suggestion.mapping.questions != ()


def test_no_way_to_the_mapping_of_a_suggestion_loses_its_marks():
    suggestion = suggest(weights(), Net())
    assert suggestion.synthesis.mapping.questions == suggestion.mapping.questions != ()


def test_a_mapping_out_of_transforms_is_a_statement_of_whoever_wrote_it():
    assert not ConversionMapping(list(GUESS)).marked


def test_a_mapping_of_a_mapping_keeps_its_marks():
    assert ConversionMapping(GUESS) == GUESS


@pytest.mark.parametrize(
    "derive",
    [
        copy.copy,
        copy.deepcopy,
        lambda mapping: pickle.loads(pickle.dumps(mapping)),
        lambda mapping: mapping.reverse,
        lambda mapping: mapping.used(weights()),
        lambda mapping: mapping.with_transforms(mapping.transforms[:1]),
    ],
)
def test_all_that_comes_of_a_mapping_keeps_its_marks(derive):
    made = derive(GUESS)
    assert (made.questions, made.answers) == (GUESS.questions, ("attention=self_attn",))


@given(marked_mappings())
def test_the_reverse_of_the_reverse_is_the_mapping(mapping):
    assert mapping.reverse.reverse == mapping


def test_the_file_of_a_mapping_keeps_its_marks(tmp_path):
    GUESS.to_json(tmp_path / "mapping.json")
    assert ConversionMapping.from_json(tmp_path / "mapping.json") == GUESS


def test_the_repr_of_a_guess_says_so_and_cannot_be_taken_for_the_mapping():
    assert "open=['rows: layers.{0..1}.attention.wk.weight, " in repr(GUESS)
    with pytest.raises(TypeError):
        eval(repr(GUESS), {"ConversionMapping": ConversionMapping, "Rename": Rename})


def test_a_guess_is_not_equal_to_a_decision():
    assert GUESS != RENAMES


def test_accepting_keeps_what_was_accepted_and_what_was_answered():
    taken = GUESS.accept()
    assert (taken.questions, taken.accepted, taken.answers) == ((), GUESS.questions, GUESS.answers)
    assert taken.accept() == taken


def test_the_mark_of_a_model_of_many_experts_is_a_few_lines(tmp_path):
    keys = [f"layers.{i}.experts.{j}.{name}.weight" for i in range(61) for j in range(256) for name in ("w1", "w3")]
    marked = mapping_with_questions(
        RENAMES, [OpenQuestion("order", tuple(keys), tuple(f"model.{key}" for key in keys))]
    )
    marked.to_json(tmp_path / "mapping.json")
    RENAMES.to_json(tmp_path / "bare.json")
    assert (tmp_path / "mapping.json").stat().st_size < (tmp_path / "bare.json").stat().st_size + 1000
    assert keys_in_question(ConversionMapping.from_json(tmp_path / "mapping.json")) >= set(keys)


def test_keys_in_question_are_kept_folded():
    assert GUESS.questions[0].checkpoint == ("layers.{0..1}.attention.wk.weight", "layers.{0..1}.attention.wq.weight")
    assert keys_in_question(GUESS) == {*ROWS.checkpoint, *ROWS.model}


# -- who refuses -------------------------------------------------------------------------------------------------------


def test_load_refuses_a_guess_with_the_options_side_by_side_and_ends_with_how_to_accept(checkpoint):
    model = Net()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    lines = str(refusal(load, model, checkpoint, mapping=GUESS)).splitlines()
    at = lines.index("         guessed  rows as they are")
    assert lines[at + 1 : at + 4] == [
        "                  --hint 'wq,wk: rows=same'",
        "         or       rows interleaved",
        "                  --hint 'wq,wk: rows=interleaved'",
    ]
    assert lines[-1] == "  or take the guesses as they are: mapping.accept(), or --accept-guesses"
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_load_lists_everything_else_beside_the_questions(checkpoint):
    save_file({**load_file(checkpoint), "extra": torch.zeros(1)}, checkpoint)
    facts = refusal(load, Net(), checkpoint, mapping=GUESS).facts
    assert "  extra" in facts
    assert any("rotary rows" in fact for fact in facts)


def test_load_takes_what_was_accepted(checkpoint):
    model, given = Net(), load_file(checkpoint)
    result = load(model, checkpoint, mapping=GUESS.accept())
    assert result.mapping.accepted == GUESS.questions
    assert torch.equal(model.state_dict()["layers.1.self_attn.q_proj.weight"], given["layers.1.attention.wq.weight"])


def test_a_load_that_is_not_strict_loads_what_no_question_speaks_of(checkpoint):
    model, given = Net(), load_file(checkpoint)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    result = load(model, checkpoint, mapping=GUESS, strict=False)
    after = model.state_dict()
    for i in range(LAYERS):
        for old, new in NAMES.items():
            source, target = f"layers.{i}.attention.{old}.weight", f"layers.{i}.self_attn.{new}.weight"
            assert torch.equal(after[target], before[target] if old in ("wq", "wk") else given[source])
    assert (set(result.missing_keys), set(result.unexpected_keys)) == (set(ROWS.model), set(ROWS.checkpoint))
    assert [(set(one.checkpoint), one.settled_by) for one in result.ambiguous] == [
        (set(ROWS.checkpoint), "values; a probe")
    ]


def test_the_record_of_a_load_keeps_what_was_accepted_through_a_save(checkpoint, tmp_path):
    model = Net()
    load(model, checkpoint, mapping=GUESS.accept())
    save(copy.deepcopy(model), tmp_path / "out")
    (part,) = read_parts(tmp_path / "out")
    assert part.record.mapping.accepted == GUESS.questions
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == checkpoint.read_bytes()


def test_a_guess_under_the_models_own_names_is_recorded_too(tmp_path):
    model = Net()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    load(model, tmp_path / "model.safetensors", mapping=mapping_with_questions(ConversionMapping(), [ROWS]).accept())
    save(model, tmp_path / "out")
    (part,) = read_parts(tmp_path / "out")
    assert part.record.mapping.accepted == GUESS.questions


def test_attach_refuses_a_guess_and_leaves_the_model_alone():
    model = Net()
    assert refusal(attach, model, GUESS).what == "the mapping still guesses: 1 question is open; nothing was attached"
    assert not model._state_dict_hooks
    with attach(model, GUESS.accept()):
        assert "layers.0.attention.wq.weight" in model.state_dict()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("given", [GUESS, GUESS.reverse])
def test_no_dialect_emits_a_guess(dialect, given):
    assert "nothing was emitted" in refusal(emit, given, dialect).what


def test_source_that_is_emitted_says_what_was_accepted():
    first, *rest = emit(GUESS.accept(), "python").splitlines()
    assert first.startswith("# taken as guessed, settled by nothing: rows: layers.{0..1}.attention.wk.weight, ")
    assert rest == emit(RENAMES, "python").splitlines()


def test_save_refuses_to_write_under_guessed_names(tmp_path):
    assert "nothing was written" in refusal(save, Net(), tmp_path / "out", mapping=GUESS).what
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_not_migrated_by_a_guess(tmp_path):
    assert "nothing was written" in refusal(migrate_adapter, tmp_path, tmp_path / "out", GUESS).what


def test_convert_refuses_a_guess_in_either_direction_and_writes_nothing(checkpoint, tmp_path):
    before = checkpoint.read_bytes()
    for options in ({}, {"reverse": True}, {"in_place": True}):
        destination = None if "in_place" in options else tmp_path / "out.safetensors"
        assert "nothing was converted" in refusal(convert_checkpoint, checkpoint, destination, GUESS, **options).what
    assert ([path.name for path in tmp_path.iterdir()], checkpoint.read_bytes()) == ([checkpoint.name], before)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_conversion_by_accepted_guesses_says_so_beside_its_result_and_goes_back_byte_for_byte(tmp_path, in_place):
    (tmp_path / "one").mkdir()
    source = tmp_path / "one" / "model.safetensors"
    shorter = ConversionMapping([Rename("**.attention", "**.att")])
    save_file(weights(), source, metadata={"format": "pt"})
    before = source.read_bytes()
    there, back = (None, None) if in_place else (tmp_path / "two", tmp_path / "three")
    taken = mapping_with_questions(shorter, [ROWS]).accept()
    assert convert_checkpoint(tmp_path / "one", there, taken, in_place=in_place).recorded
    made = there or tmp_path / "one"
    told = json.loads((made / "treealign_record.json").read_text())["conversion"]["mapping"]["accepted"]
    assert [question["checkpoint"] for question in told] == [list(GUESS.questions[0].checkpoint)]
    # the way back is told by the transforms, whoever accepted what
    convert_checkpoint(made, back, shorter, reverse=True, in_place=in_place)
    ended = back or tmp_path / "one"
    assert (ended / "model.safetensors").read_bytes() == before
    assert not (ended / "treealign_record.json").exists()


# -- who works on a guess ----------------------------------------------------------------------------------------------


def test_apply_works_on_a_guess_and_warns_once():
    mapping = copy.deepcopy(GUESS)
    with pytest.warns(OpenQuestionsWarning, match="1 questions are open") as told:
        made = dict(mapping.apply(weights()))
        dict(mapping.apply(weights()))
    assert (len(told), told[0].filename) == (1, __file__)
    assert made.keys() == Net().state_dict().keys()


def test_mapping_names_back_and_forth_works_on_a_guess_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keys = list(weights())
        there = [target for (target,) in GUESS.map_keys(keys).values()]
        assert [key for (key,) in GUESS.reverse.map_keys(there).values()] == keys


# -- the verbs ---------------------------------------------------------------------------------------------------------


def run(*arguments):
    command = [sys.executable, "-m", "treealign.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def files(checkpoint, tmp_path):
    """Checkpoint, tree of the model, and the mapping that `suggest` writes."""
    from treealign import read_tree

    read_tree(Net()).to_json(tmp_path / "model.json")
    sides = checkpoint, tmp_path / "model.json"
    done = run("suggest", *sides, "-o", tmp_path / "mapping.json")
    assert (done.returncode, "it still guesses" in done.stderr) == (1, True)
    return (*sides, tmp_path / "mapping.json")


def test_verbs_refuse_a_guess_with_exit_1_and_take_it_where_it_is_accepted(files, tmp_path):
    checkpoint, _, mapping = files
    destination = tmp_path / "out"
    for verb in (["convert", checkpoint, destination, mapping], ["emit", mapping, "--to", "python"]):
        refused = run(*verb)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "--accept-guesses" in refused.stderr.splitlines()[-1]
        assert run(*verb, "--accept-guesses").returncode == 0
    record = next(destination.glob("*treealign_record.json"))
    assert json.loads(record.read_text())["conversion"]["mapping"]["accepted"]


def test_check_reports_guesses_and_exits_with_1_until_they_are_accepted(files):
    done, taken = run("check", *files), run("check", *files, "--accept-guesses")
    assert (done.returncode, taken.returncode) == (1, 0)
    assert "unambiguous OPEN" in done.stdout
    assert "\naccepted    " in taken.stdout
    data = json.loads(run("check", *files, "--json").stdout)
    assert (bool(data["questions"]), data["accepted"]) == (True, [])


def test_suggest_writes_what_was_accepted(files):
    checkpoint, model, mapping = files
    guess = ConversionMapping.from_json(mapping)
    assert run("suggest", checkpoint, model, "-o", mapping, "--accept-guesses").returncode == 0
    assert ConversionMapping.from_json(mapping) == guess.accept()


def test_a_guess_that_no_question_speaks_of_is_a_guess_all_the_same():
    alignment = suggest(weights(), Net()).alignment
    doubtful = {key for link in alignment.links if not link.certain for key in keys_of(alignment.model, link.right)}
    assert {key for question in unasked(alignment, ()) for key in question.model} == doubtful != set()
    everything = OpenQuestion("rows", tuple(alignment.checkpoint.keys), tuple(alignment.model.keys))
    assert list(unasked(alignment, [everything])) == []


def test_no_readme_and_no_demo_takes_a_guess_as_it_is():
    """Their commands and code are run by tests, and what is open is refused: none goes on by accepting it."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("treealign/**/*.md"),
        *ROOT.glob("data/**/*.md"),
        *ROOT.glob("scripts/demo*"),
    ]
    blocks = [part for page in pages if page.is_file() for part in page.read_text("utf-8").split("```")[1::2]]
    scripts = [page.read_text("utf-8") for page in pages if page.is_file() and page.suffix != ".md"]
    assert len(blocks) > 20
    assert not [text for text in (*blocks, *scripts) if "accept-guesses" in text or ".accept()" in text]

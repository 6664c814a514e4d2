"""Questions with options: each doubt can be answered, each printed hint does what its option says, and nothing else."""

from __future__ import annotations

import pytest
import torch
from aligning import aligned, tree
from cases import read_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from person import tell
from test_layouts import known

from treealign import KeyTree, TreealignError, suggest
from treealign.align.knowledge.entries import layouts
from treealign.align.patterns import Pattern
from treealign.align.reading_hints import read

ATTENTION = {
    "old": {f"layers.{i}.attention.w{n}.weight": (16, 16) for i in range(2) for n in "qkvo"},
    "new": {f"layers.{i}.self_attn.{n}_proj.weight": (16, 16) for i in range(2) for n in "qkvo"},
}
NORMS = {
    "old": {f"{i}.{n}.weight": (4,) for i in ("a", "b") for n in ("first", "second")},
    "new": {f"{i}.{n}.weight": (4,) for i in ("a", "b") for n in ("alpha", "beta")},
}


def certain(suggestion):
    return {(m.checkpoint, m.model, m.operations) for m in suggestion.matches if m.certain}


def asked(suggestion):
    return {(q.about, q.checkpoint, q.model) for q in suggestion.questions}


@pytest.mark.parametrize("case", list(read_cases("pairs")), ids=lambda case: case.name)
def test_each_hint_settles_its_question_as_its_option_says_and_touches_nothing_else(case):
    trees = case.trees()
    before = suggest(*trees)
    for question in before.questions[:4]:
        for option in question.options:
            after = suggest(*trees, hints=[option.hint])
            assert (question.about, question.checkpoint, question.model) not in asked(after)
            assert certain(before) <= certain(after)
            mine = {*question.checkpoint, *question.model}
            touched = {key for m in option.matches for key in (*m.checkpoint, *m.model)} | mine
            known = {key for q in before.questions for key in (*q.checkpoint, *q.model)}
            assert {k for q in after.questions for k in (*q.checkpoint, *q.model)} <= known | touched
            pairs = {(m.checkpoint, m.model) for m in after.matches}
            assert {(m.checkpoint, m.model) for m in option.matches} <= pairs


@pytest.mark.parametrize("case", list(read_cases("pairs")), ids=lambda case: case.name)
def test_every_question_has_two_to_six_options_with_a_hint_each(case):
    for question in suggest(*case.trees()).questions:
        assert 2 <= len(question.options) <= 6
        assert len({o.hint for o in question.options}) == len(question.options)


@pytest.mark.parametrize("case", list(read_cases("pairs")), ids=lambda case: case.name)
def test_a_match_is_certain_or_a_question_speaks_of_it(case):
    suggestion = suggest(*case.trees())
    spoken = {key for q in suggestion.questions for key in (*q.checkpoint, *q.model)}
    spoken |= {k for q in suggestion.questions for o in q.options for m in o.matches for k in (*m.checkpoint, *m.model)}
    assert [m for m in suggestion.matches if not m.certain and not spoken & {*m.checkpoint, *m.model}] == []


def test_a_person_who_knows_the_truth_settles_the_published_layouts_with_few_answers():
    told = {case.name: tell(case) for case in read_cases("pairs")}
    assert {name: t.question for name, t in told.items() if t.result != "solved" or t.harm or t.options > 6} == {}
    answers = sorted(len(t.hints) for t in told.values() if t.hints)
    assert (answers[len(answers) // 2], answers[int(len(answers) * 0.9)]) <= (2, 6)


def test_an_answer_is_the_same_as_giving_the_hint():
    before = aligned(ATTENTION["old"], ATTENTION["new"])
    (question,) = before.questions
    for option in question.options:
        answered = before.answer(question, option)
        again = aligned(ATTENTION["old"], ATTENTION["new"], hints=answered.hints)
        assert answered.hints == (option.hint,)
        assert certain(answered) == certain(again)


def test_none_of_these_leaves_the_keys_without_a_partner():
    before = aligned(NORMS["old"], NORMS["new"])
    question = before.questions[0]
    after = before.answer(question, None)
    assert {*question.checkpoint} <= {*after.unexpected_keys}
    assert {*question.model} <= {*after.missing_keys}
    assert aligned(NORMS["old"], NORMS["new"], hints=after.hints).missing_keys == after.missing_keys


def test_names_are_asked_before_rows():
    old = {key.replace("attention.w", "a.x"): shape for key, shape in ATTENTION["old"].items()}
    order = [q.about for q in aligned(old, ATTENTION["new"]).questions]
    assert order == sorted(order, key=("names", "belongs", "order", "rows", "axes").index)


def test_rows_of_q_and_k_are_one_question():
    (question,) = aligned(ATTENTION["old"], ATTENTION["new"]).questions
    assert (question.about, len(question.checkpoint)) == ("rows", 4)
    assert question.options[0].hint == "k_proj,q_proj: rows as stored"


def test_a_list_against_itself_is_one_question_with_the_order_reversed():
    old = {f"neck.lateral_{n}.{leaf}": (4,) for n in range(1, 5) for leaf in ("weight", "bias")}
    new = {f"head.levels.{n}.inner.{leaf}": (4,) for n in range(4) for leaf in ("weight", "bias")}
    (order,) = [q for q in aligned(old, new).questions if q.about == "order"]
    turned = {m.checkpoint[0]: m.model[0] for m in order.options[1].matches}
    assert turned["neck.lateral_1.weight"] == "head.levels.3.inner.weight"
    assert len(turned) == 8


@pytest.mark.parametrize(
    ("hints", "fact"),
    [
        (["wq=q_proj", "wq=k_proj"], "cannot both hold"),
        (["q_proj: rows as stored", "q_proj: rows by part"], "both speak of"),
        (["nowhere=q_proj"], "names nothing in the checkpoint"),
        (["q_proj: rows sideways"], "is not of the form"),
        (["^layers.{i}.attention.wq=^head"], "in the checkpoint"),
        (["wq=head"], "nothing of the one can be of the other"),
        (["q_proj: rows from interleaved to half split, heads of 7"], "cannot stand so"),
    ],
)
def test_hints_that_cannot_hold_are_refused_with_what_and_where(hints, fact):
    old, new = ATTENTION["old"] | {"head.weight": (5, 16)}, ATTENTION["new"] | {"head.weight": (5, 16)}
    with pytest.raises(TreealignError) as refused:
        aligned(old, new, hints=hints)
    assert any(fact in text for text in refused.value.facts), refused.value


def test_one_text_is_one_hint():
    as_text = aligned(ATTENTION["old"], ATTENTION["new"], hints="q_proj,k_proj: rows as stored")
    assert as_text.ok and as_text.hints == ("q_proj,k_proj: rows as stored",)


def test_a_hint_is_kept_to_the_keys_below_its_scope():
    old = {f"{t}.{key}": shape for t in ("text", "vision") for key, shape in ATTENTION["old"].items()}
    new = {f"{t}.{key}": shape for t in ("text", "vision") for key, shape in ATTENTION["new"].items()}
    found = aligned(old, new, hints=["q_proj,k_proj: rows as stored under text"])
    assert {key.partition(".")[0] for q in found.questions for key in q.checkpoint} == {"vision"}


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=5, unique=True), st.data())
@settings(max_examples=25, deadline=None)
def test_answers_lead_to_any_assignment_that_is_true(names, data):
    """Leaves of one shape and of unlike names: whatever the truth is, a person gets there, and nothing is left open."""
    targets = data.draw(st.permutations([f"t{n * 7}x" for n in range(len(names))]))
    real = dict(zip((f"{n}{n}.weight" for n in names), (f"{t}.weight" for t in targets), strict=True))
    trees = tree(dict.fromkeys(real, (3,))), tree(dict.fromkeys(sorted(real.values()), (3,)), ordered=True)
    hints: list[str] = []
    found = suggest(*trees)
    while found.questions:
        question = found.questions[0]
        fitting = [
            o for o in question.options if o.matches and all(real[m.checkpoint[0]] == m.model[0] for m in o.matches)
        ]
        assert fitting, (question.options, real)
        hints.append(fitting[0].hint)
        assert len(hints) <= len(names)
        found = suggest(*trees, hints=hints)
    assert {m.checkpoint[0]: m.model[0] for m in found.matches} == real


def test_a_fused_tensor_can_have_its_parts_in_an_order_that_its_name_does_not_spell():
    old = {f"layers.{i}.self_attn.qkv_proj.weight": (48, 16) for i in range(2)}
    new = {f"layers.{i}.self_attn.{n}_proj.weight": (16, 16) for i in range(2) for n in "qkv"}
    (question,) = aligned(old, new).questions
    (option,) = [o for o in question.options if o.hint == "qkv_proj: rows by part, k then v then q"]
    made = aligned(old, new, hints=[option.hint])
    assert made.ok
    whole = {"layers.0.self_attn.qkv_proj.weight": torch.arange(48.0)[:, None].repeat(1, 16)}
    parts = {key.split(".")[-2]: int(t[0, 0]) for key, t in made.mapping.apply(whole)}
    assert parts == {"k_proj": 0, "v_proj": 16, "q_proj": 32}


def test_what_is_said_of_some_repeats_does_not_contradict_what_is_said_of_others():
    p = Pattern(
        ("layers", "{}", "conv", "weight"), {("0",): 0, ("1",): 1}, {("0",): (3, 3, 4, 4), ("1",): (3, 3, 4, 4)}
    )
    assert len(read(["layers.0.conv: axes 3,2,0,1", "layers.1.conv: axes 2,3,0,1"], [p], [p])) == 2
    with pytest.raises(TreealignError, match="cannot be used"):
        read(["layers.0.conv: axes 3,2,0,1", "conv: axes 2,3,0,1"], [p], [p])


def test_a_path_that_lists_some_repeats_names_them_however_they_fold():
    p = Pattern(("layers", "{}", "weight"), {(str(n),): n for n in range(4)}, {(str(n),): (4,) for n in range(4)})
    assert read(["^layers.{i:1|2}.weight$: not in the model"], [p], [])
    with pytest.raises(TreealignError):
        read(["^layers.{i:7|8}.weight$: not in the model"], [p], [])


def test_a_second_name_of_a_tied_weight_fills_no_other_place():
    old = {f"head.{i}.weight": (16, 16) for i in range(3)}
    old |= {f"layers.{i}.attn.in_proj_weight": (48, 16) for i in range(2)}
    new = {f"head.{i}.weight": (16, 16) for i in range(3)}
    new |= {f"layers.{i}.attn.{n}_proj.weight": (16, 16) for i in range(2) for n in "qkv"}
    tied = {f"head.{i}.weight": "head.0.weight" for i in (1, 2)}
    model = KeyTree.from_leaves([(k, s, "float32") for k, s in new.items()], tied=tied, ordered=True)
    found = suggest(tree(old), model)
    assert {m.model for m in found.matches if m.checkpoint[0].startswith("head")} == {("head.0.weight",)}
    assert not found.unexpected_keys and not found.missing_keys


def test_the_place_of_tied_weights_can_be_filled_by_any_of_their_names():
    names = ("encoder.embed.weight", "decoder.embed.weight", "shared.weight")
    tied = dict.fromkeys(names[:2], "shared.weight")
    model = KeyTree.from_leaves(
        [(f"model.{k}", (8, 4), "float32") for k in names],
        tied={f"model.{k}": "model.shared.weight" for k in tied},
        ordered=True,
    )
    found = suggest(tree(dict.fromkeys((*names[:2], "decoder.output.weight"), (8, 4))), model)
    offered = {m.checkpoint for q in found.questions for o in q.options for m in o.matches}
    assert {(k,) for k in names[:2]} <= offered
    for q in found.questions:
        for o in q.options:
            assert [m.checkpoint for m in found.answer(q, o).matches if m.certain] == [o.matches[0].checkpoint]


KINDS = {
    "a bias that is left over in another number of dimensions": "qwen2_hf__tl",
    "a fused tensor whose parts are cut in heads": "gpt2_hf__keras",
    "two parts that are turned and stacked in an order that nothing says": "recurrentgemma_google__hf",
    "one tensor alone fills a place before parts of another layout do": "gemma2_hf__tl",
    "matrices that go to partners of the other layout": "gemma_hf__keras",
    "a key that is displaced goes where there is room": "neox_hf__tl",
}


@pytest.fixture(scope="module")
def texts():
    return {case.name: case for case in read_cases("real_text")}


@pytest.mark.parametrize(("kind", "name"), KINDS.items(), ids=KINDS.values())
def test_the_truth_can_be_answered_whatever_the_guess_was(texts, kind, name):
    told = tell(texts[name])
    assert (told.result, told.harm) == ("solved", 0), kind
    assert told.options <= 6


def without(monkeypatch, words):
    """No entry of this name among the known layouts: what they settle is not asked."""
    known(monkeypatch, *(row for name, row in layouts().items() if words not in name))


@pytest.fixture(scope="module")
def originals():
    return {case.name: case for case in read_cases("originals")}


def test_names_that_differ_by_the_same_words_are_one_question(originals, monkeypatch):
    without(monkeypatch, "DETR")
    questions = suggest(*originals["conditional_detr_atten4vis__hf"].trees()).questions
    crossed = [q for q in questions if q.about == "names" and any(".ca_" in key for key in q.checkpoint)]
    (question,) = crossed
    words = {key.split(".")[4] for key in question.checkpoint}
    assert {"ca_kpos_proj", "sa_kpos_proj", "ca_qcontent_proj", "sa_qcontent_proj"} <= words


def test_who_says_in_which_order_parts_stand_says_that_they_belong_together(originals, monkeypatch):
    without(monkeypatch, "OLMo")
    before = suggest(*originals["olmo_allenai__hf"].trees())
    (order,) = [q for q in before.questions if any("ff_proj" in key for key in q.checkpoint)]
    assert (order.about, order.options[-1].hint.endswith("not in the model")) == ("order", True)
    after = before.answer(order, order.options[1])
    assert all(m.certain for m in after.matches if "ff_proj" in m.checkpoint[0])


def leftovers():
    """A head of three layers that share no word with their places, each of a shape of its own."""
    sizes = {"alpha": (3, 5), "beta": (5, 7), "gamma": (7, 2)}
    places = dict(zip(sizes, ("first", "second", "third"), strict=True))
    old = {f"x.{n}.weight": shape for n, shape in sizes.items()}
    return old, {f"y.{places[n]}.weight": shape for n, shape in sizes.items()}


def test_leftovers_of_one_place_are_one_question_and_all_can_be_answered_at_once():
    before = aligned(*leftovers())
    (question,) = before.questions
    assert question.about == "belongs"
    assert len(question.checkpoint) == len(question.model) == 3
    assert before.answer(question, question.options[0]).ok
    assert aligned(*leftovers(), hints=question.options[0].hint).ok


def test_one_of_several_leftovers_can_belong_to_nothing():
    before = aligned(*leftovers())
    option = next(o for o in before.questions[0].options if o.hint.startswith("^x.beta: not in the model and "))
    for after in (before.answer(before.questions[0], option), aligned(*leftovers(), hints=option.hint)):
        assert (after.unexpected_keys, after.missing_keys) == (("x.beta.weight",), ("y.second.weight",))
        assert {m.checkpoint[0] for m in after.matches if m.certain} == {"x.alpha.weight", "x.gamma.weight"}


def test_a_hint_that_names_one_of_several_leftovers_says_nothing_of_the_others():
    after = aligned(*leftovers(), hints=["alpha=first"])
    assert {m.checkpoint for m in after.matches if m.certain} == {("x.alpha.weight",)}


def test_several_hints_can_be_given_as_one():
    old, new = ATTENTION["old"], ATTENTION["new"]
    said = "wq=q_proj and q_proj,k_proj: rows as stored"
    assert aligned(old, new, hints=said).ok
    with pytest.raises(TreealignError, match="cannot be used"):
        aligned(old, new, hints="wq=q_proj and wq=k_proj")


def test_rows_that_one_class_reads_are_one_question(monkeypatch):
    without(monkeypatch, "MusicGen")
    case = next(case for case in read_cases("originals", "musicgen_audiocraft__hf"))
    rows = [q for q in suggest(*case.trees()).questions if q.about == "rows"]
    assert [len(q.model) for q in rows] == [18]  # self-attention and cross-attention, q, k and v


def test_lists_for_the_same_reason_are_one_question_in_which_each_may_run_its_own_way():
    old, new = {}, {}
    for name, size in (("left", 4), ("right", 6)):
        old |= {f"{name}.lateral_{n}.{leaf}": (size,) for n in range(1, 5) for leaf in ("weight", "bias")}
        new |= {f"{name}.levels.{n}.inner.{leaf}": (size,) for n in range(4) for leaf in ("weight", "bias")}
    (order,) = [q for q in aligned(old, new).questions if q.about == "order"]
    assert len(order.model) == 16
    either = next(o for o in order.options if "reversed" in o.hint and "numbered" in o.hint)
    assert aligned(old, new, hints=either.hint).ok


def test_one_head_of_all_rows_is_no_arrangement_of_them():
    old = {f"layers.{i}.attn.qkv.weight": (96, 32) for i in range(2)}
    new = {f"layers.{i}.attention.query_key_value.weight": (96, 32) for i in range(2)}
    hints = [o.hint for q in aligned(old, new).questions for o in q.options]
    assert "query_key_value: rows by head of 16 in the model" in hints
    assert not any("by head of 32" in hint for hint in hints)


def test_the_heads_of_a_whole_may_stand_in_groups_that_share_keys():
    (case,) = (case for case in read_cases("originals", "gguf_falcon40b__hf"))
    told = tell(case)
    assert told.result == "solved"
    assert "query_key_value: rows by head of 8 in the model" in told.hints

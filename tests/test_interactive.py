"""`suggest --interactive`: what each key does, what a screen holds, and both at a real pseudo-terminal."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
from dialogues import CLEAR, ROOT, Asking, Option, Question, Terminal, plain, question
from hypothesis import given
from hypothesis import strategies as st

from treealign import ConversionMapping, KeyTree, suggest
from treealign.cli.interactive.dialogue import Dialogue
from treealign.cli.interactive.screen import columns_for, screen_lines
from treealign.cli.interactive.terminal import command_to_go_on, hold

NORM = {"norm.weight": (4,), "proj.weight": (8, 4)}
THREE = Asking((question("a"), question("b", "rows", 6), question("c")))


def after(keys, asking=THREE):
    """The dialogue after some keys."""
    dialogue = Dialogue(asking)
    for key in keys:
        dialogue = dialogue.press(key)
    return dialogue


# -- what each key does ------------------------------------------------------------------------------------------------


def test_questions_are_asked_in_their_order_until_none_is_open():
    dialogue, asked = Dialogue(THREE), []
    while dialogue.question is not None:
        asked.append(dialogue.question)
        dialogue = dialogue.press("1")
    assert (tuple(asked), dialogue.suggestion.hints) == (THREE.questions, ("a=0", "b=0", "c=0"))


def test_a_number_chooses_its_option():
    assert after("26").suggestion.hints == ("a=1", "b=5")


def test_n_is_none_of_these():
    assert after("n").suggestion.hints == ("old.a.weight=",)


def test_b_takes_an_answer_back_and_asks_again():
    assert after("12b") == after("1")
    assert after("12bb") == after("")


def test_b_takes_a_skip_back():
    assert after("sb") == after("")


def test_b_before_the_first_question_only_says_so():
    dialogue = after("b")
    assert (dialogue.question, dialogue.note) == (THREE.questions[0], "this is the first question")


def test_what_is_skipped_stays_open_and_is_not_asked_again():
    dialogue = after("s11")
    assert (dialogue.question, dialogue.suggestion.questions) == (None, THREE.questions[:1])


def test_q_keeps_what_was_answered():
    dialogue = after("1q")
    assert (dialogue.question, dialogue.suggestion.hints) == (None, ("a=0",))
    assert dialogue.press("1") == dialogue


def test_help_is_shown_until_any_key_and_answers_nothing():
    assert after("?").helping
    assert after("?1") == after("")


@pytest.mark.parametrize("key", ["3", "0", "7", "x", "N", "several", "\r", "²", "٢", ""])
def test_another_key_answers_nothing(key):
    dialogue = after([key])
    assert (dialogue.question, dialogue.answered) == (THREE.questions[0], 0)
    assert dialogue.note.startswith("no such key here: 1 to 2")


def test_an_answer_that_is_refused_is_no_answer_and_says_why():
    dialogue = after("12", replace(THREE, refused=frozenset({"b=1"})))
    assert (dialogue.question, dialogue.answered) == (THREE.questions[1], 1)
    assert dialogue.note == "that cannot be; two hints contradict each other; b=1"


def test_a_question_that_an_answer_does_not_settle_is_not_asked_for_ever():
    class Deaf(Asking):
        def answer(self, question, option):
            return self

    dialogue = after("1", Deaf(THREE.questions))
    assert (dialogue.question, dialogue.suggestion.hints) == (THREE.questions[1], ())


@given(st.lists(st.sampled_from([*"123456nbsq?x", "several"]), max_size=12))
def test_answers_and_open_questions_always_make_up_all_questions(keys):
    dialogue = after(keys)
    assert len(dialogue.suggestion.hints) == dialogue.answered == 3 - len(dialogue.suggestion.questions)
    assert dialogue.left == ("q" in keys and dialogue.left)


# -- what a screen holds -----------------------------------------------------------------------------------------------

LONG = tuple(
    f"model.language_model.layers.{i}.self_attn.some_projection_{n}.weight" for i in range(60) for n in "abcdefg"
)


class Match:
    def __init__(self, checkpoint, model):
        self.checkpoint, self.model = checkpoint, model


def wordy(options, words="the rows of each head stand one after the other "):
    made = tuple(Option(words * (at + 1), f"{LONG[at]}={LONG[-1]}", (Match(LONG, LONG),)) for at in range(options))
    return Question("names", LONG, LONG, made, "nothing in names or shapes tells one from the other; " * 9)


@pytest.mark.parametrize("options", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(80, 24), (80, 23), (120, 50), (60, 20), (40, 12)])
@pytest.mark.parametrize("keys", ["", "?", "x"])
def test_every_screen_fits_and_ends_with_the_keys(options, size, keys):
    lines = screen_lines(after(keys, Asking((wordy(options),))), *size)
    assert max(map(len, lines)) <= size[0]
    assert len(lines) <= size[1]
    assert keys == "?" or "q" in lines[-1].split()


def test_long_lists_of_keys_are_folded_and_cut_with_a_count():
    lines = screen_lines(after("", Asking((wordy(2),))), 80, 23)
    assert lines[2:5] == [
        "checkpoint  model.language_model.layers.{0..59…elf_attn.some_projection_a.weight",
        "            model.language_model.layers.{0..59…elf_attn.some_projection_b.weight",
        "            … and 300 more keys in 5 patterns",
    ]


def test_options_stand_side_by_side_and_their_hints_below_each_on_a_line_of_its_own():
    lines = screen_lines(Dialogue(THREE), 80, 23)
    at = next(n for n, line in enumerate(lines) if line.startswith("[1]"))
    assert [line.split() for line in lines[at : at + 5]] == [
        ["[1]", "best", "guess", "[2]"],
        ["a", "is", "0", "a", "is", "1"],
        [],
        ["hint", "1", "a=0"],
        ["hint", "2", "a=1"],
    ]


def test_options_show_what_they_match_and_others_do_not():
    both = Match(("c.0", "c.1"), ("d",))
    crossed = [[("a.0", f"{x}.0"), ("a.1", f"{x}.1"), ("b.0", f"{y}.0")] for x, y in (("x", "y"), ("y", "x"))]
    made = tuple(
        Option(at, "", (both, *(Match((c,), (m,)) for c, m in pairs))) for at, pairs in zip("12", crossed, strict=True)
    )
    lines = screen_lines(Dialogue(Asking((Question("names", ("a.0",), ("x.0",), made),))), 80, 23)
    at = next(n for n, line in enumerate(lines) if line.startswith("[1]"))
    assert [line.split() for line in lines[at + 2 : at + 6]] == [
        ["a.{0..1}", "a.{0..1}"],
        ["->", "x.{0..1}", "->", "y.{0..1}"],
        ["b.0", "b.0"],
        ["->", "y.0", "->", "x.0"],
    ]


def test_a_key_with_terminal_codes_does_not_reach_the_terminal():
    one = Question("names", ("a\x1b[31m\nb",), ("c",), (Option("x", "y"),))
    assert all(line.isprintable() for line in screen_lines(Dialogue(Asking((one,))), 80, 23))


@pytest.mark.parametrize(
    ("count", "width", "columns"), [(2, 80, 2), (3, 80, 3), (4, 80, 2), (6, 80, 3), (3, 50, 2), (2, 40, 1)]
)
def test_options_stand_in_as_many_columns_as_can_be_read(count, width, columns):
    assert columns_for(count, width) == columns


def test_an_option_about_names_shows_its_matches_and_does_not_say_them_twice():
    old = {f"{n}.weight": (4,) for n in ("ln_final", "ln_post")} | {"proj.weight": (8, 4)}
    asking = Dialogue(suggest(*(KeyTree.from_leaves([(k, s, "float32") for k, s in d.items()]) for d in (old, NORM))))
    lines = screen_lines(asking, 80, 23)
    assert sum(line.count("->") for line in lines) == len(asking.question.options)
    assert not any(line.startswith("^") for line in lines)


def test_screen_and_key_take_turns():
    keys, screens = iter("?x2s1"), []
    ended = hold(Dialogue(THREE), lambda: next(keys), screens.append)
    assert (ended.suggestion.hints, len(screens)) == (("a=1", "c=0"), 5)


@pytest.mark.parametrize("at", ["display", "read"])
def test_ctrl_c_at_any_time_keeps_what_was_answered_before_it(at):
    def interrupted(*_):
        raise KeyboardInterrupt

    keys = iter("1")
    once = Dialogue(THREE).press("1")
    ended = hold(once, interrupted if at == "read" else lambda: next(keys), interrupted if at == "display" else len)
    assert (ended.question, ended.suggestion.hints) == (None, ("a=0",))


def test_the_command_to_go_on_can_be_pasted():
    hints = ["a=b", "q proj: rows='half'"]
    words = shlex.split(command_to_go_on(["my file", "model.json", "-o", "m.json"], hints).replace("\\\n", ""))
    assert words == [
        "treealign",
        "suggest",
        "my file",
        "model.json",
        "-o",
        "m.json",
        "--hint",
        hints[0],
        "--hint",
        hints[1],
    ]


# -- at a terminal -----------------------------------------------------------------------------------------------------

ASK = (
    "import sys; from dialogues import Asking, question; from treealign.cli.interactive.terminal import ask; "
    "print('hints', *ask(Asking(tuple(map(question, 'abc')))).suggestion.hints)"
)


def test_a_person_at_a_terminal_answers_skips_goes_back_and_quits():
    with Terminal(["-c", ASK]) as terminal:
        for asked, key in (
            ("1 of 3", "2"),
            ("2 of 3", "s"),
            ("3 of 3", "b"),
            ("2 of 3", "\x1b[A"),
            ("2 of 3", "n"),
            ("3 of 3", "q"),
        ):
            terminal.wait_for(f"question {asked}")
            screen = plain(terminal.wait_for("? help ")).splitlines()
            assert max(map(len, screen)) <= 80
            terminal.press(key)
        status, rest = terminal.finish()
    assert status == 0
    assert plain(rest).splitlines()[-2:] == ["2 answers given, 1 question is open", "hints a=1 old.b.weight="]


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_quit_and_keep_what_was_answered(key):
    with Terminal(["-c", ASK]) as terminal:
        for asked, pressed in (("1 of 3", "1"), ("2 of 3", key)):
            terminal.wait_for(f"question {asked}")
            terminal.wait_for("? help ")
            terminal.press(pressed)
        status, rest = terminal.finish()
    assert (status, rest.splitlines()[-1]) == (0, "hints a=0")


def test_a_screen_of_80_by_24_is_never_scrolled():
    with Terminal(
        ["-c", ASK.replace("Asking(tuple(map(question, 'abc')))", "Asking((question('a', 'rows', 6),))")]
    ) as terminal:
        shown = terminal.wait_for("? help ").rpartition(CLEAR)[2]
        terminal.press("q")
        terminal.finish()
    assert shown.count("\n") < 24


def test_piped_input_is_refused_with_a_hint_before_anything_is_read():
    command = [sys.executable, "-m", "treealign.cli", "suggest", "absent", "absent", "--interactive"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, input="1\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --interactive asks at a terminal, and this is none\n  stdin is piped")
    assert "\nhint: run it without pipes" in done.stderr


# -- the verb itself, on real suggestions ------------------------------------------------------------------------------


@pytest.fixture
def sides(tmp_path):
    """Two trees of norms whose names say nothing: two questions."""
    for file, norms, tail in (("checkpoint", "ab", ("first", "second")), ("model", "xy", ("p", "q"))):
        keys = [f"layers.{i}.norm_{name}.weight" for i in range(2) for name in norms] + [
            f"tail.{n}.weight" for n in tail
        ]
        KeyTree.from_leaves([(key, (4,), "float32") for key in keys]).to_json(tmp_path / f"{file}.json")
    return tmp_path / "checkpoint.json", tmp_path / "model.json"


def asking(sides, *options):
    return Terminal(["-m", "treealign.cli", "suggest", *sides, "--interactive", *options], cwd=ROOT)


def pressed(terminal, keys):
    for key in keys:
        terminal.wait_for("? help ")
        terminal.press(key)
    return terminal.finish()


def test_answers_at_a_terminal_go_into_the_mapping_as_if_they_were_given_as_hints(sides, tmp_path):
    found = suggest(*sides)
    while found.questions:
        found = found.answer(found.questions[0], found.questions[0].options[1])
    with asking(sides, "-o", tmp_path / "mapping.json") as terminal:
        status, _ = pressed(terminal, "2" * len(found.hints))
    mapping = ConversionMapping.from_json(tmp_path / "mapping.json")
    assert (status, mapping) == (0 if found.ok else 1, found.mapping)
    assert mapping.answers == found.hints


def test_who_quits_keeps_the_answers_in_the_mapping_and_is_told_how_to_go_on(sides, tmp_path):
    found = suggest(*sides)
    known = found.answer(found.questions[0], found.questions[0].options[0])
    with asking(sides, "-o", tmp_path / "mapping.json") as terminal:
        status, shown = pressed(terminal, "1q")
    assert (status, ConversionMapping.from_json(tmp_path / "mapping.json")) == (1, known.mapping)
    command = shown.partition("to go on from here:\n")[2].partition("wrote")[0].replace("\\\n", "")
    given = [
        "--interactive",
        "-o",
        str(tmp_path / "mapping.json"),
        *(w for hint in known.hints for w in ("--hint", hint)),
    ]
    assert shlex.split(command) == ["treealign", "suggest", *map(str, sides), *given]


def test_going_on_asks_only_what_is_still_open(sides):
    found = suggest(*sides)
    known = found.answer(found.questions[0], found.questions[0].options[0])
    hints = [word for hint in known.hints for word in ("--hint", hint)]
    with asking(sides, *hints) as terminal:
        assert f"question 1 of {len(known.questions)} " in plain(terminal.wait_for("? help "))
        terminal.press("q")
        terminal.finish()


def test_none_of_these_makes_the_keys_missing_and_unexpected(sides, tmp_path):
    first = suggest(*sides).questions[0]
    with asking(sides, "-o", tmp_path / "mapping.json", "--json") as terminal:
        _, shown = pressed(terminal, "nq")
    told = json.loads(shown[shown.index("\n{\n") :])
    assert set(first.checkpoint) <= set(told["unexpected_keys"])
    assert set(first.model) <= set(told["missing_keys"])

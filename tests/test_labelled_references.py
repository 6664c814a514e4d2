"""Recall and precision of the scan on the references that a person labelled."""

from __future__ import annotations

from references import cases, score


def test_at_least_sixty_references_are_labelled_of_every_verdict():
    verdicts = [label[1] for case in cases() for label in case["labels"]]
    assert len(verdicts) >= 60
    assert min(verdicts.count(verdict) for verdict in ("stale", "holds", "lookalike")) >= 20
    assert verdicts.count("other") >= 3


def test_stale_references_are_found_and_little_else():
    figures = score()
    assert figures.recall >= 0.95, figures.faults
    assert figures.precision >= 0.98, figures.faults


def test_the_new_spelling_is_the_one_that_a_person_would_write():
    figures = score()
    assert figures.spelled_right >= 0.95 * figures.spelled, figures.faults


def test_references_that_nothing_was_tuned_on_are_found_and_little_else():
    figures = score("untuned")
    assert figures.labelled >= 300
    assert figures.recall >= 0.95, figures.faults
    assert figures.precision >= 0.98, figures.faults
    assert figures.spelled_right == figures.spelled, figures.faults

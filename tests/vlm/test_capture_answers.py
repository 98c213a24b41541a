"""Which first tokens tell choices apart, and what counts as the model's answer."""

from __future__ import annotations

import pytest
import torch

from vlm._answers import choice_tokens, first_tokens, read_answers


class Words:
    """A tokenizer that knows whole strings, and so shows what was asked of it."""

    unk_token_id = 0

    def __init__(self, **known):
        self.known = known

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return self.known.get(text.replace(" ", "_"), [self.unk_token_id])

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return " Two. " if int(ids[0]) == 7 else "something"


def test_both_ways_of_writing_count_where_both_tell_apart():
    tokenizer = Words(yes=[1], no=[2], _yes=[3], _no=[4, 9])
    assert choice_tokens(tokenizer, ["yes", "no"]) == [[1, 3], [2, 4]]


def test_a_leading_space_token_shared_by_all_does_not_count():
    # As sentencepiece has it: the space is a token of its own.
    tokenizer = Words(yes=[1], no=[2], _yes=[5, 1], _no=[5, 2])
    assert choice_tokens(tokenizer, ["yes", "no"]) == [[1], [2]]


@pytest.mark.parametrize(
    "known",
    [
        {"red": [1, 2], "reddish": [1, 3], "_red": [4, 2], "_reddish": [4, 3]},
        {"red": [1], "_red": [1]},
        {"red": [1], "reddish": [2], "_red": [2], "_reddish": [1]},
        {},
    ],
    ids=["same first token", "one is unknown", "one's way is the other's", "all unknown"],
)
def test_choices_that_first_tokens_do_not_tell_apart(known):
    assert choice_tokens(Words(**known), ["red", "reddish"]) is None


def test_a_single_choice_is_no_choice():
    tokenizer = Words(yes=[1], no=[2])
    records = [{"choices": ["yes"]}, {"choices": ["yes", "no"]}, {}]
    assert first_tokens(tokenizer, records) == [None, [[1], [2]], None]


def test_answers():
    tokenizer = Words()
    records = [
        {"choices": ["yes", "no"], "answer": "no"},
        {"choices": ["two", "three"], "answer": "three"},
        {"answer": ["2", "two"]},
        {},
    ]
    starts = [[[1, 3], [2]], None, None, None]
    first = torch.zeros(4, 9)
    first[0, 3], first[0, 2] = 2.0, 1.0  # the other way of writing "yes" wins
    new = torch.tensor([[8], [7], [7], [8]])
    assert read_answers(tokenizer, records, starts, first, new) == [
        {"prediction": "yes", "correct": False},
        {"prediction": "two", "correct": False},
        {"prediction": "Two.", "correct": True},
        {"prediction": "something"},
    ]

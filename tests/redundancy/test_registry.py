"""The file name is the registration."""

from __future__ import annotations

import pytest

from estimators import InputError
from redundancy import registry


def test_measures_are_the_public_files_of_their_folder():
    names = registry.names("measures")
    assert {"geometric", "proximal", "informational", "var", "cka"} <= set(names)
    assert not any(name.startswith("_") for name in names)


def test_a_typo_is_answered_with_what_was_meant():
    with pytest.raises(InputError) as caught:
        registry.load("measures", "informtional")
    text = str(caught.value)
    assert text.startswith("no measure named 'informtional'; have ")
    assert text.endswith("Did you mean 'informational'?")


def test_nonsense_gets_no_guess():
    with pytest.raises(InputError, match="have [^?]*$"):
        registry.load("measures", "xyzzy")


def test_a_path_is_not_a_name():
    with pytest.raises(InputError):
        registry.load("measures", "../run")
    with pytest.raises(InputError):
        registry.load("measures", "_spec")


def test_an_unknown_folder_is_named():
    with pytest.raises(InputError, match="no folder named 'measure'.*Did you mean 'measures'"):
        registry.names("measure")

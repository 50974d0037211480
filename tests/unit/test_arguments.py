"""Flags can be switched on and off, and what is no flag cannot."""

import pytest

from patchscout.arguments import parse_train
from patchscout.checks import InputValueError


def parsed(*options):
    return parse_train(["data", "--out", "run", *options]).settings


def test_a_flag_is_switched_off_and_on():
    assert parsed().reward.clone is True
    assert parsed("--reward.no-clone").reward.clone is False
    assert parsed("--sampler.labeled-in-pool").sampler.labeled_in_pool is True
    pool = parsed("--preset", "paper", "--sampler.no-labeled-in-pool").sampler.labeled_in_pool
    assert pool is False


def test_only_flags_can_be_negated():
    with pytest.raises(InputValueError, match="`--no-seed` is an unknown argument"):
        parsed("--no-seed", "3")
    with pytest.raises(InputValueError, match=r"did you mean '--reward\.no-clone'"):
        parsed("--reward.no-clon")

"""With VITRAL_TYPED=1 every signature of the package is checked as it is called."""

import os

import pytest
import torch
from einops import EinopsError
from jaxtyping import TypeCheckError

from vitral import Attention


def test_a_tensor_of_another_shape_is_refused_by_the_type_checker_in_the_typed_run():
    with pytest.raises(TypeCheckError if os.environ.get("VITRAL_TYPED") else EinopsError):
        Attention(4, 2)(torch.zeros(3, 4))

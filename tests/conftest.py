"""Every test: one thread, the same random numbers, no network."""

import os

if os.environ.get("VITRAL_TYPED"):
    from jaxtyping import install_import_hook

    install_import_hook("vitral", "beartype.beartype")  # before anything imports vitral

import random
import socket

import numpy as np
import pytest
import torch
from hypothesis import settings

from tiny import tiny_vit, with_record

# A hooked forward breaks graph capture, and a signature refuses a wrong type before Vitral can say what is wrong with
# it: these are tested in the plain run only.
PLAIN_ONLY = [
    "unit/test_choose_numerics.py",  # its models and data are stand-ins
    "unit/test_out_of_memory.py",  # so are these
    "laws/test_pillow_resize.py",  # the checker draws random numbers inside of its strategies
    "laws/test_compiled.py",
    "laws/test_exported.py",
    "laws/test_explain_refuses.py",
    "laws/test_wrong_kinds.py",
    "laws/test_code_generation.py",  # compiled code has no types to check
    "unit/test_task_refusals.py",
    "unit/test_doctests.py",  # examples give whole numbers for floats, as Python allows
]
collect_ignore = PLAIN_ONLY if os.environ.get("VITRAL_TYPED") else []

settings.register_profile("vitral", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("vitral")
torch.set_num_threads(1)

LOCAL = ("127.0.0.1", "::1", "localhost")


class NetworkUsed(AssertionError):
    """A test tried to leave this machine."""


def guarded(connect):
    def connect_here(self, address):
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            raise NetworkUsed(f"A test tried to reach {address}.")
        return connect(self, address)

    return connect_here


@pytest.fixture(scope="session", autouse=True)
def no_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        resolve = socket.getaddrinfo

        def getaddrinfo(host, *args, **kwargs):
            if host not in (*LOCAL, None):
                raise NetworkUsed(f"A test tried to look up {host!r}.")
            return resolve(host, *args, **kwargs)

        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Decoded images go to a folder of the tests, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from the global generator
    torch.manual_seed(0)


@pytest.fixture
def vit():
    """A tiny ViT on a grid of 2 x 3, every parameter drawn anew: see `tiny.redraw`."""
    return tiny_vit()


@pytest.fixture
def labelled(vit):
    """The tiny ViT with classes and preprocessing, as a trained one has."""
    return with_record(vit)


@pytest.fixture
def images(vit):
    """Two images as the tiny ViT takes them."""
    return torch.randn(2, 3, *vit.patch_embed.img_size)


# The files of `tests/parity` whose results `docs/weights.md` is made of, and the one that holds the two together.
WEIGHTS = ("test_google", "test_resample", "test_weights_")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """On several cores a file stays on one, and so do the files whose results one table of the docs is made of."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "weights" if file.rpartition("/")[2].startswith(WEIGHTS) else file

    return ByFile(config, log)

"""Steps that do not fit into memory: refused before only where that is certain, named with a batch that fits."""

import pytest
import torch

import vitral
from vitral.base.numerics import Numerics
from vitral.data.spec import find_data
from vitral.training import out_of_memory
from vitral.training.out_of_memory import OutOfMemory, memory_named, refuse_what_cannot_fit, what_fits
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe

CPU = Numerics("cpu", "float32", False, "")
GB = 10**9


@pytest.fixture(scope="module")
def tiny():
    data = find_data("shapes:n=64,size=16")
    torch.manual_seed(0)
    model = vitral.create("vit_nano_patch4_32", num_classes=8, img_size=16)
    return model, data, Recipe(data="shapes:n=64,size=16", model="vit_nano_patch4_32", batch_size=64)


@pytest.fixture
def machine(monkeypatch):
    """A machine with so much memory, so much of it free, and so many bytes for a step on some images."""

    def make(limit, free, step_bytes=None):
        monkeypatch.setattr(out_of_memory, "total_memory", lambda: limit)
        monkeypatch.setattr(out_of_memory, "available_memory", lambda: free)
        monkeypatch.setattr(out_of_memory, "free_memory", lambda numerics: free)
        monkeypatch.setattr(out_of_memory, "largest_batch", lambda *given: (16, 1e6))
        monkeypatch.setattr(out_of_memory, "is_taken", lambda *given: True)
        if step_bytes:
            monkeypatch.setattr(out_of_memory, "step_bytes", lambda *given: step_bytes(given[-1]))

    return make


def test_a_step_that_certainly_does_not_fit_is_refused_before_it_is_taken(tiny, machine):
    machine(10**6, 5 * 10**5)
    notes = []
    with pytest.raises(OutOfMemory, match=r"A step on 64 images.*the limit is 1\.0 MB.*16 images fits"):
        refuse_what_cannot_fit(*tiny, CPU, notes.append)
    assert notes == []


def test_a_step_that_may_not_fit_is_taken_with_a_warning_and_others_without(tiny, machine):
    notes = []
    machine(4 * 10**8, 10**6)  # 16 · 16 · 12 · 64 · 5,000 bytes are more
    refuse_what_cannot_fit(*tiny, CPU, notes.append)
    (note,) = notes
    assert note.startswith("warning: a step on 64 images of 16x16") and "only 1.0 MB is free" in note
    machine(4 * 10**8, 3 * 10**8)
    refuse_what_cannot_fit(*tiny, CPU, notes.append)
    assert len(notes) == 1


def test_a_model_of_the_users_own_is_not_refused(tiny, machine, monkeypatch):
    """It may compute many images in parts: by 2 and 4 images it would need 64 GB, and it needs 16."""
    model, data, recipe = tiny
    machine(10**8, 10**8, lambda images: GB * min(images, 16))
    with pytest.raises(OutOfMemory):
        refuse_what_cannot_fit(model, data, recipe, CPU, pytest.fail)
    monkeypatch.setattr(model, "code", {"file": "own.py", "name": "Own"}, raising=False)
    notes = []
    refuse_what_cannot_fit(model, data, recipe, CPU, notes.append)
    assert "takes about 64.0 GB of memory, and only 100 MB is free" in notes[0]


@pytest.mark.parametrize("error", [ValueError("two images"), RuntimeError("a batch of 64 is needed")])
def test_a_model_that_does_not_take_few_images_is_left_alone(tiny, machine, error):
    def fails(images):
        raise error

    machine(10**6, 10**5, fails)
    refuse_what_cannot_fit(*tiny, CPU, pytest.fail)


def test_a_system_that_does_not_say_refuses_nothing(tiny, machine):
    machine(None, None)
    refuse_what_cannot_fit(*tiny, CPU, pytest.fail)


@pytest.mark.parametrize("is_new", [True, False])
def test_the_message_says_what_was_asked_what_there_is_and_what_to_do(tiny, machine, is_new):
    machine(GB, 9 * 10**7)
    with pytest.raises(OutOfMemory) as found, memory_named(*tiny, CPU, number=3, is_new=is_new):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
    text = str(found.value)
    assert text.startswith(
        "Step 3 ran out of memory: 64 images of 16x16 at once through vit_nano_patch4_32, in float32"
    )
    assert "with 90 MB free" in text
    if is_new:
        assert "16 images fits (tried): use --accumulate 4" in text and "or --batch-size 16." in text
    else:
        assert "Earlier steps of the run fitted into memory" in text and "--resume" in text and "--batch" not in text


def test_other_errors_pass(tiny):
    with pytest.raises(RuntimeError, match="shapes"), memory_named(*tiny, CPU):
        raise RuntimeError("shapes do not match")


def test_several_processes_are_advised_on_all_their_images(tiny, machine):
    machine(GB, GB)
    two = Processes()
    two.size = 2
    text = what_fits(*tiny, CPU, two, 64, 32)
    assert "use --batch-size 32, or more processes" in text and "--accumulate" not in text


def test_accumulating_is_not_advised_where_the_images_alone_do_not_fit(tiny, machine, monkeypatch):
    machine(GB, GB)
    tried = []
    monkeypatch.setattr(out_of_memory, "is_taken", lambda *given: tried.append(given[-2:]))
    assert what_fits(*tiny, CPU, ALONE, 64, 64).endswith("fits (tried): use --batch-size 16.")
    assert tried == [(64, 4)]


def test_where_nothing_fits(tiny, machine, monkeypatch):
    machine(GB, GB)
    monkeypatch.setattr(out_of_memory, "largest_batch", lambda *given: (0, 3e9))
    assert "about 3.0 GB in a step, and not even one fits. Use a smaller --img-size" in what_fits(
        *tiny, CPU, ALONE, 64, 64
    )


def test_the_tensors_of_the_failed_step_are_freed_before_others_are_tried(tiny, monkeypatch):
    """They hang from the frames of the error."""
    from weakref import ref

    held = []

    def fails():
        images = torch.ones(1000)
        held.append(ref(images))
        raise MemoryError

    monkeypatch.setattr(out_of_memory, "what_fits", lambda *given: str(held[0]() is None))
    with pytest.raises(OutOfMemory, match=r"\. True$"), memory_named(*tiny, CPU):
        fails()

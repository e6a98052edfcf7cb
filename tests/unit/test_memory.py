"""How much memory there is, by the system's files, and what a training step takes of it."""

from dataclasses import replace

import torch

import vitral
from vitral.base import memory as system
from vitral.base.memory import is_out_of_memory
from vitral.base.numerics import Numerics
from vitral.data.spec import find_data
from vitral.training import memory
from vitral.training.memory import TensorBytes, largest_batch, step_bytes
from vitral.training.recipe import Recipe

CPU = Numerics("cpu", "float32", False, "")
GB = 10**9


def files(monkeypatch, tmp_path, **contents):
    """A system whose files have these contents; `__` in a name is a slash, and the rest of /proc is empty."""
    for name, content in contents.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(system, "PROC", tmp_path / "proc")
    v1, v2 = system.FILES["memory"][1:], system.FILES[""][1:]
    groups = tmp_path / "groups"
    monkeypatch.setattr(system, "FILES", {"memory": (groups / "memory", *v1), "": (groups, *v2)})
    monkeypatch.setattr(system, "address_space", list)


MACHINE = (
    "MemTotal:       16000000 kB\nMemFree: 5 kB\nMemAvailable:    9000000 kB\nSwapTotal: 1000000 kB\nHugePages: 0\n"
)


def test_the_machine_itself(monkeypatch, tmp_path):
    files(monkeypatch, tmp_path, proc__meminfo=MACHINE, proc__self__status="Name:\tx\nVmHWM:\t  2000 kB\n")
    assert system.total_memory() == 17_000_000 * 1024 and system.available_memory() == 9_000_000 * 1024
    assert system.peak_resident() == 2_048_000


def test_a_control_group_of_version_2_and_the_group_above_it(monkeypatch, tmp_path):
    files(
        monkeypatch,
        tmp_path,
        proc__meminfo=MACHINE,
        proc__self__cgroup="0::/jobs/one\n",
        groups__jobs__one__x="",
    )
    one, jobs = tmp_path / "groups/jobs/one", tmp_path / "groups/jobs"
    for folder, limit, used in ((one, "max", 3 * GB), (jobs, str(8 * GB), 5 * GB)):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {GB}\n")
    assert system.total_memory() == 8 * GB + 1_000_000 * 1024
    assert system.available_memory() == 8 * GB - (5 * GB - GB)  # cached files make room


def test_a_control_group_of_version_1(monkeypatch, tmp_path):
    files(monkeypatch, tmp_path, proc__meminfo=MACHINE, proc__self__cgroup="9:name=systemd:/\n4:memory:/\n")
    group = tmp_path / "groups/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(str(2 * GB))
    (group / "memory.usage_in_bytes").write_text(str(GB))
    assert system.total_memory() == 2 * GB + 1_000_000 * 1024 and system.available_memory() == GB


def test_a_limit_on_the_address_space(monkeypatch, tmp_path):
    files(monkeypatch, tmp_path, proc__meminfo=MACHINE)
    monkeypatch.setattr(system, "address_space", lambda: [3 * GB])
    assert system.total_memory() == 3 * GB


def test_a_system_that_does_not_say(monkeypatch, tmp_path):
    files(monkeypatch, tmp_path)
    assert system.total_memory() is None and system.available_memory() is None


def test_the_bytes_of_tensors_that_live_at_once_are_counted():
    with TensorBytes() as counter:
        one = torch.ones(1000)
        two = one * 2  # 8,000 bytes
        assert (counter.now, counter.peak) == (8000, 8000)
        view = two[10:]  # none
        del one
        assert (counter.now, counter.peak) == (4000, 8000)
        del two
        assert counter.now == 4000  # the view holds it
        del view
        assert (counter.now, counter.peak) == (0, 8000)
        torch.ones(3000).add_(1)
    assert (counter.now, counter.peak) == (0, 12_000)


def test_what_autograd_keeps_is_counted():
    weight = torch.ones(100, 100, requires_grad=True)
    with TensorBytes() as counter:
        x = torch.ones(50, 100)
        y = (x @ weight).relu().sum()
        kept = counter.now
        y.backward()
    assert kept >= 2 * 50 * 100 * 4 and counter.peak >= kept + 100 * 100 * 4


def tiny():
    data = find_data("shapes:n=32,size=16")
    torch.manual_seed(0)
    model = vitral.create("vit_nano_patch4_32", num_classes=8, img_size=16)
    return model, data, Recipe(data="shapes:n=32,size=16", model="vit_nano_patch4_32", batch_size=32)


def test_a_step_takes_as_many_bytes_more_for_each_image_and_leaves_the_model_alone():
    model, data, recipe = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    few, more, most = (step_bytes(model, data, recipe, CPU, images) for images in (2, 4, 32))
    per = (more - few) / 2
    # Less than all that the blocks keep would be wrong; so would much more.
    assert per > 17 * 64 * 4 * 10
    assert abs(few + 30 * per - most) < 0.15 * most
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_largest_batch_is_one_that_was_taken(monkeypatch):
    model, data, recipe = tiny()
    taken = []

    def step(model, data, recipe, numerics, images, parts=1):
        taken.append(images)
        if images > 5:
            raise MemoryError
        return 1e6 + 1e5 * images

    monkeypatch.setattr(memory, "step_bytes", step)
    monkeypatch.setattr(memory, "free_memory", lambda numerics: GB)
    assert largest_batch(model, data, recipe, CPU, 32) == (2, 1e5)  # on a CPU there is room for twice as many
    assert taken == [2, 4, 32, 16, 8, 4]
    assert largest_batch(model, data, recipe, replace(CPU, device="cuda"), 32) == (4, 1e5)
    monkeypatch.setattr(memory, "free_memory", lambda numerics: int(2e6))
    assert largest_batch(model, data, recipe, CPU, 32)[0] == 2  # 0.8 of 2 MB less 1 MB: 6 images
    monkeypatch.setattr(memory, "free_memory", lambda numerics: 1000)
    assert largest_batch(model, data, recipe, CPU, 32) == (0, 1e5)
    monkeypatch.setattr(memory, "free_memory", lambda numerics: None)
    assert largest_batch(model, data, recipe, CPU, 32) == (0, 0.0)


def test_which_errors_say_that_memory_ran_out():
    cpu = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError(cpu),
        RuntimeError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA"),
    ):
        assert is_out_of_memory(error)
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("bad_alloc"), KeyError("x")):
        assert not is_out_of_memory(error)

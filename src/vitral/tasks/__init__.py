"""What each verb of the command line does, as a function with a typed result, such as `vitral.train(...)`.

A task takes plain values and a model (a path or name, or an `nn.Module`), prints nothing, and reports what it does to
its `progress` (see `tasks.progress`).
"""

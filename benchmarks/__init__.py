"""Every number in the documentation, made by a command: `make bench`, or `python -m benchmarks NAME...` for some.

A file each; its `run()` returns a record, which is written to `results/NAME.json` with the machine and the versions.
"""

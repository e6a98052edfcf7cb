"""Ways of running a model on this machine, and how fast each is: what `vitral bench` measures."""

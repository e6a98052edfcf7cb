"""Ways of running a model without the seconds that a process of its own takes to start."""

from vitral.exporting.speed.process import WayFailed
from vitral.exporting.speed.worker import Worker, describe


class InProcess:
    """In the place of `WayProcess`: the same commands, in this process."""

    def __init__(self, way, setup):
        self.worker = Worker(way, **vars(setup))

    def ask(self, command, **settings):
        try:
            return getattr(self.worker, command)(**settings)
        except Exception as error:  # as `WayProcess`: a way that fails is a line with its reason
            raise WayFailed(describe(error)) from error

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

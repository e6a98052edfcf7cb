"""What shows that an option of a verb works: enrolled by `@effect(verb, option)`."""

EFFECTS = {}


def effect(verb, option):
    """Enrol what shows that an option works."""

    def enrol(shows):
        EFFECTS[verb, option] = shows
        return shows

    return enrol

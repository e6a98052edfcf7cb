"""Running studies: which runs there are, in which processes they run, and the records that are kept of them."""

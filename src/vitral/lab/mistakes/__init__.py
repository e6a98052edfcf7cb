"""What goes wrong at each station, as small implementations with a name each."""

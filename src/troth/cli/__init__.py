"""The command line: one thin file a verb. Parts are imported where a verb runs, so that `troth --help` is at once."""

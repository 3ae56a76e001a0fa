"""Errors that a user can mend: the command line prints them as one line and exits with status 2."""


class DataError(ValueError):
    """A data set or one of its files is not what its description says; the message names the file and the value."""


class ConfigError(ValueError):
    """A configuration key or value is wrong; the message names the key, what was found and what is wanted."""

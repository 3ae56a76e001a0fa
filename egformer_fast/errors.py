"""Errors that a user can mend, and how they show a value: the command line prints one line and exits with status 2."""


class DataError(ValueError):
    """A data set or one of its files is not what its description says; the message names the file and the value."""


class ConfigError(ValueError):
    """A configuration key or value is wrong; the message names the key, what was found and what is wanted."""


def as_yaml(value: object) -> str:
    """A value read from YAML, as it stands there: null, true and false; text in quotes."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)

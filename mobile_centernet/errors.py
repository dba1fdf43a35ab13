"""Errors that the user can mend. Commands print them as one sentence, without a traceback, and exit 2."""


class UserError(Exception):
    """Something outside the code is wrong. The message names the item, what was expected and what was found."""


class DataError(UserError):
    """A data set, image or label cannot be used as a whole; single bad items become findings instead."""


class ModelError(UserError):
    """A model file, its classes or its shape do not fit what is asked of it."""

"""What went wrong, in words for whoever can mend it."""


class UsageError(Exception):
    """The caller can mend this: what was given, what is wrong with it, what to do.

    One line. The command line prints it and exits with 2, before any work is done.
    """

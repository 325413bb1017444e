"""What the readers of all kinds of files share."""


class UnreadableError(Exception):
    """Raised if a file is left out; the text is the reason."""

"""Command line: ``python -m aifs_tune``."""

from aifs_tune.cli.main import main

main()

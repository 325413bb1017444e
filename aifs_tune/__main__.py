"""Entry point of ``python -m aifs_tune``, the command line."""

from aifs_tune.cli.main import main

main()

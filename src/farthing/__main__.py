"""`python -m farthing` is the command `farthing`."""

from farthing.cli.app import main

main()

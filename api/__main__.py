"""`python -m glossator VERB`: the command, where no `glossator` is on the path."""

from glossator.pipeline.cli import main

main()

"""`python -m glossator.pipeline` is `glossator label`: what templates and schedulers call."""

from glossator.pipeline.cli import label, main

if __name__ == "__main__":
    main(command=label)

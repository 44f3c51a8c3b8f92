"""What is checked of a run that is whole, before it is published: write, audit, publish."""

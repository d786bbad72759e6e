"""What ``make deploy-check`` checks, a module for each kind of question."""

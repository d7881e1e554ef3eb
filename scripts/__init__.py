"""Tools that a person or a workflow runs."""

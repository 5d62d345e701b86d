"""What can stop a benchmark. One error type: it is always shown to the person who started the run, never handled."""


class BenchProblem(Exception):
    """The run cannot go on; the text says what happened, where, and what to do."""

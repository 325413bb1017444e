"""The parts of the benchmark of search: tables, virtual time, our search and its rivals."""

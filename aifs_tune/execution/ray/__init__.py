"""Ray: clusters, jobs, Tune's searchers, schedulers and trainables."""

"""Scripts that a target's own interpreter runs. They import nothing of sglperf."""

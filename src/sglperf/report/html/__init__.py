"""The page that shows a run or a bisection, in one file that needs nothing else."""

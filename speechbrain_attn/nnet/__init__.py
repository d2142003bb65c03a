"""Network parts that know torch and nothing else."""

"""The benchmark: jobs in processes of their own, one CSV file of results, one table made of it."""

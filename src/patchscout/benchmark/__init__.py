"""The benchmark: jobs in processes of their own, raw results, tables and plots made of them."""

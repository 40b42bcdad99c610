"""Reference execution of graphs and comparison of results."""

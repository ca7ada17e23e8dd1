"""What a person sees of a run in a notebook: the history as a table, a chart that grows, the page."""

"""Parts of compare_forecasts.py: which rows are compared and how, and the tables of the page."""

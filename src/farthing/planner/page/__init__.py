"""The report of a plan as one page: words, figures, bars and tables as HTML, in English and Chinese.

Standard library only: the command line and the server write the same page. Knows no flags; what it shows is
planner/page/report_page.py's.
"""

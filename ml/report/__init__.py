"""reports/report.html: all that the pipeline found, in one page that needs nothing but itself."""

"""The film of a rehearsal: a browser window that shows a terminal and the servers' pages."""

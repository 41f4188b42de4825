"""How a report is drawn: tables and words made once, then the terminal, Markdown and HTML."""

"""``ml/report.html``: what every experiment knows, beside what it must beat, on one page that needs no network."""

"""What people read of a run: ``report.html``, and the sentences that the terminal prints too.

``RunResult`` flows in, text and one page without other files flow out. ``findings`` writes what was
found as sentences, ``quantities`` writes numbers; ``page.render`` writes the page.
``changes`` tells a comparison of two builds; ``junit`` is one in the form that CI systems read.
"""

__all__ = [
    "changes",
    "dims",
    "findings",
    "junit",
    "next_commands",
    "page",
    "power",
    "quantities",
]

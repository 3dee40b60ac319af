"""What comes from others: intermediate representations that are checked before they are used."""

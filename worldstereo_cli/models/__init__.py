"""Networks and the protocols that hide which one is used."""

"""A scene as a whole: which stages run, in which order, and what they leave."""

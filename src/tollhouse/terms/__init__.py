"""The vocabulary of the house. Imports nothing of ours; everything else speaks in these words."""

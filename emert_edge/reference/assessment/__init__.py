"""How good a model is, and how sure that is: predictions, protocols, splits, metrics, temperature, report.

Nothing here trains: whoever cross-validates brings a function that does.
"""

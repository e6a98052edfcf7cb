"""Named recipes: settings that go together, one file each; docs/how-to/recipes.md has the reasons and the results.

What a recipe does not set follows from the data, and options that are given take precedence over it.
"""

"""Named wrong answers: one function per mistake, declared with `@mistake`, whose docstring is its name and question."""

"""The right answer of each station. A start file is the same file without the code below each `# Yours: ` comment."""

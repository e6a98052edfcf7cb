"""One answer to each station. A start file is the same file without what follows each `# Yours: `."""

"""What is asked of each station's answer."""

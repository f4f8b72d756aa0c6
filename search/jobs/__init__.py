"""What the commands other than the search do: profile, few-shot, compare, inspect."""

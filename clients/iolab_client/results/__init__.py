"""What a load came to: the schema, the verdict, the summary of a run, and its folder."""

"""The load of every pod as this replica sees it. In memory only."""

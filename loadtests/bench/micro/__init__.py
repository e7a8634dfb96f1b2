"""What each part costs by size: `bench_*.py` measure, `report.py` makes the page. Not part of the tests."""

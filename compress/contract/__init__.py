"""What every target promises, as tests: `pytest --pyargs compress.contract` runs them on the targets that other distributions
register by entry points, tests/targets/test_contract.py on those of this toolkit. docs/extending.md is the guide.
"""

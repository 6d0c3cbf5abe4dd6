"""The tests of the conformance suite, one module for each part of the contract."""
